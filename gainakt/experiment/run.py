"""The story of one run, from a configuration and data to a complete experiment folder."""

from __future__ import annotations

import io
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gainakt.config import Config
from gainakt.data.batches import bounded_ranges
from gainakt.data.interactions import Dataset, load_dataset
from gainakt.data.sequences import Sequences, chunk_sequences, rows_of_pieces
from gainakt.data.vocabulary import Vocabulary
from gainakt.errors import DataError, GainaktError
from gainakt.evaluation.consistency import all_or_sample, final_consistency
from gainakt.evaluation.predictor import PART_STEPS, Predictor
from gainakt.experiment.console import RunConsole
from gainakt.experiment.embedded import embedded_data
from gainakt.experiment.evaluate import score_split
from gainakt.experiment.recorder import FolderRecorder, summarise
from gainakt.experiment.tracking import check_trackers, trackers
from gainakt.files import write_atomically
from gainakt.machine import cores, prepare_machine
from gainakt.models import build_model
from gainakt.record import commands, provenance
from gainakt.record.checklist import Check, run_checks
from gainakt.record.checkpoint import load_checkpoint
from gainakt.record.folder import (
    COMPLETED,
    FAILED,
    INTERRUPTED,
    RunFolder,
    read_json,
    write_json,
)
from gainakt.record.readme import write_readme
from gainakt.seeds import seeds_page
from gainakt.training.distillation import soft_answers, teacher_config, teacher_predictions
from gainakt.training.loop import Trainer


@dataclass(frozen=True)
class RunResult:
    """A run's folder, its results.json and its ten checks."""

    folder: RunFolder
    results: dict[str, Any]
    checks: list[Check]

    @property
    def completed(self) -> bool:
        """Whether training reached its end."""
        return bool(self.results["status"] == COMPLETED)


def train(
    config: Config,
    data: Path | None,
    out: Path,
    *,
    command: str,
    now: datetime,
    console: RunConsole,
) -> RunResult:
    """Train a model and leave its experiment folder.

    Args:
        config: the complete configuration.
        data: a prepared data set; None for simulated students.
        out: where experiment folders are.
        command: what started the run, as typed, for the record.
        now: start of the run, UTC.
        console: where to report.

    Raises:
        ConfigError, DataError, TrainingError, ExperimentError: before anything is written where
            the mistake can be seen by then.
    """
    check_trackers(config)
    device = prepare_machine(*config.machine)
    dataset = load_dataset(data or embedded_data(out, console))
    check_trainable(dataset, config)
    timestamp = now.strftime("%Y%m%d_%H%M%S")
    folder = RunFolder.create(
        out, timestamp, config.experiment.model, config.experiment.short_title
    )
    try:
        console.log_to(folder.log)
        config = _completed(config, dataset, folder, command, timestamp)
        _record_provenance(folder, config, dataset, device)
        trainer = make_trainer(config, dataset, device)
        _announce(console, folder, config, dataset, trainer)
    except BaseException:
        folder.remove()  # nothing was learnt yet: leave no folder that looks like a run
        raise
    return carry_out(folder, config, dataset, trainer, console)


def make_trainer(config: Config, dataset: Dataset, device: torch.device) -> Trainer:
    """Build the model and the trainer over the configured fold."""
    return Trainer(
        build_model(config, model_vocabulary(config, dataset)).to(device),
        config,
        learning_sequences(config, dataset, "train"),
        learning_sequences(config, dataset, "valid"),
        device,
    )


def model_vocabulary(config: Config, dataset: Dataset) -> Vocabulary:
    """Return what the configured model can name of a data set."""
    if config.model.reads_questions:
        return dataset.vocabulary
    return dataset.vocabulary.without_questions()


def learning_sequences(config: Config, dataset: Dataset, split: str) -> Sequences:
    """Cut the training or validation students' histories to what the model reads."""
    students = dataset.students(split, config.data.fold, config.data.test_fold)
    return chunk_sequences(dataset, students, config.model.seq_len)


def carry_out(
    folder: RunFolder, config: Config, dataset: Dataset, trainer: Trainer, console: RunConsole
) -> RunResult:
    """Train from where the trainer stands, record every epoch, and finish the folder."""
    try:
        return _train_to_end(folder, config, dataset, trainer, console)
    except (Exception, KeyboardInterrupt) as error:
        _record_failure(folder, config, trainer, console, error)
        raise


