"""What is kept while a model trains: checkpoints, metrics, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gainakt.config import Config
from gainakt.data.interactions import Dataset
from gainakt.evaluation.beginners import first_answers
from gainakt.experiment.console import RunConsole, duration
from gainakt.files import file_hash
from gainakt.models import KnowledgeTracer
from gainakt.record.checkpoint import Checkpoint, save_checkpoint, save_state
from gainakt.record.folder import RUNNING, RunFolder, write_json
from gainakt.training.loop import History, Trainer

# Shares are counted over at most about so many rows: more would move them by less than rounding.
ENOUGH_ROWS = 1 << 20


class FolderRecorder:
    """Writes what the training loop reports into the experiment folder, epoch by epoch."""

    def __init__(
        self,
        folder: RunFolder,
        config: Config,
        dataset: Dataset,
        console: RunConsole,
        track: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.folder = folder
        self.config = config
        self.first_answers = training_first_answers(config, dataset)
        self.console = console
        self.track = track

    def on_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Show progress."""
        self.console.step(epoch, self.config.training.epochs, step, steps, loss)

    def on_epoch(self, trainer: Trainer, improved: bool) -> None:
        """Save checkpoints and metrics; the state comes last, for it says how far the run is."""
        checkpoint = Checkpoint(
            self.config,
            trainer.model.vocabulary,
            trainer.epoch,
            trainer.evaluated_model.state_dict(),
            self.first_answers,
        )
        if improved:
            save_checkpoint(self.folder.best, checkpoint)
        save_checkpoint(self.folder.last, checkpoint)
        self.folder.write_metrics(trainer.history.rows)
        write_json(self.folder.trajectory, trainer.history.trajectory)
        results = summarise(self.folder, self.config, trainer.model, trainer.history, RUNNING)
        write_json(self.folder.results, results)
        self.on_state(trainer)
        self.track(trainer.history.rows[-1])
        say_epoch(self.console, trainer, improved)

    def on_state(self, trainer: Trainer) -> None:
        """Save what resuming needs."""
        save_state(self.folder.state, trainer.state() | {"run": self.config.experiment.id})


class BestEpoch:
    """Keeps the weights of the epoch with the best validation AUC in memory.

    Args:
        console: where to report.
    """

    def __init__(self, console: RunConsole) -> None:
        self.console = console
        self.checkpoint: Checkpoint | None = None

    def on_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Say nothing: such a model is trained in a few lines."""

    def on_epoch(self, trainer: Trainer, improved: bool) -> None:
        """Keep the weights if they are the best."""
        say_epoch(self.console, trainer, improved)
        if improved:
            weights = trainer.evaluated_model.state_dict()
            copies = {name: w.detach().cpu().clone() for name, w in weights.items()}
            self.checkpoint = Checkpoint(
                trainer.config, trainer.model.vocabulary, trainer.epoch, copies
            )

    def on_state(self, trainer: Trainer) -> None:
        """Save nothing: training that is stopped begins anew."""


def say_epoch(console: RunConsole, trainer: Trainer, improved: bool) -> None:
    """Say how the epoch that has just ended went."""
    row = trainer.history.rows[-1]
    correlations = "".join(
        f"  {short} {row[name]:+.4f}"
        for short, name in (("mastery", "mastery_correlation"), ("gain", "gain_correlation"))
        if row[name] is not None
    )
    auc = "" if row["train_auc"] is None else f"  AUC {row['train_auc']:.5f}"
    console.say(
        f"epoch {trainer.epoch}/{trainer.epochs} done in "
        f"{duration(trainer.history.seconds[-1])}: train loss {row['train_loss']:.5f}{auc}"
        f" | validation loss {row['val_loss']:.5f}  "
        f"AUC {row['val_auc']:.5f}  accuracy {row['val_accuracy']:.5f}{correlations}"
        f"{'  (best so far)' if improved else ''}"
    )
    for event in trainer.history.trajectory[-1]["events"]:
        console.say(
            f"  {event['event']}: {event['parameter']} {event['from']:g} -> {event['to']:g}"
        )


def training_first_answers(config: Config, dataset: Dataset) -> tuple[float, ...]:
    """Return what to expect of a student's first answer to each skill, from training students."""
    students = dataset.students("train", config.data.fold, config.data.test_fold)
    counted = np.searchsorted(np.cumsum(np.diff(dataset.offsets)[students]), ENOUGH_ROWS)
    return tuple(first_answers(dataset.part(students[: counted + 1])).tolist())


def summarise(
    folder: RunFolder, config: Config, model: KnowledgeTracer, history: History, status: str
) -> dict[str, Any]:
    """Return what results.json says of a run at this moment."""
    best = history.best
    return {
        "status": status,
        "epochs": len(history.rows),
        "best_epoch": best["epoch"] if best else None,
        "best": best,
        "has_mastery": "mastery" in config.outputs(),
        "mastery_corr": None,
        "gain_corr": None,
        "parameters": sum(p.numel() for p in model.parameters()),
        "checkpoints": {
            path.name: file_hash(path) for path in (folder.best, folder.last) if path.is_file()
        },
        "seconds": {"epochs": [round(s, 3) for s in history.seconds]},
    }
