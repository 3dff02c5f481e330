"""One prediction for one student, taken apart as far as the model can."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gainakt.data.interactions import Dataset
from gainakt.data.rows import NONE, UNKNOWN, Rows, asked_next
from gainakt.data.sequences import Sequences, context_start, whole_histories
from gainakt.errors import DataError
from gainakt.evaluation.certainty import interval_of
from gainakt.evaluation.predictor import Predictor
from gainakt.html import html_table

AGAINST, FOR = "#b2182b", "#2166ac"
# A notebook shows so many of the past answers.
ROWS = 20


@dataclass(frozen=True)
class PastAnswer:
    """An answer that the model read before the prediction.

    step: place in the history, from 0. contribution: what it adds to the log-odds, where the
    prediction is a sum. mastery: of the skill in question after it. gain: what the model calls its
    learning gain on that skill. question: where the model knows it; easiness: what that adds to the
    log-odds beyond its skills. seconds: from this answer to the question asked, where times are
    known.
    """

    step: int
    skill: str
    right: bool
    contribution: float | None
    mastery: float | None
    gain: float | None
    question: str | None = None
    easiness: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class ExplainedPrediction:
    """A prediction: logit = prior + sum of the contributions in `past`, where the model is a sum.

    step: place of the answer in the history, from 0. right: the answer, None if there is none yet
    to this skill. prior: None where the model does not take its predictions apart. question: what
    was asked, where the model knows it; easiness: see `PastAnswer`. low, high: where the student's
    true probability lies with 90%, see `gainakt.evaluation.certainty.interval`; None of a model
    that reads no history.
    """

    student: str
    step: int
    skill: str
    right: bool | None
    logit: float
    probability: float
    prior: float | None
    past: tuple[PastAnswer, ...]
    question: str | None = None
    easiness: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def chance(self) -> str:
        """The probability and its interval, for people."""
        sure = ""
        if self.low is not None and self.high is not None:
            sure = f" (90% interval {self.low:.2f} to {self.high:.2f})"
        return f"probability {self.probability:.4f}{sure} of a right answer"

    @property
    def asked(self) -> str:
        """What was asked, for people: the skill, and the question where it is known."""
        if self.question is None:
            return self.skill
        ease = "" if self.easiness is None else f" (easiness {self.easiness:+.2f})"
        return f"{self.skill}, question {self.question}{ease}"

    @property
    def is_sum(self) -> bool:
        """Whether the prediction is a prior plus contributions."""
        return self.prior is not None

    @property
    def strongest_first(self) -> list[PastAnswer]:
        """The past answers by size of contribution, or by time where they have none."""
        return sorted(self.past, key=lambda answer: -abs(answer.contribution or 0.0))

    def _repr_html_(self) -> str:
        return explanation_html(self)


def explain_answer(
    predictor: Predictor, dataset: Dataset, student: int, step: int | None, skill: int | None
) -> ExplainedPrediction:
    """Explain a prediction on a data set that is coded with the model's skills.

    Args:
        predictor: what reads the history.
        dataset: where the student is.
        student: index in the data set.
        step: place of the answer in the student's stored history, from 0; by default the last
            answer, or with `skill` the one that would come next.
        skill: code of another skill to ask about in its place.

    Raises:
        DataError: there is no such answer.
    """
    dataset = predictor.steps_of(dataset)
    begin, end = dataset.offsets[student : student + 2].tolist()
    name = dataset.student_ids[student]
    places = dataset.places(np.full(end - begin, student), np.arange(begin, end))
    stored = int(places[-1]) + len(_skills_of(dataset.rows, end - 1)) if end > begin else 0
    asked_for = step = _checked_step(step, stored, name, any_skill=skill is not None)
    # of a pooled question, any of its rows is the question
    step = end - begin if step == stored else int(np.searchsorted(places, step, "right")) - 1
    if not answers_before(dataset, student, step):
        raise DataError(
            f"step {asked_for} of student {name!r} is a skill of the first question; nothing is "
            "before"
        )
    return explain_prediction(predictor, dataset, student, step, skill)


def _checked_step(step: int | None, count: int, student: str, *, any_skill: bool) -> int:
    last = count if any_skill else count - 1
    if step is None and last > 0:
        return last
    if step is None or not 1 <= step <= last:
        steps = f"{count} step{'' if count == 1 else 's'}"
        possible = f"steps 1 to {last} can be explained" if last else "there is none to explain"
        raise DataError(
            f"no prediction for step {last if step is None else step} of student {student!r}, "
            f"whose history has {steps}; {possible} (step 0 has no past"
            + ("" if any_skill else f"; about a skill of choice also step {count}, the next answer")
            + ")"
        )
    return step


@torch.inference_mode()
def explain_prediction(
    predictor: Predictor, dataset: Dataset, student: int, step: int, skill: int | None = None
) -> ExplainedPrediction:
    """Explain the prediction of a student's answer, from what an evaluation reads before it.

    Args:
        predictor: what reads the history.
        dataset: coded with the model's vocabulary.
        student: index in the data set.
        step: of the student's rows, from 1; one past the last for the answer that would come next.
        skill: code of a skill to ask for by itself, in place of the question that was asked.
    """
    begin = int(dataset.offsets[student])
    reading, model = predictor.reading, predictor.model
    before = answers_before(dataset, student, step)
    start = context_start(before, reading.seq_len, reading.stride)
    past = np.arange(begin + start, begin + before)
    last = len(past) - 1
    here = begin + step
    then = dataset.rows.take(slice(here, min(here + 1, int(dataset.offsets[student + 1]))))
    past_rows = dataset.rows.take(past)
    asked = then
    if skill is not None:
        asked = asked_next([skill], time=_time_of(then) or _time_of(past_rows))
    skill = int(asked.skill[0])
    answered = len(then) > 0 and skill in _skills_of(then, 0)
    for batch in predictor.batches(_history(past_rows, asked)):
        output = model(batch)
        explanation = model.explain(batch)
        mastery = model.mastery(batch, torch.tensor([skill], device=predictor.device))
    contributions: list[float | None] = [None] * len(past)
    logit, prior = output.logits[last], None
    if explanation is not None:
        logit, prior = explanation.logits[last], float(explanation.prior[last])
        contributions = explanation.contributions[0][0, last, : len(past)].tolist()
    of_skill = None if mastery is None else mastery[:, 0]
    gains = None if output.gains is None else output.gains[:, skill]
    low = high = None
    if model.reads_history:
        student_now = predictor.student()
        student_now.extend(past_rows)
        low, high = interval_of(student_now, asked)
    easiness = _easiness(predictor, Rows.join([past_rows, asked]))
    times, now = dataset.rows.time, then.time
    ages = None if times is None or now is None or not len(now) else (now[0] - times[past]) / 1000
    columns = zip(
        past.tolist(),
        contributions,
        _listed(of_skill, len(past)),
        _listed(gains, len(past)),
        easiness[:-1],
        [None] * len(past) if ages is None else ages.tolist(),
        strict=True,
    )
    return ExplainedPrediction(
        student=dataset.student_ids[student],
        step=_place(dataset, student, begin + step),
        skill=_skill_names(dataset, asked, 0),
        question=_question_id(dataset, asked, 0),
        easiness=easiness[-1],
        right=bool(dataset.rows.response[begin + step]) if answered else None,
        logit=float(logit),
        probability=float(logit.sigmoid()),
        low=low,
        high=high,
        prior=prior,
        past=tuple(
            PastAnswer(
                step=_place(dataset, student, row),
                skill=_skill_names(dataset, dataset.rows, row),
                question=_question_id(dataset, dataset.rows, row),
                right=bool(dataset.rows.response[row]),
                contribution=contribution,
                mastery=level,
                gain=gain,
                easiness=ease,
                seconds=age,
            )
            for row, contribution, level, gain, ease, age in columns
        ),
    )


def answers_before(dataset: Dataset, student: int, step: int) -> int:
    """Return how many rows of a student come before the answer that row `step` is a part of.

    The skills of one question share its answer: those before would give it away.
    """
    begin, end = int(dataset.offsets[student]), int(dataset.offsets[student + 1])
    before = begin + step
    order = dataset.rows.order
    if before < end:
        while before > begin and order[before - 1] == order[begin + step]:
            before -= 1
    return before - begin


def _history(past: Rows, asked: Rows) -> Sequences:
    """The past answers and then the question, whose answer is never read."""
    asked = asked.replace(response=np.zeros(1, np.int8), order=past.order[-1:] + 1)
    return whole_histories(Rows.join([past, asked]), np.array([len(past) + 1]))


def _time_of(rows: Rows) -> int:
    return 0 if rows.time is None or not len(rows) else int(rows.time[-1])


def _place(dataset: Dataset, student: int, row: int) -> int:
    """The place of a row in the student's stored history, or of what would come after the last."""
    last = int(dataset.offsets[student + 1]) - 1
    place = int(dataset.places(np.array([student]), np.array([min(row, last)]))[0])
    return place if row <= last else place + len(_skills_of(dataset.rows, last))


