"""The models, and the one way that a model comes to be.

A new model is one file with a `build` function, and its entry in `gainakt.config.models.MODELS`.
"""

from __future__ import annotations

from importlib import import_module

import torch

from gainakt.config import MODELS, Config
from gainakt.data.vocabulary import Vocabulary
from gainakt.errors import ConfigError
from gainakt.models.interface import KnowledgeTracer, ModelOutput

__all__ = ["KnowledgeTracer", "ModelOutput", "build_model"]


def build_model(config: Config, vocabulary: Vocabulary) -> KnowledgeTracer:
    """Build the configured model with initial weights drawn from `runtime.seed` alone.

    Args:
        config: the complete configuration.
        vocabulary: what the model can name.

    Raises:
        ConfigError: there is no skill to model.
    """
    if not vocabulary.n_skills:
        raise ConfigError("the data set has no skills; a model needs at least 1")
    build = import_module(MODELS[config.experiment.model].module).build
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.runtime.seed)
        model: KnowledgeTracer = build(config, vocabulary)
    model.vocabulary = vocabulary
    return model
