"""One recipe for any data: what a configuration leaves open is chosen from how much there is.

The numbers were chosen once, on validation students of four data sets (see docs/LOG.md).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from gainakt.config import Config
from gainakt.data.interactions import Dataset

# Optimiser steps a model is worth, where every student trained it. Fewer learn too little of small
# data; more of them than MOST_STEPS are for those who ask for them.
STEPS = 2_240
MOST_STEPS = 25_000
EPOCHS = range(2, 31)
# Passes in which the data are seen where their size leaves the choice.
USUAL_EPOCHS = 8
# Powers of two: students who come or go change little.
BATCH_SIZES = (4, 8, 16, 32, 64, 128)


class Choice(NamedTuple):
    """What is chosen from the data: see the parameters of the group `training`."""

    batch_size: int
    epochs: int
    patience: int


def choose(sequences: int) -> Choice:
    """Return the training that suits a data set of so many sequences, test students and all.

    A budget in steps decides, not one in epochs: 8 epochs of `STEPS` steps in all where batches can
    be made to fit; more epochs of the smallest batches for few students, fewer of the largest for
    very many.
    """
    wanted = sequences * USUAL_EPOCHS / STEPS
    batch_size = min(BATCH_SIZES, key=lambda size: abs(math.log(size / max(wanted, 1e-9))))
    per_epoch = max(sequences / batch_size, 1.0)
    epochs = USUAL_EPOCHS
    if batch_size == BATCH_SIZES[0]:
        epochs = max(epochs, math.ceil(STEPS / per_epoch))
    elif batch_size == BATCH_SIZES[-1]:
        epochs = min(epochs, int(MOST_STEPS / per_epoch))
    epochs = min(max(epochs, EPOCHS[0]), EPOCHS[-1])
    return Choice(batch_size, epochs, max(2, epochs // 4))


def adapted(config: Config, dataset: Dataset) -> tuple[Config, dict[str, Any]]:
    """Return the configuration with what it leaves open chosen, and what was chosen.

    It depends on the data set alone, not on the fold: the runs of a cross-validation are alike.

    Args:
        config: in which parameters may be "auto".
        dataset: what is to be learnt from.
    """
    lengths = dataset.offsets[1:] - dataset.offsets[:-1]
    pieces = int((-(-lengths // config.model.seq_len)).sum())
    has_times = dataset.rows.time is not None
    choices = {
        "training": choose(pieces)._asdict(),
        "model": {"forgetting": "on" if has_times else "off"},
    }
    groups: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    for group, choice in choices.items():
        current = getattr(config, group)
        left = {n: value for n, value in choice.items() if getattr(current, n, None) == "auto"}
        groups[group] = current.model_copy(update=left)
        chosen |= left
    return config.model_copy(update=groups), chosen
