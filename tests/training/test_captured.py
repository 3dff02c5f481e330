"""Recorded steps follow the plain ones; what goes wrong on the way leads back to them.

No GPU is needed: a recording made here calls the function again, so everything but CUDA's own part
runs (`test_gpu.py` has that).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gainakt.config import Config
from gainakt.data.batches import Batch
from gainakt.data.packing import Packing
from gainakt.errors import TrainingError
from gainakt.models import KnowledgeTracer, ModelOutput, build_model
from gainakt.objectives.schedule import EpochWeights, epoch_weights
from gainakt.record.checkpoint import load_state, save_state
from gainakt.training.backend import COMPILING_PAYS, compiles, why_plain
from gainakt.training.captured import WARM_UP, PackedSteps, structure_of
from gainakt.training.loop import Trainer
from gainakt.training.step import learning_rate_factor
from gainakt.training.steps import GraphedSteps
from tests.helpers import random_students, sequences_of, small_config, vocabulary_of

CPU = torch.device("cpu")
TRAINING = sequences_of(*random_students([4 + 5 * n % 23 for n in range(30)], seed=1))
VALIDATION = sequences_of(*random_students([8, 12, 15, 9, 20], seed=2))
STEPS = 8  # of an epoch: 30 sequences, 4 a step

# every objective, schedule and kind of state takes part within two epochs
EVENTFUL: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 4,
    "warmup_constraint_epochs": 1,
    "alignment_warmup_epochs": 1,
    "alignment_min_correlation": 0.9,
    "learning_rate": 0.003,
    "learning_rate_schedule": "cosine",
    "warmup_steps": 3,
    "weight_average": 0.8,
    "weight_average_warmup": True,
}
# every batch is under this floor: the sparsity weight moves from batch to batch
FLOOR = {"variance_floor": 1.0}
PLAIN: dict[str, Any] = {
    "enhanced_constraints": False,
    "enable_alignment_loss": False,
    "enable_global_alignment_pass": False,
    "enable_retention_loss": False,
    "enable_lag_gain_loss": False,
}


class Silent:
    """A recorder of nothing."""

    def on_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        assert math.isfinite(loss)

    def on_epoch(self, trainer: Trainer, improved: bool) -> None: ...

    def on_state(self, trainer: Trainer) -> None: ...


class Repeats:
    """Stands for CUDA's recordings: records nothing on the way, and repeats by calling again."""

    def __init__(self) -> None:
        self.recorded = 0

    def __call__(self, body: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1
        return body


def trainer_of(config: Config, model: KnowledgeTracer | None = None) -> Trainer:
    return Trainer(
        model or build_model(config, vocabulary_of(4)), config, TRAINING, VALIDATION, CPU
    )


def packed_trainer(
    config: Config,
    record: Callable[..., Any] | None = None,
    model: KnowledgeTracer | None = None,
) -> Trainer:
    """A trainer that takes its steps over packed rows, as on a GPU."""
    trainer = trainer_of(config, model)
    packing = Packing(
        TRAINING, config.model.seq_len, config.training.batch_size, config.runtime.seed
    )
    recorder = None if record is None else lambda: record
    packed = PackedSteps(trainer.step, packing, config, recorder)
    take_packed(trainer, packed)
    return trainer


def take_packed(trainer: Trainer, packed: PackedSteps) -> None:
    """Let a trainer take its steps over packed rows."""
    trainer.steps = GraphedSteps(
        trainer.step, TRAINING, trainer.steps.adaptive, lambda line: trainer.say(line), packed
    )


def packed_of(trainer: Trainer) -> PackedSteps:
    """What takes a trainer's steps over packed rows."""
    assert isinstance(trainer.steps, GraphedSteps) and trainer.steps.packed is not None
    return trainer.steps.packed


# A softmax ignores what a key's bias adds to all its scores: its gradient is rounding alone, and
# Adam makes whole steps of it.
ROUNDING = ("key.bias", "key_and_sizes.bias", "query_key_value.bias")


def assert_close_runs(found: Trainer, expected: Trainer) -> None:
    for name, value in expected.evaluated_model.state_dict().items():
        if name.endswith(ROUNDING):
            continue
        other = found.evaluated_model.state_dict()[name]
        torch.testing.assert_close(other, value, atol=1e-5, rtol=1e-4, msg=name)
    assert len(found.history.rows) == len(expected.history.rows)
    for row, other in zip(expected.history.rows, found.history.rows, strict=True):
        assert other == pytest.approx(row, abs=1e-3)
    for entry, other in zip(expected.history.trajectory, found.history.trajectory, strict=True):
        assert other["batch"].keys() == entry["batch"].keys()
        assert other["sparsity_weight"] == pytest.approx(entry["sparsity_weight"])
        assert [e["event"] for e in other["events"]] == [e["event"] for e in entry["events"]]
    steps = [
        trainer.step.optimizer.state_dict()["state"][0]["step"] for trainer in (found, expected)
    ]
    assert steps[0] == steps[1]


@pytest.mark.parametrize(
    "config",
    [
        small_config(**EVENTFUL),
        small_config(**EVENTFUL | FLOOR),
        small_config("gainsum", **EVENTFUL | {"optimizer": "adamw"}),
    ],
    ids=["gainakt2exp", "floor", "gainsum"],
)
def test_recorded_steps_follow_the_plain_ones(config: Config) -> None:
    plain = trainer_of(config)
    plain.run(Silent())
    recordings = Repeats()
    packed = packed_trainer(config, recordings)
    packed.run(Silent())
    assert recordings.recorded > 0
    assert packed_of(packed)
    assert_close_runs(packed, plain)
    if config.refinement.variance_floor == 1.0:
        assert packed.history.trajectory[-1]["sparsity_weight"] < 0.02


def test_every_shape_and_structure_is_recorded_once() -> None:
    recordings = Repeats()
    config = small_config(**EVENTFUL | {"epochs": 4, "alignment_warmup_epochs": 2})
    trainer = packed_trainer(config, recordings)
    assert packed_of(trainer).packing.shapes == [1]
    counts = []

    class Counting(Silent):
        def on_epoch(self, trainer: Trainer, improved: bool) -> None:
            counts.append(recordings.recorded)

    trainer.run(Counting())
    # retention begins in epoch 2, the adaptive weight and lag in 3; 4 is like 3
    assert counts == [1, 2, 3, 3]
    without = Repeats()
    packed_trainer(small_config("gainsum", **EVENTFUL | {"epochs": 3}), without).run(Silent())
    assert without.recorded == 1


class Breaking(KnowledgeTracer):
    """A model whose loss, or gradient alone, is not finite from some step on."""

    reads_packed_rows = True

    def __init__(self, sound_steps: int, *, in_gradient: bool) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.25))
        self.left, self.in_gradient = sound_steps, in_gradient

    def forward(self, batch: Batch) -> ModelOutput:
        """One weight for every step."""
        self.left -= 1
        logits = self.weight.expand(len(batch.valid))
        if self.left >= 0:
            return ModelOutput(logits)
        # sqrt has an infinite slope at 0, where its value is finite
        broken = (self.weight - self.weight.detach()).sqrt() if self.in_gradient else math.nan
        return ModelOutput(logits + broken)


