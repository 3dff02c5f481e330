"""A finished run taken up again: its best checkpoint, data and device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from gainakt.config import Config
from gainakt.data.interactions import Dataset
from gainakt.errors import DataError
from gainakt.evaluation.predictor import Predictor
from gainakt.evaluation.protocol import check_skills, coded
from gainakt.machine import prepare_machine
from gainakt.record.checkpoint import Checkpoint, load_checkpoint
from gainakt.record.folder import RunFolder
from gainakt.record.records import data_problems, recorded_data


@dataclass(frozen=True, eq=False)
class OpenRun:
    """What a run needs to predict.

    stored: the data with their own codes of skills. same_data: whether these are the data that it
    learnt from.
    """

    checkpoint: Checkpoint
    stored: Dataset
    device: torch.device
    same_data: bool

    @cached_property
    def dataset(self) -> Dataset:
        """The data coded with the model's vocabulary, a row for each step that it reads."""
        return self.predictor.steps_of(coded(self.stored, self.checkpoint.vocabulary))

    @cached_property
    def predictor(self) -> Predictor:
        """The best checkpoint, ready to read."""
        return Predictor.of(self.checkpoint.model(), self.checkpoint.config, self.device)

    def name_of(self, split: str) -> str:
        """Name a split in files: figures on other data never take the place of the run's own."""
        return split if self.same_data else f"{split}_on_{self.stored.name}"


def open_run(folder: RunFolder, data: Path | None = None) -> OpenRun:
    """Load a run's best checkpoint with its data, on the device at hand.

    Args:
        folder: the run.
        data: a prepared data set in place of the recorded one.

    Raises:
        DataError: the recorded data are gone or changed, or have skills unknown to the model.
        ExperimentError: the folder is damaged.
    """
    checkpoint = load_checkpoint(folder.best)
    dataset = recorded_data(folder, data)
    problems = data_problems(folder, dataset)
    if data is None and problems:
        raise DataError(f"{problems[0]}; to evaluate on other data, name them with --data")
    check_skills(dataset, checkpoint.vocabulary)
    device = prepare_machine(*_anywhere(checkpoint.config).machine)
    return OpenRun(checkpoint, dataset, device, not problems)


def _anywhere(config: Config) -> Config:
    """A model trained on a GPU may be evaluated where there is none."""
    hardware = config.hardware.model_copy(update={"devices": "auto"})
    return config.model_copy(update={"hardware": hardware})
