"""A model reads packed rows as one graph, without a break, and compiled it computes the same.

What torch's compiler makes of the graph takes minutes a model and is tested where the environment
variable GAINAKT_COMPILE is set.
"""

from __future__ import annotations

import os

import pytest
import torch

from gainakt.models import build_model
from gainakt.training.backend import compiled
from tests.data.test_packing import SKILLS, config_of, losses_and_gradients, packed
from tests.helpers import random_students, sequences_of, vocabulary_of

slow = pytest.mark.skipif(
    "GAINAKT_COMPILE" not in os.environ, reason="takes minutes; set GAINAKT_COMPILE to run it"
)


@pytest.mark.filterwarnings("default")  # torch's compiler warns of itself
@pytest.mark.parametrize("name", ["gainakt2exp", "in_context"])
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=slow)])
def test_the_compiled_model_is_one_graph_and_computes_the_same(name: str, backend: str) -> None:
    torch.compiler.reset()
    batch = packed(sequences_of(*random_students([30, 40, 20, 50], SKILLS)))
    model = build_model(config_of(name), vocabulary_of(SKILLS)).train()
    expected, gradients = losses_and_gradients(name, model, batch)
    whole = compiled(model, backend)
    found, others = losses_and_gradients(name, model, batch, whole)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-5, rtol=1e-4, msg=key)
    for key, value in gradients.items():
        torch.testing.assert_close(others[key], value, atol=1e-5, rtol=1e-3, msg=key)
