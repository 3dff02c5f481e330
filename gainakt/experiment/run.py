"""The story of one run, from a configuration and data to a complete experiment folder."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gainakt.config import Config
from gainakt.data.interactions import Dataset, load_dataset
from gainakt.errors import ExperimentError, GainaktError
from gainakt.evaluation.consistency import (
    MOST_SKILLS,
    all_or_sample,
    final_consistency,
    window_turns,
)
from gainakt.evaluation.predictor import Predictor
from gainakt.experiment.console import RunConsole
from gainakt.experiment.embedded import embedded_data
from gainakt.experiment.evaluate import score_split
from gainakt.experiment.learning import Learning
from gainakt.experiment.recipe import adapted
from gainakt.experiment.recorder import FolderRecorder, summarise
from gainakt.experiment.stopping import stop_on_interrupt
from gainakt.experiment.tracking import check_trackers, trackers
from gainakt.files import only_one, write_atomically
from gainakt.machine import bf16_slowdown, cores, prepare_machine
from gainakt.models import KnowledgeTracer
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
from gainakt.training.loop import History, Trainer
from gainakt.words import counted

# Fewer steps than this leave most models where they began.
FEW_STEPS = 500


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
    # what can be said at once is said before students are simulated
    check_trackers(config)
    prepare_machine(*config.machine)
    dataset = load_dataset(data or embedded_data(out, console))
    return start(config, dataset, out, command=command, now=now, console=console).carry_out()


def start(
    config: Config, dataset: Dataset, out: Path, *, command: str, now: datetime, console: RunConsole
) -> TrainingRun:
    """Make a run's folder with all that is known before anything is learnt; see `train`."""
    check_trackers(config)
    device = prepare_machine(*config.machine)
    config, chosen = adapted(config, dataset)
    learning = Learning.of(config, dataset)
    timestamp = now.strftime("%Y%m%d_%H%M%S")
    folder = RunFolder.create(
        out, timestamp, config.experiment.model, config.experiment.short_title
    )
    try:
        console.log_to(folder.log)
        config = _completed(config, dataset, folder, command, timestamp)
        _record_provenance(folder, config, dataset, device, chosen)
        run = TrainingRun(folder, config, learning, device, console)
        _announce(run)
        if chosen:
            console.say(f"chosen for these data: {_listed(chosen)}")
    except BaseException:
        folder.remove()  # nothing was learnt yet: leave no folder that looks like a run
        raise
    return run


