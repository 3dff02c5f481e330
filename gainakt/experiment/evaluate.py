"""Scoring a run's best checkpoint: metrics and every prediction, into its folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gainakt.config import Config, Data
from gainakt.data.interactions import Dataset
from gainakt.data.rows import UNKNOWN
from gainakt.errors import GainaktError
from gainakt.evaluation.beginners import cold_start
from gainakt.evaluation.predictor import Predictor
from gainakt.evaluation.protocol import PREDICTIONS, evaluate_split, predictions_schema
from gainakt.evaluation.significance import Scored
from gainakt.evaluation.within import within_figures
from gainakt.experiment.console import RunConsole
from gainakt.experiment.opening import OpenRun, open_run
from gainakt.files import file_hash, only_one, replacing
from gainakt.record.folder import RunFolder, write_json
from gainakt.record.records import recorded_data
from gainakt.words import counted

# More predictions than this are not held together, as figures within students and skills need.
MOST_SORTED = 5_000_000
# How the groups within which an AUC is taken are called.
GROUPS = {"student": "students", "skill": "skills", "student_skill": "a student's skill"}


def evaluate(
    folder: RunFolder, split: str, console: RunConsole, data: Path | None = None
) -> dict[str, Any]:
    """Score a run's best checkpoint on a split; write metrics and every prediction.

    Args:
        folder: the run.
        split: valid or test.
        console: where to report.
        data: a prepared data set in place of the recorded one.
    """
    with only_one(folder.path, "evaluating"):
        return _evaluate(folder, split, console, open_run(folder, data))


def _evaluate(folder: RunFolder, split: str, console: RunConsole, run: OpenRun) -> dict[str, Any]:
    name = run.name_of(split)
    folds = run.checkpoint.config.data
    more = {
        "epoch": run.checkpoint.epoch,
        "same_data_as_training": run.same_data,
        **_overlap(folder, run, split, console),
        **_unknown_questions(run, split, console),
    }
    metrics = score_split(folder, run.predictor, run.stored, split, folds, name, more)
    if metrics["targets"] <= MOST_SORTED:
        metrics |= _apart(folder.predictions(name), run.checkpoint.config)
        write_json(folder.evaluation(name), metrics)
    _say(console, metrics)
    console.say(f"metrics: {folder.evaluation(name)}")
    console.say(f"predictions: {folder.predictions(name)}")
    return metrics


def _unknown_questions(run: OpenRun, split: str, console: RunConsole) -> dict[str, int]:
    """Count the answers to questions that the model does not know; nothing where it reads none."""
    vocabulary, data = run.checkpoint.vocabulary, run.stored
    folds = run.checkpoint.config.data
    if not vocabulary.n_questions or data.rows.question is None:
        return {}
    unknown = np.append(True, vocabulary.question_codes(data.vocabulary.questions) == UNKNOWN)
    students = data.students(split, folds.fold, folds.test_fold).tolist()
    rows = [slice(int(data.offsets[s]), int(data.offsets[s + 1])) for s in students]
    count = sum(int(unknown[data.rows.question[mine]].sum()) for mine in rows)
    total = sum(mine.stop - mine.start for mine in rows)
    if count:
        console.say(
            f"{count:,} of {total:,} rows are of questions that the model did not learn from; they "
            "are predicted as other questions on their skill"
        )
    return {"unknown_questions": count}


def _say(console: RunConsole, metrics: dict[str, Any]) -> None:
    """Say what stands beside the headline."""
    if metrics["question_auc"] != metrics["auc"]:
        console.say(
            "question level, the mean over a question's skills: AUC "
            f"{metrics['question_auc']:.5f}, accuracy {metrics['question_accuracy']:.5f}"
        )
    parts = {f"within {GROUPS[n]}": figure for n, figure in metrics.get("within", {}).items()}
    parts["of students' second and third answers"] = metrics.get("cold_start", {})
    for name, figure in parts.items():
        if figure.get("low") is not None:
            console.say(
                f"AUC {name}: {figure['auc']:.5f} (95% [{figure['low']:.5f}, {figure['high']:.5f}])"
            )


def _apart(predictions: Path, config: Config) -> dict[str, Any]:
    """What parts of the stored predictions show: within students and skills, and first answers."""
    columns = ["student", "skill", "answer", "probability", "position"]
    table = pq.read_table(predictions, columns=columns)
    samples, seed = config.evaluation.bootstrap_samples, config.runtime.seed
    read = {name: table[name].to_numpy() for name in columns}
    student, skill, answer, probability, _ = read.values()
    figures = within_figures(student, skill, answer, probability, samples, seed)
    within = {
        name: {"auc": figure.value, "low": figure.low, "high": figure.high}
        for name, figure in figures.items()
    }
    return {"within": within, "cold_start": cold_start(Scored.of(read))}


def _overlap(
    folder: RunFolder, run: OpenRun, split: str, console: RunConsole
) -> dict[str, int | None]:
    """Count the students to predict whose ids are those of students that the model learnt from."""
    if run.same_data:  # a student is in one fold alone
        return {"students_learnt_from": 0}
    folds = run.checkpoint.config.data
    ours = run.stored.students(split, folds.fold, folds.test_fold)
    try:
        learnt = recorded_data(folder)
    except GainaktError as error:
        console.say(f"whether the model learnt from some of these students is not known: {error}")
        return {"students_learnt_from": None}
    training = learnt.students("train", folds.fold, folds.test_fold)
    known = {learnt.student_ids[student] for student in training}
    both = sum(run.stored.student_ids[student] in known for student in ours)
    if both:
        console.say(
            f"warning: {both:,} of {counted(len(ours), f'{split} student')} have ids of students "
            "that the model learnt from; the figures say nothing of new students"
        )
    return {"students_learnt_from": both}


def score_split(
    folder: RunFolder,
    predictor: Predictor,
    dataset: Dataset,
    split: str,
    folds: Data,
    name: str | None = None,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Score a model by the window protocol; write metrics and predictions.

    Args:
        folder: where to write.
        predictor: what to score.
        dataset: with any codes of its skills.
        split: whose answers to predict.
        folds: which students validate and test.
        name: of the split in the names of the files, by default its own.
        more: values to keep beside the metrics.
    """
    name = name or split
    stamp = folder.stamp(dataset.manifest["interactions_sha256"])
    path = folder.predictions(name)
    with predictions_file(path, predictions_schema(dataset)) as keep:
        metrics = evaluate_split(predictor, dataset, split, folds, keep)
    metrics |= {"predictions_sha256": file_hash(path), "of": stamp, **(more or {})}
    write_json(folder.evaluation(name), metrics)
    return metrics


@contextmanager
def predictions_file(
    path: Path, schema: pa.Schema = PREDICTIONS
) -> Iterator[Callable[[pa.Table], None]]:
    """Yield what appends tables of predictions to a Parquet file that comes to be when all are in.

    Raises:
        ExperimentError: it cannot be written.
    """
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        yield writer.write_table
