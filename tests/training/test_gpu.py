"""What only a GPU can show: recordings that repeat to the bit, and steps that never wait.

Skipped where there is none; `test_captured.py` tests all that goes without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from gainakt.config import Config
from gainakt.evaluation.predictor import Predictor, Reading
from gainakt.machine import prepare_machine
from gainakt.models import build_model
from gainakt.objectives.schedule import epoch_weights
from gainakt.training.backend import packed_steps
from gainakt.training.captured import WARM_UP, PackedSteps
from gainakt.training.loop import Trainer
from gainakt.training.steps import PlainSteps
from tests.helpers import predictor_of, small_config, vocabulary_of
from tests.training.test_captured import (
    EVENTFUL,
    STEPS,
    TRAINING,
    VALIDATION,
    Silent,
    assert_close_runs,
    packed_of,
    take_packed,
)

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="this machine has no GPU that torch can use"
)
CONFIGS = {
    "gainakt2exp": small_config(**EVENTFUL, dropout=0.2, devices="cuda", compile="off"),
    "gainsum": small_config("gainsum", **EVENTFUL, dropout=0.2, devices="cuda", compile="off"),
    "bf16": small_config(**EVENTFUL, dropout=0.2, devices="cuda", compile="off", use_amp=True),
}
every_config = pytest.mark.parametrize("config", list(CONFIGS.values()), ids=list(CONFIGS))


@pytest.fixture(autouse=True)
def machine() -> Iterator[None]:
    """Prepare the machine as a run does, and leave it as it was."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    prepare_machine(*CONFIGS["gainakt2exp"].machine)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def trainer_of(config: Config, *, recorded: bool) -> Trainer:
    device = torch.device("cuda")
    model = build_model(config, vocabulary_of(4)).to(device)
    trainer = Trainer(model, config, TRAINING, VALIDATION, device)
    if not recorded:
        packed = packed_steps(trainer.step, config, TRAINING, trainer.say)
        one_by_one = PackedSteps(trainer.step, packed.packing, config, stream=packed.stream)
        take_packed(trainer, one_by_one)
    return trainer


def states(trainer: Trainer) -> dict[str, Any]:
    return {**trainer.model.state_dict(), **trainer.evaluated_model.state_dict()}


@every_config
def test_a_recording_repeats_the_steps_to_the_bit(config: Config) -> None:
    recorded, one_by_one = (trainer_of(config, recorded=value) for value in (True, False))
    for trainer in (recorded, one_by_one):
        trainer.say = lambda line: pytest.fail(line)
        trainer.run(Silent())
    assert packed_of(recorded)._recorded
    assert recorded.backend.startswith("one CUDA graph per shape (1 shape)")
    for name, value in states(one_by_one).items():
        assert torch.equal(states(recorded)[name], value), name
    assert recorded.history.rows == one_by_one.history.rows


@every_config
def test_recorded_steps_follow_the_plain_ones(config: Config) -> None:
    # other layouts draw other dropout
    config = config.model_copy(update={"model": config.model.model_copy(update={"dropout": 0.0})})
    plain = trainer_of(config, recorded=True)
    plain.steps = PlainSteps(plain.step, TRAINING, plain.steps.adaptive, "for this test")
    recorded = trainer_of(config, recorded=True)
    for trainer in (plain, recorded):
        trainer.run(Silent())
    assert packed_of(recorded)
    if config.runtime.use_amp:
        for row, other in zip(plain.history.rows, recorded.history.rows, strict=True):
            assert other["train_loss"] == pytest.approx(row["train_loss"], rel=0.02)
    else:
        assert_close_runs(recorded, plain)


@every_config
def test_the_steps_of_an_epoch_never_wait(config: Config) -> None:
    trainer = trainer_of(config, recorded=True)
    packed = packed_steps(trainer.step, config, TRAINING, trainer.say)
    weights = epoch_weights(config, trainer.schedule, 1)
    packed.begin(1, 0, weights, trainer.steps.adaptive)
    for number in range(WARM_UP + 1):
        packed.take(number)
    packed.check()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in range(WARM_UP + 1, STEPS):
            packed.take(number)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    packed.check()
    assert trainer.progress.steps == STEPS


def test_a_compiled_recording_gives_equal_results() -> None:
    plain, compiled = (
        trainer_of(small_config(**EVENTFUL, devices="cuda", compile=choice), recorded=True)
        for choice in ("off", "on")
    )
    compiled.say = lambda line: pytest.fail(line)
    for trainer in (plain, compiled):
        trainer.run(Silent())
    assert compiled.backend.endswith(", compiled")
    assert_close_runs(compiled, plain)


def test_a_readout_waits_once() -> None:
    config = CONFIGS["gainakt2exp"]
    model = build_model(config, vocabulary_of(4))
    expected = predictor_of(model).read(VALIDATION)
    found = Predictor(model.cuda(), Reading(64, 20), torch.device("cuda")).read(VALIDATION)
    for name, value in vars(expected).items():
        torch.testing.assert_close(
            torch.from_numpy(vars(found)[name]),
            torch.from_numpy(value),
            atol=1e-4,
            rtol=1e-4,
            equal_nan=True,
        )


def test_soft_answers_are_learnt_on_the_gpu_too() -> None:
    config = CONFIGS["gainsum"]
    trainer = trainer_of(config, recorded=True)
    trainer.training = replace(TRAINING, soft_answers=TRAINING.rows.response * 0.5 + 0.25)
    trainer.run(Silent())
    assert packed_of(trainer).columns.target.dtype.is_floating_point