@dataclass
class TrainingRun:
    """One run on its way: teachers, the model epoch by epoch, and what is measured at the end.

    state: where an earlier part of the run stopped, None at the beginning.
    """

    folder: RunFolder
    config: Config
    learning: Learning
    device: torch.device
    console: RunConsole
    state: dict[str, Any] | None = None
    trainer: Trainer | None = None

    @cached_property
    def model(self) -> KnowledgeTracer:
        """The model, with initial weights at first."""
        return self.learning.model(self.config, self.device)

    def carry_out(self) -> RunResult:
        """Train to the end, record every epoch, and finish the folder."""
        try:
            with only_one(self.folder.path, "training"):
                self.folder.sweep()
                return self._train_to_end()
        except (Exception, KeyboardInterrupt) as error:
            _record_failure(self, error)
            raise

    def results(self, status: str) -> dict[str, Any]:
        """Return what results.json says of the run at this moment."""
        history = self.trainer.history if self.trainer else History()
        return summarise(self.folder, self.config, self.model, history, status)

    def _train_to_end(self) -> RunResult:
        began = time.monotonic()
        with (
            trackers(self.config, self.folder.path, self.console.say) as track,
            stop_on_interrupt(self.console, "after this batch") as stopped,
        ):
            learning = learn_from_teachers(self, stopped)
            if learning is None:
                track.outcome = "KILLED"
                return finish(self, self.results(INTERRUPTED))
            trainer = self._make_trainer(learning)
            dataset = self.learning.dataset
            recorder = FolderRecorder(self.folder, self.config, dataset, self.console, track)
            epochs, steps = trainer.epochs, trainer.steps_per_epoch
            self.console.start(trainer.epoch * steps + trainer.progress.steps, epochs * steps)
            reached_end = trainer.run(recorder, stopped)
            track.outcome = "FINISHED" if reached_end else "KILLED"
            self.console.end_bar()
            record_backend(self.folder, trainer)
            if not reached_end:
                recorder.on_state(trainer)
        results = self.results(COMPLETED if reached_end else INTERRUPTED)
        if reached_end:
            results |= _final_results(self)
        results["seconds"]["total"] = round(time.monotonic() - began, 3)
        return finish(self, results)

    def _make_trainer(self, learning: Learning) -> Trainer:
        trainer = Trainer(
            self.model, self.config, learning.training, learning.validation, self.device
        )
        trainer.say = self.console.say
        if self.state is not None:
            try:
                trainer.restore(self.state)
            except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise ExperimentError(
                    f"{self.folder.state.name} is damaged or of another run: {reason[:200]}"
                ) from None
        self.trainer = trainer
        record_backend(self.folder, trainer)
        self.console.say(
            f"training: {len(trainer.training):,} sequences, "
            f"{counted(trainer.steps_per_epoch, 'batch', 'batches')} an epoch, up to "
            f"{counted(trainer.epochs, 'epoch')}; step: {trainer.backend}"
        )
        steps = trainer.steps_per_epoch * trainer.epochs
        if steps < FEW_STEPS and not trainer.steps.once:
            self.console.say(
                f"note: {counted(steps, 'optimiser step')} in all, however long it takes; settings "
                f"made for more data may need {FEW_STEPS} or more: try a smaller batch_size "
                f"(now {self.config.training.batch_size}) or more epochs"
            )
        return trainer


def learn_from_teachers(run: TrainingRun, stopped: Callable[[], bool]) -> Learning | None:
    """Train the teachers there are to be; return what is to be learnt, softened by them.

    A teacher's predictions are kept in the folder, so that a resumed run does not train it again.

    Returns:
        None when it was stopped before the last teacher was ready.
    """
    training, learning = run.config.training, run.learning
    predictions = []
    for number in range(1, training.teachers + 1):
        path = run.folder.teacher(number)
        if not path.is_file():
            told = teacher_predictions(
                learning.trainer(teacher_config(run.config, number), run.device),
                partial(_say_teacher, run.console, f"{number}/{training.teachers}"),
                stopped,
            )
            if told is None:
                return None
            buffer = io.BytesIO()
            np.save(buffer, told)
            write_atomically(path, buffer.getvalue())
        predictions.append(np.load(path, allow_pickle=False))
    if not predictions:
        return learning
    answers = learning.training.rows.response
    return learning.softened(soft_answers(answers, predictions, training.teacher_weight))


def _say_teacher(console: RunConsole, which: str, news: str) -> None:
    console.say(f"teacher {which}, {news}")


def _record_failure(run: TrainingRun, error: BaseException) -> None:
    """Say in the folder why training ended early, as far as the disk still takes it."""
    folder, console = run.folder, run.console
    if run.state is not None and run.trainer is None:
        return  # what was there could not be taken up again; it stays as it was
    interrupted = isinstance(error, KeyboardInterrupt)
    reason = "stopped at once" if interrupted else str(error) or type(error).__name__
    # whatever goes wrong here would hide the error that ended training
    with suppress(GainaktError, OSError):
        results = run.results(INTERRUPTED if interrupted else FAILED)
        results["reason"] = reason
        write_json(folder.results, results)
        if interrupted:
            console.say(f"interrupted: {reason}; next: gainakt resume {folder.shell_name}")
        else:
            console.note(f"failed: {reason}")  # the command line prints it
        write_readme(folder, run.config, results, run_checks(folder))


