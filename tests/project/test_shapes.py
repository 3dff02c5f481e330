"""Shapes and kinds of numbers at the boundaries of modules are what their annotations say."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gainakt.config import MODELS

# In a process of its own, for modules can be checked only as they are first imported.
CHECKED = """
import sys
from jaxtyping import install_import_hook

checked = ["gainakt.models.interface", "gainakt.objectives", "gainakt.data.batches"]
with install_import_hook(checked, "beartype.beartype"):
    import gainakt.models.interface, gainakt.objectives.total, gainakt.data.batches
import torch
from tests.helpers import batch_of, random_students, small_config, vocabulary_of
"""
TRAIN = """
from tests.models.test_contract import _Nothing
from gainakt.data.simulate import simulate
from gainakt.data.interactions import load_dataset
from gainakt.experiment.learning import Learning

data = load_dataset(simulate(sys.argv[2], students=60, skills=4, seed=1).path)
config = small_config(sys.argv[1], epochs=1, batch_size=16)
trainer = Learning.of(config, data).trainer(config, torch.device("cpu"))
assert trainer.run(_Nothing())
"""
WRONG = """
from gainakt.models.interface import ModelOutput
from gainakt.objectives.statistics import masked_mean

batch = batch_of(*random_students([5, 7]))
wrong = {
    "length": lambda: masked_mean(torch.zeros(3), batch.has_next),
    "kind": lambda: ModelOutput(torch.zeros(12, dtype=torch.int64)),
    "axes": lambda: ModelOutput(torch.zeros(12), mastery=torch.zeros(12)),
}
try:
    wrong[sys.argv[1]]()
except Exception as error:
    print(type(error).__name__)
"""


def child(code: str, *words: str) -> str:
    command = [sys.executable, "-c", CHECKED + code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("name", MODELS)
def test_a_training_keeps_to_the_shapes(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    child(TRAIN, name, str(tmp_path_factory.mktemp("shapes") / "data"))


@pytest.mark.parametrize("what", ["length", "kind", "axes"])
def test_a_wrong_shape_is_seen(what: str) -> None:
    assert "TypeCheckError" in child(WRONG, what)
