"""Audits of a trained model: does anything reach a prediction that it cannot know yet?

They go through `gainakt.evaluation.protocol.predict`, as an evaluation does, and change the data
that it reads. What each can and cannot catch stands in its docstring.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gainakt.arrays import BoolArray, IntArray
from gainakt.data.interactions import Dataset
from gainakt.data.pooling import first_rows
from gainakt.data.rows import Rows
from gainakt.evaluation.predictor import Predictor
from gainakt.evaluation.protocol import OF_QUESTION, predict
from gainakt.evaluation.within import within_figures
from gainakt.seeds import Stream

# A change of a stated probability or mastery under this is rounding: another length of history
# makes other batches, which add up in another order.
ROUNDING = 1e-4
# Within skills, shuffled answers may be told apart by so much more than chance.
SHUFFLED_MARGIN = 0.01
SAMPLES = 200
_STATED = ("probability", OF_QUESTION, "mastery")

Table = Mapping[str, npt.NDArray[Any]]


class Outcome(StrEnum):
    """What an audit comes to."""

    PASS = "PASS"
    FAIL = "FAIL"
    NOT_APPLICABLE = "NOT APPLICABLE"


@dataclass(frozen=True)
class Finding:
    """What an audit found: its outcome, the figures behind it, and what they mean in a sentence."""

    audit: str
    outcome: Outcome
    meaning: str
    figures: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return asdict(self) | {"outcome": str(self.outcome)}


def predicted(predictor: Predictor, dataset: Dataset, students: IntArray) -> dict[str, Any]:
    """Return the table of predictions of students (n,) as arrays by column."""
    tables = [table for _, table in predict(predictor, dataset, students)]
    joined = pa.concat_tables(tables)
    return {name: joined[name].to_numpy() for name in joined.column_names}


def causality(predictor: Predictor, dataset: Dataset, students: IntArray, seed: int) -> Finding:
    """Change all that comes later, and look that no earlier prediction moves.

    A moment is drawn for each student. From its answer on, once every answer, and after it every
    skill, question and time are changed, and once the history ends there. What is predicted up to
    that answer, itself included, must not move. It catches whatever flows back within a student's
    history, the length of the history included, and what flows between students who are read
    together. It does not catch what a model has learnt of these students before.

    Args:
        predictor: what reads the histories.
        dataset: with any codes of its skills.
        students: (n,) indices, of histories of at least 3 answers as a rule.
        seed: of the moments and changes.
    """
    rng = Stream.AUDIT.generator(seed)
    part, moment = _with_moments(dataset, students, rng)
    if not len(part.student_ids):
        return _none("causality", "no student has three answers")
    everyone = np.arange(len(part.student_ids))
    before = predicted(predictor, part, everyone)
    owner = np.repeat(everyone, np.diff(part.offsets))
    order = part.rows.order
    at, later = order == moment[owner], order > moment[owner]
    changed = predicted(predictor, replace(part, rows=_altered(part, at, later, rng)), everyone)
    kept = np.flatnonzero(~later)
    offsets = np.append(0, np.cumsum(np.bincount(owner[kept], minlength=len(everyone))))
    cut = replace(part, rows=part.rows.take(kept), offsets=offsets, origin=None)
    shortened = predicted(predictor, cut, everyone)
    place = np.array([np.searchsorted(order[a:b], m, "right") for a, b, m in _spans(part, moment)])
    ids = {name: i for i, name in enumerate(part.student_ids)}
    whose = np.array([ids[name] for name in before["student"].tolist()])
    early = before["position"] < place[whose]
    whose_cut = np.array([ids[name] for name in shortened["student"].tolist()])
    # a history that ends there has the same rows up to there
    until = shortened["position"] < place[whose_cut]
    moves = {
        "when what comes later is changed": _largest_move(before, early, changed, early),
        "when nothing comes later": _largest_move(before, early, shortened, until),
    }
    largest = max(moves.values())
    good = largest <= ROUNDING
    return Finding(
        "causality",
        Outcome.PASS if good else Outcome.FAIL,
        f"Of {int(early.sum()):,} predictions for {len(everyone):,} students, none moves when what "
        "comes after them changes."
        if good
        else "Predictions move when answers change that come later: the model reads the future, or "
        f"the very answer that it predicts (largest move of a probability {largest:.4f}).",
        {"largest_move": largest, "moves": moves, "predictions": int(early.sum())},
    )


def sibling_skills(
    predictor: Predictor, dataset: Dataset, students: IntArray, seed: int
) -> Finding:
    """Change the answer to a question with several skills, and look at its own predictions.

    The skills of a question share one answer, so a model that has read the row of the first skill
    knows the answer to the others. Neither what is predicted at the question's first skill nor the
    mean over its skills may move. It catches a leak among the rows of a question alone; causality
    sees it too where it draws such a question.
    """
    first = first_rows(dataset.rows.order, dataset.offsets)
    several = np.append(~first[1:], False) & first
    rng = Stream.AUDIT.generator(seed, 1)
    # a student's first answer is not predicted
    several[dataset.offsets[:-1][dataset.offsets[:-1] < len(several)]] = False
    chosen, orders = [], []
    for student in students.tolist():
        span = slice(int(dataset.offsets[student]), int(dataset.offsets[student + 1]))
        rows = np.flatnonzero(several[span])
        if len(rows):
            chosen.append(student)
            orders.append(int(dataset.rows.order[span][rng.choice(rows)]))
    if not chosen:
        return _none("sibling skills", "no question has several skills")
    part, moment = dataset.part(np.array(chosen)), np.array(orders)
    everyone = np.arange(len(chosen))
    owner = np.repeat(everyone, np.diff(part.offsets))
    at = part.rows.order == moment[owner]
    flipped = np.where(at, 1 - part.rows.response, part.rows.response).astype(np.int8)
    before = predicted(predictor, part, everyone)
    changed = replace(part, rows=part.rows.replace(response=flipped))
    after = predicted(predictor, changed, everyone)
    place = np.array([np.searchsorted(part.rows.order[a:b], m) for a, b, m in _spans(part, moment)])
    ids = {name: i for i, name in enumerate(part.student_ids)}
    whose = np.array([ids[name] for name in before["student"].tolist()])
    own = before["position"] == place[whose]
    largest = _largest_move(before, own, after, own)
    good = largest <= ROUNDING
    return Finding(
        "sibling skills",
        Outcome.PASS if good else Outcome.FAIL,
        f"The predictions for {int(own.sum()):,} questions with several skills do not read the "
        "questions' own answer."
        if good
        else "Predictions for a question with several skills move with the question's own answer "
        f"(largest move of a probability {largest:.4f}): one skill tells the answer to another.",
        {"largest_move": largest, "questions": int(own.sum())},
    )


def shuffled_answers(
    predictor: Predictor, dataset: Dataset, students: IntArray, seed: int
) -> Finding:
    """Shuffle all answers within skills, let the model read them, and look whether it knows them.

    Then the past says nothing of the next answer but its skill, so that within a skill right and
    wrong answers must look alike: AUC .5. More than that is a path from an answer into its own
    prediction, in the model or in how it is read, however the model was trained. It has power for
    leaks too rare or too small for the sample of causality, as all students are read. It has none
    for what was memorised of these students, whose answers are other ones now; duplicates and the
    margin over the baseline are there for that.
    """
    part = dataset.part(students)
    everyone = np.arange(len(students))
    begin = np.flatnonzero(first_rows(part.rows.order, part.offsets))
    rng = Stream.AUDIT.generator(seed, 2)
    answers, skills = part.rows.response[begin].copy(), part.rows.skill[begin]
    shuffled = np.empty_like(answers)
    by_skill = np.argsort(skills, kind="stable")
    drawn = np.lexsort((rng.random(len(skills)), skills))
    shuffled[by_skill] = answers[drawn]
    width = np.diff(begin, append=len(part.rows))
    rows = part.rows.replace(response=shuffled.repeat(width).astype(np.int8))
    table = predicted(predictor, replace(part, rows=rows), everyone)
    student, skill, answer = table["student"], table["skill"], table["answer"]
    probability = table[headline_column(table)]
    figure = within_figures(student, skill, answer, probability, SAMPLES, seed)["skill"]
    if figure.value is None or figure.low is None:
        return _none("shuffled answers", "no skill has right and wrong answers")
    good = figure.low <= 0.5 + SHUFFLED_MARGIN
    interval = f"{figure.value:.4f}, 95% [{figure.low:.4f}, {figure.high:.4f}]"
    return Finding(
        "shuffled answers",
        Outcome.PASS if good else Outcome.FAIL,
        f"Answers shuffled within skills cannot be predicted: AUC within skills {interval}."
        if good
        else f"Answers shuffled within skills are predicted, AUC within skills {interval}: an "
        "answer reaches its own prediction.",
        {"auc_within_skills": figure.value, "low": figure.low, "high": figure.high},
    )


def headline_column(columns: Collection[str]) -> str:
    """Return the column of the official figure: of questions where they have several skills."""
    return OF_QUESTION if OF_QUESTION in columns else "probability"


def _none(audit: str, why: str) -> Finding:
    return Finding(audit, Outcome.NOT_APPLICABLE, f"There is nothing to look at: {why}.", {})


def _spans(part: Dataset, moment: IntArray) -> list[tuple[int, int, int]]:
    bounds = part.offsets.tolist()
    return list(zip(bounds[:-1], bounds[1:], moment.tolist(), strict=True))


def _with_moments(
    dataset: Dataset, students: IntArray, rng: np.random.Generator
) -> tuple[Dataset, IntArray]:
    """The students with three answers and more, and a moment of each with answers on both sides."""
    chosen, moments = [], []
    for student in students.tolist():
        begin, end = int(dataset.offsets[student]), int(dataset.offsets[student + 1])
        orders = np.unique(dataset.rows.order[begin:end])
        if len(orders) >= 3:
            chosen.append(student)
            moments.append(int(orders[rng.integers(1, len(orders) - 1)]))
    return dataset.part(np.array(chosen, np.int64)), np.array(moments, np.int64)


def _altered(part: Dataset, at: BoolArray, later: BoolArray, rng: np.random.Generator) -> Rows:
    """Rows with every answer flipped from `at` on, and skill, question and time others after it."""
    rows = part.rows
    n_skills = len(part.vocabulary.skills)
    columns: dict[str, Any] = {
        "response": np.where(at | later, 1 - rows.response, rows.response).astype(np.int8)
    }
    step = rng.integers(1, max(n_skills, 2), len(rows))
    columns["skill"] = np.where(later, (rows.skill + step) % n_skills, rows.skill).astype(np.int32)
    if rows.question is not None:
        drawn = rng.integers(0, part.vocabulary.n_questions + 1, len(rows))
        columns["question"] = np.where(later, drawn, rows.question).astype(np.int32)
    if rows.time is not None:
        columns["time"] = np.where(later, rows.time + rng.integers(1, 10**9), rows.time)
    return rows.replace(**columns)


def _largest_move(a: Table, of_a: BoolArray, b: Table, of_b: BoolArray) -> float:
    """The largest difference of what two tables state of the same predictions."""
    assert (a["position"][of_a] == b["position"][of_b]).all()
    moves = [0.0]
    for name in _STATED:
        if name in a and name in b:
            first, second = (
                np.asarray(t[name][of], np.float64) for t, of in ((a, of_a), (b, of_b))
            )
            # what one states and the other does not is as far off as can be
            apart = np.isnan(first) != np.isnan(second)
            moves.append(1.0 if apart.any() else float(np.nan_to_num(np.abs(first - second)).max()))
    return max(moves)
