"""Asking a run's best model about a few students."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gainakt.data.rows import asked_next
from gainakt.data.sequences import chunk_sequences
from gainakt.errors import DataError
from gainakt.evaluation.certainty import Mastery, mastery_of
from gainakt.evaluation.consistency import first_pieces
from gainakt.evaluation.explanation import ExplainedPrediction, explain_answer
from gainakt.experiment.opening import OpenRun
from gainakt.report.students import StudentTrace

# Histories of these lengths fit into a figure and have something to show.
SHOWN_ANSWERS = (10, 40)
SHOWN_STUDENTS = 3
SHOWN_SKILLS = 10
# What an interval of mastery holds.
LEVEL = 0.9


@dataclass(frozen=True, eq=False)
class Students:
    """A few validation students, lowest share of right answers first, and one's last prediction.

    mastered: of that one, the skills practised by name, with how far they are mastered after the
    last answer; none of a model whose mastery is not what it predicts.
    """

    traces: list[StudentTrace]
    explained: ExplainedPrediction
    mastered: dict[str, Mastery]


def ask_students(run: OpenRun) -> Students:
    """Read the mastery of three validation students, and take the middle one's last answer apart.

    Of those whose history fits a figure they are the ones with the lowest, the middle and the
    highest share of right answers.
    """
    config, dataset = run.checkpoint.config, run.dataset
    everyone = dataset.students("valid", config.data.fold, config.data.test_fold)
    chosen = _three_of(everyone, dataset.offsets, dataset.rows.response)
    pieces = chunk_sequences(dataset, chosen, config.model.seq_len)
    pieces = pieces.take(first_pieces(pieces))
    middle = int(chosen[len(chosen) // 2])
    explained = explain_answer(run.predictor, dataset, middle, None, None)
    mastered = _mastered(run, middle)
    traces = []
    for place, student in enumerate(pieces.students.tolist()):
        piece = pieces.take(np.array([place]))
        rows = slice(int(piece.starts[0]), int(piece.starts[0] + piece.lengths[0]))
        skills = dataset.rows.skill[rows]
        shown = _most_practised(skills)
        mastery = run.predictor.mastery(piece, shown)
        if mastery is None:
            return Students([], explained, mastered)
        index = {code: i for i, code in enumerate(shown.tolist())}
        traces.append(
            StudentTrace(
                student=dataset.student_ids[student],
                skills=[dataset.skill_ids[code] for code in shown],
                mastery=mastery,
                asked=np.array([index.get(code, -1) for code in skills.tolist()]),
                right=dataset.rows.response[rows].astype(bool),
            )
        )
    traces.sort(key=lambda trace: float(trace.right.mean()))
    return Students(traces, explained, mastered)


@torch.inference_mode()
def _mastered(run: OpenRun, student: int) -> dict[str, Mastery]:
    """The mastery of what a student practised, after the last answer."""
    if "mastery_gap" not in run.predictor.model.by_construction:
        return {}
    data = run.predictor.steps_of(run.dataset)
    rows = data.rows.take(slice(*data.offsets[student : student + 2].tolist()))
    state = run.predictor.student()
    state.extend(rows)
    return {
        run.dataset.skill_ids[skill]: mastery_of(state, asked_next([skill]), LEVEL)
        for skill in _most_practised(rows.skill).tolist()
    }


def _three_of(
    students: npt.NDArray[np.int64], offsets: npt.NDArray[Any], responses: npt.NDArray[Any]
) -> npt.NDArray[np.int64]:
    counts = offsets[students + 1] - offsets[students]
    least, most = SHOWN_ANSWERS
    fitting = students[(counts >= least) & (counts <= most)]
    if not len(fitting):
        fitting = students[counts >= 3]
    if not len(fitting):
        raise DataError("no validation student has 3 answers or more")
    share = np.array([responses[offsets[s] : offsets[s + 1]].mean() for s in fitting.tolist()])
    ordered = fitting[np.argsort(share, kind="stable")]
    places = np.linspace(0, len(ordered) - 1, min(SHOWN_STUDENTS, len(ordered))).round()
    chosen: npt.NDArray[np.int64] = ordered[places.astype(np.int64)]
    return chosen


def _most_practised(skills: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The skills to show, in the order in which the student met them."""
    practised, first, count = np.unique(skills, return_index=True, return_counts=True)
    most = np.argsort(-count, kind="stable")[:SHOWN_SKILLS]
    kept: npt.NDArray[np.int64] = practised[most[np.argsort(first[most])]].astype(np.int64)
    return kept
