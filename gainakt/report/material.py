"""What a report is made from: a run's folder, read and checked, and its best model asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from gainakt.config import Config
from gainakt.errors import DataError, ExperimentError
from gainakt.evaluation.metrics import auc
from gainakt.evaluation.protocol import evaluate_split
from gainakt.experiment.opening import OpenRun, open_run
from gainakt.record.checklist import Check, run_checks
from gainakt.record.folder import RunFolder, read_json
from gainakt.record.records import recorded_config
from gainakt.report.asking import Students, ask_students

Epochs = list[dict[str, float | None]]


@dataclass(frozen=True, eq=False)
class Split:
    """Every prediction of a split: (n,) columns and the metrics over them."""

    name: str
    metrics: Mapping[str, Any]
    student: npt.NDArray[Any]
    skill: npt.NDArray[Any]
    position: npt.NDArray[Any]
    answer: npt.NDArray[np.int8]
    probability: npt.NDArray[np.float32]

    @property
    def share_right(self) -> float:
        """The share of right answers."""
        return float(self.answer.mean())


@dataclass(frozen=True)
class Skill:
    """How a skill was answered and predicted; auc: nan where all its answers are alike."""

    skill: str
    answers: int
    share_right: float
    predicted: float
    auc: float


@dataclass(frozen=True, eq=False)
class Material:
    """All that a report says of one run.

    valid: None, with `not_predicted`, where it cannot be had; students: the same with `not_asked`.
    """

    folder: RunFolder
    config: Config
    results: Mapping[str, Any]
    data: Mapping[str, Any]
    git: Mapping[str, Any]
    epochs: Epochs
    checks: list[Check]
    valid: Split | None
    test: Split | None
    students: Students | None
    interpretability: Mapping[str, Any] | None
    not_predicted: str = ""
    not_asked: str = ""

    @property
    def model(self) -> str:
        """The model's name as it is written in words."""
        return type(self.config.model).__name__.removesuffix("Parameters")

    @property
    def splits(self) -> list[Split]:
        """The splits there are predictions of."""
        return [split for split in (self.valid, self.test) if split is not None]


def read_run(folder: RunFolder, data: Path | None = None, *, ask: bool = True) -> Material:
    """Read what a run's folder holds, and ask its best model for what it lacks.

    Args:
        folder: the run.
        data: a prepared data set in place of the recorded one.
        ask: whether to read mastery and an explanation; a comparison shows neither.

    Raises:
        ExperimentError: the folder is damaged, or no epoch was finished.
    """
    with _of_this_shape(folder):
        results, epochs = read_json(folder.results), read_epochs(folder)
        best = results["best"]
        if not epochs or best is None:
            raise ExperimentError(
                f"{folder.path.name}: no epoch was finished, so there is nothing to report; "
                f"gainakt resume {folder.path.name}"
            )
        model = _Model(folder, data)
        valid, not_predicted = _split(folder, "valid"), ""
        if valid is None:
            valid, not_predicted = _or_reason(lambda: _score(model.run))
        students, not_asked = None, ""
        if ask:
            students, not_asked = _or_reason(lambda: ask_students(model.run))
        return Material(
            folder=folder,
            config=recorded_config(folder),
            results=results,
            data=read_json(folder.data)["manifest"],
            git=read_json(folder.environment)["git"],
            epochs=epochs,
            checks=run_checks(folder),
            valid=valid,
            test=_split(folder, "test"),
            students=students,
            interpretability=_interpretability(folder),
            not_predicted=not_predicted,
            not_asked=not_asked,
        )


@contextmanager
def _of_this_shape(folder: RunFolder) -> Iterator[None]:
    """Say it plainly where a file is of the right syntax but another content."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ExperimentError(
            f"{folder.path.name} is damaged: unexpected content ({type(error).__name__}: {error}); "
            f"gainakt check {folder.path.name} says which file"
        ) from None


Found = TypeVar("Found")


def _or_reason(find: Callable[[], Found]) -> tuple[Found | None, str]:
    try:
        return find(), ""
    except (DataError, ExperimentError) as error:
        return None, str(error)


class _Model:
    """The run's best model with its data, loaded when it is first asked."""

    def __init__(self, folder: RunFolder, data: Path | None) -> None:
        self._folder, self._data = folder, data
        self._run: OpenRun | None = None

    @property
    def run(self) -> OpenRun:
        if self._run is None:
            self._run = open_run(self._folder, self._data)
        return self._run


def read_epochs(folder: RunFolder) -> Epochs:
    """Read metrics_epoch.csv as numbers.

    Raises:
        ExperimentError: the file is missing, cut off or holds something else.
    """
    epochs: Epochs = []
    for number, row in enumerate(folder.read_metrics(), start=1):
        try:
            epochs.append({n: float(text) if text != "" else None for n, text in row.items()})
        except (TypeError, ValueError):
            raise ExperimentError(
                f"{folder.metrics.name}, row {number}: cut off or not numbers; the file is damaged"
            ) from None
        if epochs[-1]["epoch"] is None or epochs[-1]["val_auc"] is None:
            raise ExperimentError(f"{folder.metrics.name}, row {number}: epoch or val_auc is empty")
    return epochs


def _split(folder: RunFolder, name: str) -> Split | None:
    """Read an evaluated split; None where it was not evaluated."""
    path, metrics = folder.current_predictions(name), folder.current(folder.evaluation(name))
    if path is None or metrics is None:
        return None
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ExperimentError(
            f"{path.name} cannot be read ({str(error).splitlines()[0]}); write it anew with "
            f"gainakt evaluate {folder.path.name} --split {name}"
        ) from None
    return _of_table(name, metrics, table)


def _of_table(name: str, metrics: Mapping[str, Any], table: pa.Table) -> Split:
    columns = ("student", "skill", "position", "answer", "probability")
    return Split(name, metrics, *(table[column].to_numpy() for column in columns))


def _score(run: OpenRun) -> Split:
    if not run.same_data:
        raise DataError("the data are not those of the run")
    tables: list[pa.Table] = []
    folds = run.checkpoint.config.data
    metrics = evaluate_split(run.predictor, run.stored, "valid", folds, tables.append)
    return _of_table("valid", metrics, pa.concat_tables(tables))


def by_skill(split: Split) -> list[Skill]:
    """Return how each skill was answered and predicted, most answers first."""
    names, code, count = np.unique(split.skill.astype(str), return_inverse=True, return_counts=True)
    by_code = np.argsort(code, kind="stable")
    bounds = np.cumsum(count)[:-1]
    skills = []
    for name, rows in zip(names.tolist(), np.split(by_code, bounds), strict=True):
        answers, probability = split.answer[rows], split.probability[rows]
        skills.append(
            Skill(
                name,
                len(rows),
                float(answers.mean()),
                float(probability.mean()),
                auc(answers, probability),
            )
        )
    return sorted(skills, key=lambda skill: (-skill.answers, skill.skill))


def _interpretability(folder: RunFolder) -> Mapping[str, Any] | None:
    """The measures of interpretability, of test students if there are any."""
    for split in ("test", "valid"):
        found = folder.current(folder.interpretability(split))
        if found is not None:
            return found
    return None