def _train_to_end(
    folder: RunFolder, config: Config, dataset: Dataset, trainer: Trainer, console: RunConsole
) -> RunResult:
    began = time.monotonic()
    trainer.say = console.say
    record_path(folder, trainer)
    with trackers(config, folder.path) as track, stop_on_interrupt(console) as stopped:
        recorder = FolderRecorder(folder, config, dataset, console, track)
        if not learn_from_teachers(folder, config, dataset, trainer, console, stopped):
            return finish(folder, config, summarise(folder, config, trainer, INTERRUPTED), console)
        epochs, steps = config.training.epochs, trainer.steps_per_epoch
        console.start(trainer.epoch * steps + trainer.progress.steps, epochs * steps)
        reached_end = trainer.run(recorder, stopped)
        console.end_bar()
        record_path(folder, trainer)
        if not reached_end:
            recorder.on_state(trainer)
    results = summarise(folder, config, trainer, COMPLETED if reached_end else INTERRUPTED)
    if reached_end:
        results |= _final_results(folder, config, dataset, trainer, console)
    results["seconds"]["total"] = round(time.monotonic() - began, 3)
    return finish(folder, config, results, console)


def learn_from_teachers(
    folder: RunFolder,
    config: Config,
    dataset: Dataset,
    trainer: Trainer,
    console: RunConsole,
    stopped: Callable[[], bool],
) -> bool:
    """Train the teachers there are to be and hand their predictions to the trainer.

    A teacher's predictions are kept in the folder, so that a resumed run does not train it again.

    Returns:
        False when it was stopped before the last teacher was ready.
    """
    predictions = []
    for number in range(1, config.training.teachers + 1):
        path = folder.teacher(number)
        if not path.is_file():
            told = teacher_predictions(
                teacher_config(config, number),
                trainer.model.vocabulary,
                trainer.training,
                trainer.validation,
                trainer.device,
                partial(_say_teacher, console, f"{number}/{config.training.teachers}"),
                stopped,
            )
            if told is None:
                return False
            buffer = io.BytesIO()
            np.save(buffer, told)
            write_atomically(path, buffer.getvalue())
        predictions.append(np.load(path, allow_pickle=False))
    if predictions:
        weight = config.training.teacher_weight
        soft = soft_answers(dataset.rows.response, predictions, weight)
        trainer.training = replace(trainer.training, soft_answers=soft)
    return True


def _say_teacher(console: RunConsole, which: str, news: str) -> None:
    console.say(f"teacher {which}, {news}")


def _record_failure(
    folder: RunFolder,
    config: Config,
    trainer: Trainer,
    console: RunConsole,
    error: BaseException,
) -> None:
    """Say in the folder why training ended early, as far as the disk still takes it."""
    interrupted = isinstance(error, KeyboardInterrupt)
    reason = "stopped at once" if interrupted else str(error) or type(error).__name__
    # whatever goes wrong here would hide the error that ended training
    with suppress(GainaktError, OSError):
        results = summarise(folder, config, trainer, INTERRUPTED if interrupted else FAILED)
        results["reason"] = reason
        write_json(folder.results, results)
        if interrupted:
            console.say(f"interrupted: {reason}; next: gainakt resume {folder.path}")
        else:
            console.note(f"failed: {reason}")  # the command line prints it
        write_readme(folder, config, results, run_checks(folder))


def finish(
    folder: RunFolder, config: Config, results: dict[str, Any], console: RunConsole
) -> RunResult:
    """Write results.json, perform the ten checks and write the README with their outcome."""
    write_json(folder.results, results)
    checks = run_checks(folder)
    write_readme(folder, config, results, checks)
    _conclude(console, folder, config, results, checks)
    return RunResult(folder, results, checks)


def check_trainable(dataset: Dataset, config: Config) -> None:
    """Refuse data that cannot train or validate a model.

    Raises:
        DataError: a split is empty, too short, or has answers of one class only.
    """
    for split in ("train", "valid"):
        pieces = learning_sequences(config, dataset, split)
        if not len(pieces):
            raise DataError(
                f"data set {dataset.name!r}: the {split} students of fold {config.data.fold} have "
                "fewer than 3 interactions each, nothing can be learnt from them"
            )
        classes = answers_to_learn(pieces)
        if len(classes) < 2:
            raise DataError(
                f"data set {dataset.name!r}: every answer of the {split} students of fold "
                f"{config.data.fold} is {classes[0]}; both right and wrong answers are needed"
            )


def answers_to_learn(pieces: Sequences) -> list[int]:
    """Return the kinds of answers, 0 and 1, that come after the first of a piece."""
    found: set[int] = set()
    for begin, end in bounded_ranges(pieces.lengths, PART_STEPS):
        part = pieces.take(np.arange(begin, end))
        first = np.cumsum(part.lengths) - part.lengths
        found |= set(np.unique(np.delete(part.rows.response[rows_of_pieces(part)], first)).tolist())
        if len(found) == 2:  # as a rule after the first few students
            break
    return sorted(found)


