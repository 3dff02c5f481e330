"""Auditing a run, or predictions of another tool: what could have made its figure too good."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gainakt.arrays import IntArray
from gainakt.config import Config, load_config
from gainakt.data.interactions import Dataset
from gainakt.errors import GainaktError
from gainakt.evaluation.audits import (
    Finding,
    Outcome,
    causality,
    headline_column,
    predicted,
    shuffled_answers,
    sibling_skills,
)
from gainakt.evaluation.duplicates import almost_identical, same_ids
from gainakt.evaluation.metrics import auc
from gainakt.evaluation.predictor import Predictor
from gainakt.evaluation.within import within_figures
from gainakt.experiment.learning import Learning
from gainakt.experiment.opening import OpenRun, open_run
from gainakt.models.interface import FittedTracer
from gainakt.record.folder import RunFolder, write_json
from gainakt.record.records import recorded_data
from gainakt.seeds import Stream
from gainakt.words import counted

# Students whose histories causality and sibling skills change.
STUDENTS = 200
# More students than this are not held together.
MOST_STUDENTS = 20_000
# A headline this far above logistic regression on counts is suspected; what honest models have led
# by stands in docs/audit.md.
MARGIN = 0.05
# The same of the AUC within a student's answers to one skill, where a leak shows most.
WITHIN_MARGIN = 0.10
# So large a share of students with the history of a training student is a leak.
SHARE_OF_DUPLICATES = 0.01
SAMPLES = 200

Table = Mapping[str, Any]


@dataclass(frozen=True)
class Audited:
    """The findings of all audits of one run or table of predictions."""

    of: str
    data: str
    split: str
    findings: list[Finding]

    @property
    def passed(self) -> bool:
        """Whether no audit failed."""
        return all(finding.outcome is not Outcome.FAIL for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return {
            "of": self.of,
            "data": self.data,
            "split": self.split,
            "passed": self.passed,
            "findings": [finding.as_dict() for finding in self.findings],
        }

    def text(self) -> str:
        """Return the findings for people."""
        width = max(len(f"{f.outcome}  {f.audit}") for f in self.findings)
        lines = [f"audit of {self.of} on {self.split} students of {self.data}"]
        lines += [f"{f'{f.outcome}  {f.audit}'.ljust(width)}  {f.meaning}" for f in self.findings]
        return "\n".join(lines)


def audit_run(
    folder: RunFolder,
    data: Path | None = None,
    *,
    split: str = "test",
    students: int = STUDENTS,
    say: Callable[[str], object] = lambda line: None,
) -> Audited:
    """Audit a run's best checkpoint, and leave audit.json in its folder.

    Args:
        folder: the run.
        data: a prepared data set in place of the recorded one.
        split: whose predictions are audited, test or valid; valid where data have no test students.
        students: how many have their histories changed.
        say: is told what is being done.
    """
    run = open_run(folder, data)
    folds = run.checkpoint.config.data
    if split == "test" and not (run.stored.folds == folds.test_fold).any():
        say("the data have no test students; validation students are audited")
        split = "valid"
    everyone = run.stored.students(split, folds.fold, folds.test_fold)
    seed = run.checkpoint.config.runtime.seed
    rng = Stream.AUDIT.generator(seed, 4)
    if len(everyone) > MOST_STUDENTS:
        say(f"of {len(everyone):,} students {MOST_STUDENTS:,} are audited, drawn at random")
        everyone = np.sort(rng.choice(everyone, MOST_STUDENTS, replace=False))
    some = np.sort(rng.choice(everyone, min(students, len(everyone)), replace=False))
    say(f"changing the histories of {counted(len(some), 'student')}")
    findings = [
        causality(run.predictor, run.stored, some, seed),
        sibling_skills(run.predictor, run.stored, everyone, seed),
    ]
    say("looking for students in two splits")
    findings.append(in_two_splits(folder, run, everyone))
    say(f"shuffling the answers of {counted(len(everyone), 'student')}")
    findings.append(shuffled_answers(run.predictor, run.stored, everyone, seed))
    say("fitting logistic regression on the same training students")
    findings.append(_beside_baseline(folder, run, everyone))
    name = str(folder.path.name)
    audited = Audited(name, run.stored.name, split, findings)
    stamp = folder.stamp(run.stored.manifest["interactions_sha256"])
    write_json(folder.audit, audited.as_dict() | {"of_files": stamp})
    return audited


def in_two_splits(folder: RunFolder, run: OpenRun, everyone: IntArray) -> Finding:
    """Look for students of a split among those that the run learnt from."""
    folds = run.checkpoint.config.data
    try:
        learnt = run.stored if run.same_data else recorded_data(folder)
    except GainaktError as error:
        return Finding(
            "students in two splits",
            Outcome.NOT_APPLICABLE,
            f"The data that the run learnt from are not at hand: {error}.",
            {},
        )
    training = learnt.students("train", folds.fold, folds.test_fold)
    return duplicates(run.stored, everyone, learnt, training)


def duplicates(
    dataset: Dataset, students: IntArray, learnt: Dataset, training: IntArray
) -> Finding:
    """Compare students to predict with those learnt from: by id, and by their histories."""
    ids = same_ids(dataset, students, learnt, training)
    pairs = almost_identical(dataset, students, learnt, training)
    share = len(pairs) / len(students)
    good = not ids and share <= SHARE_OF_DUPLICATES
    figures = {
        "ids": len(ids),
        "histories": len(pairs),
        "share": share,
        "examples": [[pair.student, pair.other] for pair in pairs[:5]],
    }
    found = (
        f"{counted(len(ids), 'id')} of {counted(len(students), 'student')} to predict "
        f"{'is' if len(ids) == 1 else 'are'} also among the training students, and "
        f"{counted(len(pairs), 'history', 'histories')} almost that of one of them"
    )
    return Finding(
        "students in two splits",
        Outcome.PASS if good else Outcome.FAIL,
        f"{found}{'.' if good else ': the figures say nothing of new students.'}",
        figures,
    )


def _beside_baseline(folder: RunFolder, run: OpenRun, everyone: IntArray) -> Finding:
    config = run.checkpoint.config
    table = predicted(run.predictor, run.stored, everyone)
    try:
        learnt = run.stored if run.same_data else recorded_data(folder)
        baseline = fitted_baseline(config, learnt, run.device)
    except GainaktError as error:
        return Finding(
            "too good to be true",
            Outcome.NOT_APPLICABLE,
            f"The baseline cannot be fitted: {error}.",
            {},
        )
    return too_good(table, predicted(baseline, run.stored, everyone), config.runtime.seed)


def fitted_baseline(config: Config, dataset: Dataset, device: torch.device) -> Predictor:
    """Return logistic regression on counts, fitted to the training students of a run."""
    settings = {
        "model": "logistic",
        "seq_len": config.model.seq_len,
        "window_stride": config.evaluation.window_stride,
        "fold": config.data.fold,
        "test_fold": config.data.test_fold,
        "seed": config.runtime.seed,
    }
    chosen = load_config(None, settings)
    learning = Learning.of(chosen, dataset)
    model = learning.model(chosen, torch.device("cpu"))
    assert isinstance(model, FittedTracer)
    model.fit(learning.training)
    return Predictor.of(model, chosen, device)


def too_good(table: Table, baseline: Table, seed: int) -> Finding:
    """Compare predictions with those of logistic regression on the same answers.

    Both are of students that neither has learnt from. What a model gains over counts is bounded in
    practice; much more, above all within one student's answers to one skill, where who and what are
    known, is a leak more often than a discovery. It is the one audit that sees test answers that
    were learnt by heart, and the one that can be wrong: a FAIL is a question to answer.
    """
    figures: dict[str, Any] = {"margin": MARGIN, "margin_within": WITHIN_MARGIN}
    for name, of in (("model", table), ("logistic", baseline)):
        probability = of[headline_column(of)]
        figures[f"auc_{name}"] = auc(of["answer"], probability)
        columns = of["student"], of["skill"], of["answer"], probability
        figures[f"within_{name}"] = within_figures(*columns, SAMPLES, seed)["student_skill"].value
    lead = figures["auc_model"] - figures["auc_logistic"]
    within = None
    if None not in (figures["within_model"], figures["within_logistic"]):
        # counts may do worse than chance there, where students stop after right answers; chance is
        # what an honest model always reaches
        within = figures["within_model"] - max(0.5, figures["within_logistic"])
    good = lead <= MARGIN and (within is None or within <= WITHIN_MARGIN)
    figures |= {"lead": lead, "lead_within": within}
    said = (
        f"AUC {figures['auc_model']:.4f}, {lead:+.4f} beside logistic regression on counts "
        f"({figures['auc_logistic']:.4f}; suspected beyond {MARGIN:+.2f})"
    )
    if within is not None:
        said += (
            f"; within a student's skill {figures['within_model']:.4f}, {within:+.4f} beside the "
            f"better of that and chance (suspected beyond {WITHIN_MARGIN:+.2f})"
        )
    return Finding(
        "too good to be true",
        Outcome.PASS if good else Outcome.FAIL,
        said + ("." if good else ": a leak is suspected."),
        figures,
    )


def not_applicable(audits: Sequence[str], why: str) -> list[Finding]:
    """Return findings of audits that cannot be made."""
    return [Finding(audit, Outcome.NOT_APPLICABLE, why, {}) for audit in audits]