@pytest.mark.parametrize("in_gradient", [False, True], ids=["loss", "gradient"])
@pytest.mark.parametrize("monitor", [1, 50])
def test_what_is_not_finite_stops_where_the_plain_step_stops(
    in_gradient: bool, monitor: int
) -> None:
    config = small_config(batch_size=4, weight_average=0.5, monitor_freq=monitor, **PLAIN)
    good = WARM_UP + 2
    trainers = [
        trainer_of(config, Breaking(good, in_gradient=in_gradient)),
        packed_trainer(config, Repeats(), Breaking(good, in_gradient=in_gradient)),
    ]
    messages = []
    for trainer in trainers:
        with pytest.raises(TrainingError) as caught:
            trainer.run(Silent())
        messages.append(str(caught.value))
    assert f"epoch 1, step {good + 1}:" in messages[0]
    assert messages[1] == messages[0]
    plain, packed = trainers
    for name, value in plain.evaluated_model.state_dict().items():
        torch.testing.assert_close(packed.evaluated_model.state_dict()[name], value)
        assert bool(value.isfinite().all())
    torch.testing.assert_close(packed.model.state_dict(), plain.model.state_dict())
    moments = [t.step.optimizer.state_dict()["state"][0] for t in trainers]
    torch.testing.assert_close(moments[1], moments[0])
    assert packed.step.average is not None and int(packed.step.average.n_averaged) == good