def _final_results(
    folder: RunFolder,
    config: Config,
    dataset: Dataset,
    trainer: Trainer,
    console: RunConsole,
) -> dict[str, Any]:
    """Measure the best checkpoint on all validation students."""
    best = load_checkpoint(folder.best)
    console.say(f"measuring the best checkpoint (epoch {best.epoch}) on validation students")
    predictor = Predictor.of(best.model(), config, trainer.device)
    figures = all_or_sample(
        predictor,
        trainer.validation,
        config.interpretability.max_semantic_students,
        config.runtime.seed,
    )
    final = final_consistency(figures, config.evaluation.bootstrap_samples, config.runtime.seed)
    if config.runtime.auto_shifted_eval:
        score_split(folder, predictor, dataset, "valid", config.data)
    return {
        "mastery_corr": final["mastery_correlation"],
        "gain_corr": final["gain_correlation"],
        "consistency": final,
    }


def _completed(
    config: Config, dataset: Dataset, folder: RunFolder, command: str, timestamp: str
) -> Config:
    """Fill in what only the run knows: names, threads, commands."""
    hardware = config.hardware.model_copy(update={"threads": config.hardware.threads or cores()})
    config = config.model_copy(
        update={
            "hardware": hardware,
            "experiment": config.experiment.model_copy(update={"id": folder.path.name}),
            "data": config.data.model_copy(update={"dataset": dataset.name}),
        }
    )
    runtime = config.runtime.model_copy(
        update={
            "command": command,
            "timestamp": timestamp,
            "train_command": commands.train_command(
                config, dataset.path.resolve(), folder.path.parent
            ),
            "eval_command": commands.evaluate_command(folder.path),
            "repro_command": commands.reproduce_command(folder.path),
        }
    )
    return config.model_copy(update={"runtime": runtime})


def _record_provenance(
    folder: RunFolder, config: Config, dataset: Dataset, device: torch.device
) -> None:
    folder.write_config(config)
    folder.write_script(commands.script(config))
    write_atomically(folder.seeds, seeds_page(config.seeds.primary, config.seeds.all).encode())
    write_json(folder.environment, provenance.environment(config, device))
    write_json(folder.data, provenance.data_record(dataset))


def record_path(folder: RunFolder, trainer: Trainer) -> None:
    """Say in environment.json in which way steps were carried out, as it turned out."""
    write_json(folder.environment, read_json(folder.environment) | {"step": trainer.path})


def _announce(
    console: RunConsole, folder: RunFolder, config: Config, dataset: Dataset, trainer: Trainer
) -> None:
    counts = dataset.manifest["counts"]
    size = sum(p.numel() for p in trainer.model.parameters())
    console.say(f"folder: {folder.path}")
    console.say(
        f"data: {dataset.name}, {counts['students']:,} students, {counts['interactions']:,} "
        f"interactions, {dataset.n_skills:,} skills; fold {config.data.fold} validates"
    )
    console.say(
        f"model: {config.experiment.model}, {size:,} parameters; device {trainer.device}, "
        f"{torch.get_num_threads()} threads; seed {config.runtime.seed}"
    )
    console.say(
        f"training: {len(trainer.training):,} sequences, {trainer.steps_per_epoch:,} batches an "
        f"epoch, up to {config.training.epochs} epochs"
    )
    console.say(f"step: {trainer.path}")


def _conclude(
    console: RunConsole,
    folder: RunFolder,
    config: Config,
    results: dict[str, Any],
    checks: list[Check],
) -> None:
    best = results["best"]
    if results["status"] == INTERRUPTED:
        console.say("interrupted: the last checkpoint is saved and the run can be resumed")
    if best:
        console.say(
            f"best epoch {best['epoch']}: validation AUC {best['val_auc']:.5f}, "
            f"accuracy {best['val_accuracy']:.5f}"
        )
    for check in checks:
        console.say(f"{check.mark} {check.title}{': ' + check.reason if check.reason else ''}")
    console.say(f"everything is in {folder.path}")
    if results["status"] == COMPLETED:
        console.say(f"next: {config.runtime.eval_command}")
        console.say(f"      {config.runtime.repro_command}")
    else:
        console.say(f"next: gainakt resume {folder.path}")


@contextmanager
def stop_on_interrupt(console: RunConsole) -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C (or a polite kill) end training after the batch at hand; a second one at once."""
    asked = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        console.say("stopping after this batch; once more to stop at once")

    in_main_thread = threading.current_thread() is threading.main_thread()
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM) if in_main_thread}
    # a program that embeds Python may handle a signal itself: then the handler is None, and stays
    ours = {number: handler for number, handler in before.items() if handler is not None}
    try:
        for number in ours:
            signal.signal(number, on_signal)
        yield asked.is_set
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
