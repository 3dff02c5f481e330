"""A piece of an epoch: the training students of some steps, and a sample of validation students."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gainakt.config import Config, load_config
from gainakt.data.interactions import load_dataset
from gainakt.data.sequences import Sequences
from gainakt.data.vocabulary import Vocabulary
from gainakt.experiment.learning import Learning
from gainakt.machine import prepare_machine
from gainakt.models import build_model
from gainakt.training.loop import Trainer


@dataclass(frozen=True, eq=False)
class Piece:
    """What is trained and validated on, and what it stands for.

    epoch_steps: optimiser steps of the whole epoch.
    scale: from the kept validation interactions to all of them; `sequence_scale` from the kept
        sequences to all, for a model that pads every sequence to one length.
    """

    config: Config
    device: torch.device
    vocabulary: Vocabulary
    training: Sequences
    validation: Sequences
    epoch_steps: int
    scale: float
    sequence_scale: float

    @classmethod
    def of(
        cls,
        config: str,
        data: str,
        fold: int = 0,
        threads: int = 1,
        steps: int | None = None,
        sample: int | None = None,
    ) -> Piece:
        """Read the data and draw the piece; the same arguments give the same students.

        Args:
            config: a configuration by name or file; its teachers are left out.
            data: a prepared data set.
            fold: which validates.
            threads: of torch.
            steps: keep training sequences for so many steps and one of warm-up; None keeps all.
            sample: keep so many validation sequences; None keeps all.
        """
        overrides: dict[str, Any] = {"threads": threads, "fold": fold, "teachers": 0}
        settings = load_config(config, overrides)
        dataset = load_dataset(data)
        learning = Learning.of(settings, dataset)
        training, validation = learning.training, learning.validation
        size, rng = settings.training.batch_size, np.random.default_rng(0)
        epoch_steps, everything = math.ceil(len(training) / size), validation
        if steps is not None:
            training = training.take(rng.permutation(len(training))[: (steps + 1) * size])
        if sample is not None:
            validation = validation.take(rng.permutation(len(validation))[:sample])
        # a report of the loss waits for a GPU: one at the end, unless steps are timed one by one
        overrides["monitor_freq"] = 1 if steps else epoch_steps
        settings = load_config(config, overrides)
        return cls(
            settings,
            prepare_machine(*settings.machine),
            learning.vocabulary,
            training,
            validation,
            epoch_steps,
            float(everything.lengths.sum() / validation.lengths.sum()),
            len(everything) / len(validation),
        )

    def trainer(self) -> Trainer:
        """Return our trainer over the piece, its model fresh from the seed."""
        model = build_model(self.config, self.vocabulary).to(self.device)
        return Trainer(model, self.config, self.training, self.validation, self.device)