def finish(run: TrainingRun, results: dict[str, Any]) -> RunResult:
    """Write results.json, perform the ten checks and write the README with their outcome."""
    folder, config = run.folder, run.config
    write_json(folder.results, results)
    checks = run_checks(folder)
    write_readme(folder, config, results, checks)
    _conclude(run.console, folder, config, results, checks)
    return RunResult(folder, results, checks)


def _final_results(run: TrainingRun) -> dict[str, Any]:
    """Measure the best checkpoint on all validation students."""
    folder, config, learning = run.folder, run.config, run.learning
    best = load_checkpoint(folder.best)
    run.console.say(f"measuring the best checkpoint (epoch {best.epoch}) on validation students")
    predictor = Predictor.of(best.model(), config, run.device)
    figures = all_or_sample(
        predictor,
        learning.validation,
        config.interpretability.max_semantic_students,
        config.runtime.seed,
    )
    final = final_consistency(figures, config.evaluation.bootstrap_samples, config.runtime.seed)
    skills = learning.dataset.n_skills
    stated = "mastery" in config.outputs()
    asked = skills if stated else min(skills, MOST_SKILLS)
    final |= {"skills": asked, "skills_in_all": skills}
    if stated:
        validating = np.unique(learning.validation.students)
        turns, falls = window_turns(predictor, learning.dataset, validating)
        final |= {"window_turns": turns, "window_turns_with_a_fall": falls}
    if config.runtime.auto_shifted_eval:
        score_split(folder, predictor, learning.dataset, "valid", config.data)
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
                config, commands.from_folder(folder.path, dataset.path.resolve())
            ),
            "eval_command": commands.EVALUATE,
            "repro_command": commands.REPRODUCE,
        }
    )
    return config.model_copy(update={"runtime": runtime})


def _record_provenance(
    folder: RunFolder,
    config: Config,
    dataset: Dataset,
    device: torch.device,
    chosen: dict[str, Any],
) -> None:
    folder.write_config(config)
    data = commands.from_folder(folder.path, dataset.path.resolve())
    folder.write_script(commands.script(config, data))
    write_atomically(folder.seeds, seeds_page(config.seeds.primary, config.seeds.all).encode())
    environment = provenance.environment(config, device)
    write_json(folder.environment, environment | {"chosen_from_the_data": chosen})
    write_json(folder.data, provenance.data_record(dataset, folder.path))


def record_backend(folder: RunFolder, trainer: Trainer) -> None:
    """Say in environment.json in which way steps were carried out, as it turned out."""
    write_json(folder.environment, read_json(folder.environment) | {"step": trainer.backend})


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _announce(run: TrainingRun) -> None:
    dataset, config, console = run.learning.dataset, run.config, run.console
    counts = dataset.manifest["counts"]
    size = sum(p.numel() for p in run.model.parameters())
    console.say(f"folder: {run.folder.path}")
    console.say(
        f"data: {dataset.name}, {counted(counts['students'], 'student')}, "
        f"{counted(counts['interactions'], 'interaction')}, "
        f"{counted(dataset.n_skills, 'skill')}; fold {config.data.fold} validates"
    )
    console.say(
        f"model: {config.experiment.model}, {counted(size, 'parameter')}; device {run.device}, "
        f"{counted(torch.get_num_threads(), 'thread')}; seed {config.runtime.seed}"
    )
    if config.runtime.use_amp and (slower := bf16_slowdown(run.device) or 0.0) > 1:
        console.say(
            f"use_amp: this processor takes {slower:.1f} times longer in bf16 than in float32; "
            "without use_amp the run would be faster"
        )


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
        console.say(f"next: gainakt evaluate {folder.shell_name} --split test")
        console.say(f"      gainakt reproduce {folder.shell_name}")
    else:
        console.say(f"next: gainakt resume {folder.shell_name}")
