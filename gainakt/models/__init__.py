"""The models, and the one way that a model comes to be.

A new model is one file with a `build` function, its parameters in `gainakt.config`, and one line
in the registry below.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from gainakt.config import Config
from gainakt.errors import ConfigError
from gainakt.models import dkt, gainakt2exp
from gainakt.models.gainsum import model as gainsum
from gainakt.models.interface import KnowledgeTracer, ModelOutput

__all__ = ["BUILDERS", "KnowledgeTracer", "ModelOutput", "build_model"]

BUILDERS: dict[str, Callable[[Config, int], KnowledgeTracer]] = {
    "gainakt2exp": gainakt2exp.build,
    "dkt": dkt.build,
    "gainsum": gainsum.build,
}


def build_model(config: Config, n_skills: int) -> KnowledgeTracer:
    """Build the configured model with initial weights drawn from `runtime.seed` alone.

    Args:
        config: the complete configuration.
        n_skills: K, the number of skills in the data set.

    Raises:
        ConfigError: there is no skill to model.
    """
    if n_skills < 1:
        raise ConfigError("the data set has no skills; a model needs at least 1")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.runtime.seed)
        return BUILDERS[config.experiment.model](config, n_skills)