def test_a_recording_that_fails_leads_back_to_plain_steps() -> None:
    def fails(body: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    config = small_config(**EVENTFUL, use_amp=True)
    plain = trainer_of(config)
    plain.run(Silent())
    trainer, said = packed_trainer(config, fails), []
    trainer.say = said.append
    assert trainer.backend == "one CUDA graph per shape (1 shape), bf16"
    trainer.run(Silent())
    assert said == [f"step: {trainer.steps.backend}"]
    assert trainer.backend == (
        f"plain, since epoch 1, step {WARM_UP + 1}: "
        "operation not permitted when stream is capturing, bf16"
    )
    assert isinstance(trainer.steps, GraphedSteps) and trainer.steps.packed is None
    assert not hasattr(trainer.step.optimizer, "found_inf")
    assert isinstance(trainer.step.optimizer.param_groups[0]["lr"], float)
    assert len(trainer.history.rows) == 2
    assert trainer.history.rows[-1]["val_auc"] == pytest.approx(
        plain.history.rows[-1]["val_auc"], abs=0.02
    )


@pytest.mark.parametrize("failing", range(1, WARM_UP + 2))
@pytest.mark.parametrize("moved", [False, True])
def test_no_step_is_taken_twice_wherever_one_fails(
    failing: int, moved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that fails after its weights have moved is undone before it is taken plainly."""
    config = small_config(batch_size=4, weight_average=0.5, **PLAIN)
    plain = trainer_of(config)
    plain.run(Silent())
    trainer = packed_trainer(config, Repeats())
    packed = packed_of(trainer)
    taken, advance = iter(range(1, 10**6)), packed._advance

    def fails(rows: int) -> None:
        if next(taken) != failing:
            return advance(rows)
        if moved:
            advance(rows)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(packed, "_advance", fails)
    trainer.run(Silent())
    assert "out of memory" in trainer.backend
    assert_close_runs(trainer, plain)
    assert trainer.step.average is not None and plain.step.average is not None
    assert int(trainer.step.average.n_averaged) == int(plain.step.average.n_averaged)


def test_a_mistake_in_the_program_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = packed_trainer(small_config(**PLAIN), Repeats())

    def mistaken(rows: int) -> None:
        raise TypeError("no such argument")

    monkeypatch.setattr(packed_of(trainer), "_advance", mistaken)
    with pytest.raises(TypeError, match="no such argument"):
        trainer.run(Silent())


def test_a_change_of_any_weight_is_recorded_anew_or_carried_by_a_tensor() -> None:
    given = EpochWeights(0.7, 0.3, 0.2, True, 0.01, 0.4, True)
    for f in fields(EpochWeights):
        value = getattr(given, f.name)
        for other in (None, 0.0, 0.5, not value):
            changed = replace(given, **{f.name: other})
            number = type(other) is float and type(value) is float and bool(other)
            assert (structure_of(changed) == structure_of(given)) == (number or other is value)


def test_a_compiler_that_fails_leads_back_to_the_model_itself() -> None:
    def fails(batch: Batch) -> ModelOutput:
        raise RuntimeError("no C compiler")

    config = small_config(**EVENTFUL)
    plain = packed_trainer(config, Repeats())
    plain.run(Silent())
    trainer, said = packed_trainer(config, Repeats()), []
    trainer.step.read, trainer.say = fails, said.append
    assert trainer.backend.endswith(", compiled")
    trainer.run(Silent())
    assert said == ["step: not compiled from here on (epoch 1, step 1: no C compiler)"]
    assert trainer.backend == "one CUDA graph per shape (1 shape)"
    assert trainer.history.rows == plain.history.rows


def test_a_packed_run_stopped_at_any_step_goes_on(tmp_path: Path) -> None:
    config = small_config(**EVENTFUL, dropout=0.2)
    whole = packed_trainer(config)
    assert whole.run(Silent())
    for steps in (1, STEPS - 1, STEPS, STEPS + 3):
        left = iter(range(steps - 1, -1, -1))
        stopped = packed_trainer(config)
        assert not stopped.run(Silent(), lambda left=left: next(left) == 0)
        save_state(tmp_path / "state.pt", stopped.state())
        resumed = trainer_of(config)
        resumed.restore(load_state(tmp_path / "state.pt"))
        packing = packed_of(packed_trainer(config)).packing
        take_packed(resumed, PackedSteps(resumed.step, packing, config))
        assert resumed.run(Silent())
        assert resumed.history.rows == whole.history.rows
        for name, value in whole.evaluated_model.state_dict().items():
            assert torch.equal(resumed.evaluated_model.state_dict()[name], value)


def test_a_state_passes_between_the_ways(tmp_path: Path) -> None:
    config = small_config(**EVENTFUL)
    plain = trainer_of(config)
    plain.run(Silent())
    left = iter(range(3, -1, -1))
    stopped = packed_trainer(config)
    stopped.run(Silent(), lambda: next(left) == 0)
    save_state(tmp_path / "state.pt", stopped.state())
    resumed = trainer_of(config)
    resumed.restore(load_state(tmp_path / "state.pt"))
    resumed.run(Silent())
    assert_close_runs(resumed, plain)


def test_the_learning_rates_of_an_epoch_are_the_schedules() -> None:
    config = small_config(**EVENTFUL)
    packed = packed_of(packed_trainer(config))
    trainer = trainer_of(config)
    weights = epoch_weights(config, trainer.schedule, 2)
    packed.begin(2, 0, weights, trainer.steps.adaptive)
    total = config.training.epochs * STEPS
    expected = [
        config.training.learning_rate * learning_rate_factor(STEPS + n, total, config.training)
        for n in range(STEPS)
    ]
    torch.testing.assert_close(packed.rates, torch.tensor(expected))


def test_why_steps_are_plain() -> None:
    gpu = torch.device("cuda")
    config = small_config()
    model = build_model(config, vocabulary_of(4))
    assert why_plain(model, config, CPU) == "on the CPU"
    assert why_plain(model, config, gpu) is None
    assert why_plain(model, small_config(cuda_graphs="off"), gpu) == "as configured"
    dkt = small_config("dkt")
    assert "dkt does not read packed rows" in str(
        why_plain(build_model(dkt, vocabulary_of(4)), dkt, gpu)
    )
    assert trainer_of(config).backend == "plain, on the CPU"
    assert trainer_of(small_config(use_amp=True)).backend == "plain, on the CPU, bf16"


def test_compiling_waits_for_runs_that_are_long_enough() -> None:
    assert not compiles(small_config(), COMPILING_PAYS - 1)
    assert compiles(small_config(), COMPILING_PAYS)
    assert compiles(small_config(compile="on"), 1)
    assert not compiles(small_config(compile="off"), COMPILING_PAYS)


class Refuses(TorchDispatchMode):
    """Lets no operation pass that a GPU cannot perform without the host, or the host without it."""

    # to read a value, to count before a shape is known, to bring a value from the host
    waits = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "lift_fresh")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket.__name__ not in self.waits, func
        if func.overloadpacket.__name__ == "index":
            assert all(i is None or i.dtype != torch.bool for i in args[1]), "indexed by bool"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("model", ["gainakt2exp", "gainsum"])
def test_a_step_neither_reads_nor_brings_a_value(model: str, dropout: float) -> None:
    trainer = packed_trainer(small_config(model, **EVENTFUL, dropout=dropout))
    packed = packed_of(trainer)
    weights = EpochWeights(0.7, 0.3, 0.2, True, 0.01, 0.4, True)
    packed.begin(1, 0, weights, trainer.steps.adaptive)
    packed.take(0)
    with Refuses():
        packed.take(1)
    packed.check()
    with pytest.raises(AssertionError, match="_local_scalar_dense"), Refuses():
        packed.check()