def _skill_names(dataset: Dataset, rows: Rows, row: int) -> str:
    """The skill of a row, of a pooled question all of them."""
    return " + ".join(dataset.skill_ids[code] for code in _skills_of(rows, row))


def _skills_of(rows: Rows, row: int) -> list[int]:
    others = [] if rows.others is None else rows.others[row].tolist()
    return [int(rows.skill[row]), *(code for code in others if code != NONE)]


def _easiness(predictor: Predictor, rows: Rows) -> list[float | None]:
    """The easiness of each row's question, None where the model knows none."""
    codes = np.zeros(len(rows), np.int64) if rows.question is None else rows.question
    found = predictor.model.easiness(torch.tensor(codes, dtype=torch.int64).to(predictor.device))
    if found is None:
        return [None] * len(rows)
    pairs = zip(found.tolist(), codes.tolist(), strict=True)
    return [value if code != UNKNOWN else None for value, code in pairs]


def elapsed(seconds: float) -> str:
    """Spell a span of time for people."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _question_id(dataset: Dataset, rows: Rows, row: int) -> str | None:
    if rows.question is None or rows.question[row] == UNKNOWN:
        return None
    return str(dataset.vocabulary.questions[int(rows.question[row]) - 1])


def _listed(values: Tensor | None, count: int) -> list[float | None]:
    return [None] * count if values is None else values[:count].tolist()


def explanation_html(explained: ExplainedPrediction) -> str:
    """Return a prediction and what it is made of, or what stands beside it, as a coloured table."""
    e = explained
    caption = (
        f"student {e.student}, step {e.step}, skill {e.asked}: {e.chance}; log-odds {e.logit:+.4f}"
    )
    if e.is_sum:
        return _sum(e, caption)
    names = [name for name in ("gain", "mastery") if getattr(e.past[0], name) is not None]
    if not names:
        return html_table(f"{caption}; this model says no more", [])
    rows = [
        [str(a.step), a.skill, _spelt(a), *(f"{getattr(a, name):.4f}" for name in names)]
        for a in e.past[-ROWS:]
    ]
    beside = f"; {' and '.join(names)} stand beside the prediction and do not explain it"
    return html_table(caption + beside, rows, ("step", "skill", "answer", *names))


def _sum(explained: ExplainedPrediction, caption: str) -> str:
    terms = [(answer, answer.contribution or 0.0) for answer in explained.strongest_first]
    largest = max(abs(value) for _, value in terms) or 1.0
    rows = [["", "", "prior", f"{explained.prior:+.4f}"]]
    rows += [[str(a.step), a.skill, _spelt(a), f"{value:+.4f}"] for a, value in terms[:ROWS]]
    colours = ["", *(_shade(value / largest) for _, value in terms[:ROWS])]
    rest = terms[ROWS:]
    if rest:
        total = sum(value for _, value in rest)
        rows.append(["", "", f"{len(rest)} more answers", f"{total:+.4f}"])
    return html_table(caption, rows, ("step", "skill", "answer", "contribution"), colours)


def _spelt(answer: PastAnswer) -> str:
    return "right" if answer.right else "wrong"


def _shade(share: float) -> str:
    """Blue for what counts for a right answer, red against; the stronger, the fuller."""
    red, green, blue = (int((FOR if share > 0 else AGAINST)[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{0.6 * abs(share):.2f})"
