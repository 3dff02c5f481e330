"""The training loop: what an epoch reports, when it stops, and that a resumed run never notices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gainakt.config import Config, load_config
from gainakt.data.batches import Batch, training_batches
from gainakt.errors import TrainingError
from gainakt.machine import precision, prepare_machine, seed_step, select_device
from gainakt.models import KnowledgeTracer, ModelOutput, build_model
from gainakt.objectives.total import TERMS, Losses
from gainakt.record.checkpoint import load_state, save_state
from gainakt.training.loop import Trainer
from gainakt.training.progress import UNSCORED, EpochProgress, Figures
from gainakt.training.step import average_share, learning_rate_factor
from tests.helpers import (
    METRIC_COLUMNS,
    random_students,
    sequences_of,
    small_config,
    vocabulary_of,
)

CPU = torch.device("cpu")
TRAINING = sequences_of(*random_students([4, 6, 9, 10, 3, 12, 7, 8, 5, 11], seed=1))
VALIDATION = sequences_of(*random_students([8, 12, 15, 9, 20], seed=2))
STEPS = 3  # of an epoch: 10 sequences, 4 a step

# everything that can happen in a run happens within three epochs
# A weight to look at.
WATCHED = "predict.0.bias"
EVENTFUL: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 4,
    "dropout": 0.2,
    "warmup_constraint_epochs": 1,
    "alignment_warmup_epochs": 1,
    "consistency_rebalance_epoch": 2,
    "consistency_rebalance_threshold": 1.0,
    "alignment_min_correlation": 0.9,
    "learning_rate": 0.01,
}


class Notes:
    """A recorder that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, int]] = []
        self.improved: list[bool] = []
        self.saved: list[tuple[int, int]] = []

    def on_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        assert math.isfinite(loss)
        self.steps.append((epoch, step, steps))

    def on_epoch(self, trainer: Trainer, improved: bool) -> None:
        self.improved.append(improved)

    def on_state(self, trainer: Trainer) -> None:
        self.saved.append((trainer.epoch, trainer.progress.steps))


def trainer_of(config: Config, **arguments: Any) -> Trainer:
    return Trainer(
        build_model(config, vocabulary_of(4)), config, TRAINING, VALIDATION, CPU, **arguments
    )


def stop_after(steps: int) -> Callable[[], bool]:
    """Say stop when asked for the `steps`-th time; the loop asks after every step."""
    count = itertools.count(1)
    return lambda: next(count) >= steps


def everything(trainer: Trainer) -> dict[str, Any]:
    """What must not differ between a run and the same run resumed."""
    state = trainer.state()
    del state["history"]["seconds"]
    return state


def assert_identical(found: Any, expected: Any, where: str = "") -> None:
    """Compare to the last bit, through all containers."""
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_identical(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for index, pair in enumerate(zip(found, expected, strict=True)):
            assert_identical(*pair, f"{where}[{index}]")
    elif isinstance(expected, Tensor):
        assert torch.equal(found, expected), where
    else:
        assert found == expected or (found != found and expected != expected), where


def test_an_epoch_reports_every_column_of_the_specification() -> None:
    trainer, notes = trainer_of(small_config(**EVENTFUL, monitor_freq=2)), Notes()
    assert trainer.run(notes)
    assert trainer.finished and trainer.epoch == 3
    assert notes.steps == [(1, 2, STEPS), (2, 2, STEPS), (3, 2, STEPS)]
    for epoch, row in enumerate(trainer.history.rows, start=1):
        assert list(row)[: len(METRIC_COLUMNS)] == METRIC_COLUMNS
        assert row["epoch"] == epoch
        assert all(math.isfinite(row[name]) for name in METRIC_COLUMNS)
        assert sum(row[f"{name}_loss_share"] for name in TERMS) == pytest.approx(1.0)
        assert 0 <= row["val_auc"] <= 1 and 0 <= row["train_auc"] <= 1
        # shares are of the very terms that are reported, and these sum to the loss
        terms = [row[f"{name}_loss"] for name in TERMS]
        assert sum(terms) == pytest.approx(row["train_loss"])
        for name, value in zip(TERMS, terms, strict=True):
            assert row[f"{name}_loss_share"] == pytest.approx(value / row["train_loss"])
    # lag and retention have begun
    assert [row["lag_loss"] != 0 for row in trainer.history.rows] == [False, False, True]
    assert trainer.history.rows[0]["retention_loss"] == 0


def test_the_trajectory_follows_the_schedules() -> None:
    trainer = trainer_of(small_config(**(EVENTFUL | {"warmup_constraint_epochs": 2})))
    trainer.run(Notes())
    entries = trainer.history.trajectory
    assert [entry["warmup_scale"] for entry in entries] == [0.5, 1.0, 1.0]
    assert [entry["consistency_weight"] for entry in entries] == [0.3, 0.2, 0.2]
    names = [[event["event"] for event in entry["events"]] for entry in entries]
    assert "consistency_rebalance" not in names[0]
    assert "consistency_rebalance" in names[1]
    peaks = [entry["peak"] for entry in entries]
    correlations = [entry["global"]["mastery_correlation"] for entry in entries]
    assert peaks == [max(correlations[: n + 1]) for n in range(3)]
    for entry in entries:
        assert len(entry["batch"]["lag_correlations"]) == 3
        variance = entry["batch"]["mastery_variance"]
        assert variance["min"] <= variance["mean"] <= variance["max"]
        assert {"mastery_correlation", "gain_correlation"} <= set(entry["batch"])


def test_variance_floor_is_told_once_an_epoch() -> None:
    # every batch is under this floor: with three steps an epoch, one reduction an epoch
    trainer = trainer_of(small_config(**EVENTFUL, variance_floor=1.0))
    trainer.run(Notes())
    told = [
        event
        for entry in trainer.history.trajectory
        for event in entry["events"]
        if event["event"] == "variance_floor"
    ]
    assert [event["epoch"] for event in told] == [1, 2, 3]
    assert [event["parameter"] for event in told] == ["sparsity_weight"] * 3
    assert [event["from"] for event in told] == pytest.approx([0.2, 0.1, 0.05])
    assert [event["to"] for event in told] == pytest.approx([0.1, 0.05, 0.025])
    assert all(row["alignment_loss"] == 0 for row in trainer.history.rows)


def test_training_learns() -> None:
    """Skill 0 is always answered right and skill 1 wrong: the loop must find that out."""
    students = [[(skill, 1 - skill) for skill, _ in s] for s in random_students([12] * 12, 2)]
    sequences = sequences_of(*students)
    config = small_config(epochs=12, batch_size=4, learning_rate=0.02)
    trainer = Trainer(build_model(config, vocabulary_of(2)), config, sequences, sequences, CPU)
    trainer.run(Notes())
    assert trainer.history.rows[-1]["val_auc"] > 0.99


def test_two_runs_are_identical() -> None:
    first, second = (trainer_of(small_config(**EVENTFUL)) for _ in range(2))
    first.run(Notes())
    torch.manual_seed(999)
    second.run(Notes())
    assert_identical(everything(second), everything(first))
    other = trainer_of(small_config(**EVENTFUL, seed=43))
    other.run(Notes())
    assert other.history.rows != first.history.rows


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"weight_average": 0.9},
        {"weight_average": 0.9, "weight_average_warmup": True},
        # the weight that moves from batch to batch, and is reported when it did
        {"variance_floor": 1.0, "variance_floor_patience": 2},
        {"optimizer": "adamw", "learning_rate_schedule": "cosine", "warmup_steps": 4},
    ],
    ids=["plain", "weight_average", "warmed_up_average", "variance_floor", "adamw"],
)
def test_a_run_stopped_at_any_step_goes_on_to_the_last_bit(
    overrides: dict[str, Any], tmp_path: Path
) -> None:
    config = small_config(**EVENTFUL, **overrides)
    whole = trainer_of(config)
    assert whole.run(Notes())
    for steps in range(1, 3 * STEPS):
        stopped = trainer_of(config)
        assert not stopped.run(Notes(), stop_after(steps))
        assert stopped.epoch * STEPS + stopped.progress.steps == steps
        save_state(tmp_path / "state.pt", stopped.state())
        torch.manual_seed(steps)
        resumed = trainer_of(config)
        resumed.restore(load_state(tmp_path / "state.pt"))
        assert resumed.run(Notes())
        assert_identical(everything(resumed), everything(whole), f"after step {steps}")
        evaluated = resumed.evaluated_model.state_dict()
        assert_identical(dict(evaluated), dict(whole.evaluated_model.state_dict()))


def test_a_run_stopped_after_its_last_step_only_ends_its_epoch(tmp_path: Path) -> None:
    config = small_config(**EVENTFUL)
    stopped = trainer_of(config)
    stopped.run(Notes(), stop_after(3 * STEPS))
    assert stopped.epoch == 2 and stopped.progress.steps == STEPS
    weights = {name: w.clone() for name, w in stopped.model.state_dict().items()}
    assert stopped.run(Notes())
    assert stopped.epoch == 3
    assert_identical(dict(stopped.model.state_dict()), weights)


def test_a_finished_run_has_nothing_left_to_do() -> None:
    trainer = trainer_of(small_config(**EVENTFUL))
    trainer.run(Notes())
    before = trainer.model.state_dict()["predict.0.weight"].clone()
    notes = Notes()
    assert trainer.run(notes)
    assert notes.improved == []
    assert torch.equal(trainer.model.state_dict()["predict.0.weight"], before)


class Breaking(KnowledgeTracer):
    """A model whose loss, or whose gradient alone, is not finite from some step on."""

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


PLAIN: dict[str, Any] = {
    "enhanced_constraints": False,
    "enable_alignment_loss": False,
    "enable_global_alignment_pass": False,
    "enable_retention_loss": False,
    "enable_lag_gain_loss": False,
}


@pytest.mark.parametrize("in_gradient", [False, True], ids=["loss", "gradient"])
def test_what_is_not_finite_stops_before_the_step(in_gradient: bool) -> None:
    config = small_config(epochs=3, batch_size=4, weight_average=0.5, **PLAIN)
    model = Breaking(1, in_gradient=in_gradient)
    trainer = Trainer(model, config, TRAINING, VALIDATION, CPU)
    trainer.run(Notes(), stop_after(1))
    assert float(model.weight.detach()) != 0.25
    before = {name: w.clone() for name, w in model.state_dict().items()}
    average = trainer.evaluated_model.state_dict()["weight"].clone()
    optimizer = trainer.step.optimizer.state_dict()["state"][0]["step"].clone()
    with pytest.raises(TrainingError) as caught:
        trainer.run(Notes())
    message = str(caught.value)
    assert "epoch 1, step 2" in message
    for name in TERMS:
        assert name in message
    assert ("gradient norm inf" if in_gradient else "main nan") in message
    assert torch.equal(model.state_dict()["weight"], before["weight"])
    assert torch.equal(trainer.evaluated_model.state_dict()["weight"], average)
    assert torch.equal(trainer.step.optimizer.state_dict()["state"][0]["step"], optimizer)
    assert trainer.progress.steps == 1


def test_the_gradient_is_clipped_to_its_global_norm() -> None:
    config = small_config(**EVENTFUL, gradient_clip=1e-3)
    trainer = trainer_of(config)
    trainer.run(Notes(), stop_after(1))
    grads = [p.grad for p in trainer.model.parameters() if p.grad is not None]
    norm = float(torch.stack([g.square().sum() for g in grads]).sum().sqrt())
    assert norm == pytest.approx(1e-3, rel=1e-3)


class Fading(KnowledgeTracer):
    """A model that predicts ever worse: it knows the answers and believes them less each epoch."""

    def __init__(self, aucs: list[float]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.aucs = iter(aucs)

    def forward(self, batch: Batch) -> ModelOutput:
        """In evaluation, logits of which the wanted share of pairs is in order."""
        logits = self.weight.expand(len(batch.valid))
        if not self.training:
            share = next(self.aucs)
            noise = torch.rand(len(batch.valid), generator=torch.Generator().manual_seed(0))
            answers = batch.next_response.float()
            logits = logits + share * answers + (1 - share) * noise
        return ModelOutput(logits)


def run_fading(aucs: list[float], patience: int) -> tuple[Trainer, Notes]:
    config = small_config(epochs=len(aucs), batch_size=4, patience=patience, **PLAIN)
    trainer, notes = Trainer(Fading(aucs), config, TRAINING, VALIDATION, CPU), Notes()
    trainer.run(notes)
    return trainer, notes


def test_patience_stops_so_many_epochs_after_the_best() -> None:
    # best in epoch 3; epochs 4 and 5 are no better
    trainer, notes = run_fading([0.1, 0.2, 0.4, 0.3, 0.2, 0.49, 0.49], patience=2)
    assert trainer.epoch == 5 and trainer.finished
    assert notes.improved == [True, True, True, False, False]
    assert trainer.history.best == trainer.history.rows[2]


def test_patience_starts_anew_with_every_better_epoch() -> None:
    trainer, notes = run_fading([0.2, 0.1, 0.3, 0.2, 0.4, 0.3, 0.3], patience=2)
    assert trainer.epoch == 7
    assert notes.improved == [True, False, True, False, True, False, False]


def test_an_equal_epoch_is_no_improvement() -> None:
    trainer, notes = run_fading([0.3, 0.3, 0.3, 0.3], patience=3)
    assert notes.improved == [True, False, False, False]
    assert trainer.history.best is not None and trainer.history.best["epoch"] == 1


def test_without_patience_running_out_all_epochs_run() -> None:
    assert run_fading([0.4, 0.3, 0.2, 0.1], patience=4)[0].epoch == 4


def test_long_epochs_save_their_state() -> None:
    seconds = itertools.count(0.0, 250.0)
    trainer, notes = trainer_of(small_config(**EVENTFUL), clock=lambda: next(seconds)), Notes()
    trainer.run(notes)
    assert notes.saved
    assert all(steps > 0 for _, steps in notes.saved)


def test_timings_come_from_the_clock() -> None:
    seconds = itertools.count(0.0, 1.0)
    trainer = trainer_of(small_config(**EVENTFUL), clock=lambda: next(seconds))
    trainer.run(Notes())
    # asked at the beginning, after each of the steps, and at the end
    assert trainer.history.seconds == [STEPS + 1.0] * 3


def rates(**overrides: Any) -> Callable[[int, int], float]:
    training = load_config(None, overrides).training
    return lambda step, total: learning_rate_factor(step, total, training)


def test_learning_rate_factor_by_hand() -> None:
    assert [rates()(step, 10) for step in (0, 5, 9)] == [1.0, 1.0, 1.0]
    warm = rates(warmup_steps=4)
    assert [warm(step, 10) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    cosine = rates(learning_rate_schedule="cosine")
    assert cosine(0, 12) == 1.0
    assert cosine(3, 12) == pytest.approx(0.5 * (1 + 0.5**0.5))  # cos(pi / 4)
    assert cosine(4, 12) == pytest.approx(0.75)
    assert cosine(6, 12) == pytest.approx(0.5)
    assert cosine(12, 12) == pytest.approx(0.0)
    both = rates(learning_rate_schedule="cosine", warmup_steps=8)
    assert both(3, 12) == pytest.approx(0.5 * 0.5 * (1 + 0.5**0.5))


def test_the_learning_rate_counts_steps_over_epochs() -> None:
    config = small_config(
        **(EVENTFUL | {"epochs": 2, "learning_rate": 0.08}), learning_rate_schedule="cosine"
    )
    trainer = trainer_of(config)
    trainer.run(Notes())
    # the last of 2 * 3 steps: cos(5 pi / 6)
    expected = 0.08 * 0.5 * (1 - 3**0.5 / 2)
    assert trainer.step.optimizer.param_groups[0]["lr"] == pytest.approx(expected)


def test_weight_decay_of_adamw_is_for_matrices_only() -> None:
    trainer = trainer_of(small_config(**EVENTFUL, optimizer="adamw", weight_decay=0.1))
    groups = trainer.step.optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert all(p.dim() >= 2 for p in groups[0]["params"])
    assert all(p.dim() < 2 for p in groups[1]["params"])
    listed = sum(p.numel() for group in groups for p in group["params"])
    assert listed == sum(p.numel() for p in trainer.model.parameters())


def _three_steps(**average: Any) -> tuple[Trainer, list[torch.Tensor]]:
    """A trainer after three steps, and one of its weights after each."""
    trainer = trainer_of(small_config(**EVENTFUL, **average))
    seen: list[torch.Tensor] = []

    def watch() -> bool:
        seen.append(trainer.model.state_dict()[WATCHED].clone())
        return len(seen) == 3

    trainer.run(Notes(), watch)
    return trainer, seen


def test_the_moving_average_by_hand() -> None:
    trainer, (first, second, third) = _three_steps(weight_average=0.75)
    # it starts where the weights stand after the first step
    expected = 0.75 * (0.75 * first + 0.25 * second) + 0.25 * third
    torch.testing.assert_close(trainer.evaluated_model.state_dict()[WATCHED], expected)
    assert not torch.equal(expected, third)
    plain = trainer_of(small_config(**EVENTFUL))
    assert plain.evaluated_model is plain.model


def test_early_weights_leave_the_average_of_a_short_run() -> None:
    # after n steps: 9 / (10 + n) of the newest, until that is the least
    shares = [float(average_share(torch.tensor(n), 0.01)) for n in (1, 8, 890, 5000)]
    assert shares == pytest.approx([9 / 11, 0.5, 0.01, 0.01])
    trainer, (first, second, third) = _three_steps(weight_average=0.99, weight_average_warmup=True)
    expected = 3 / 12 * (2 / 11 * first + 9 / 11 * second) + 9 / 12 * third
    torch.testing.assert_close(trainer.evaluated_model.state_dict()[WATCHED], expected)


def test_progress_by_hand() -> None:
    """Two steps with chosen terms: means, signed shares, variance with its extremes."""
    progress = EpochProgress()
    assert math.isnan(progress.mean_loss())
    batch = next(iter(training_batches(TRAINING, 4, 42, 1)))
    output = ModelOutput(torch.arange(len(batch.valid)).float())
    for main, alignment, variance in ((0.5, -0.1, 0.02), (0.7, -0.3, 0.04)):
        values = (main, 0.2, alignment, 0.0, 0.0)
        losses = Losses(
            **{name: torch.tensor(v) for name, v in zip(TERMS, values, strict=True)},
            mastery_variance=torch.tensor(variance),
            lag_correlations=torch.tensor([variance, 0.0, 1.0]),
        )
        progress.add(Figures.of(losses, output, batch))
    # totals 0.6 and 0.6
    assert progress.mean_loss() == pytest.approx(0.6)
    # 0.6, 0.2 and -0.2 of 0.6
    shares = progress.shares()
    assert shares["main"] == pytest.approx(1.0)
    assert shares["constraint"] == pytest.approx(1 / 3)
    assert shares["alignment"] == pytest.approx(-1 / 3)
    assert sum(shares.values()) == pytest.approx(1.0)
    summary = progress.summary()
    assert summary["mastery_variance"] == pytest.approx({"min": 0.02, "mean": 0.03, "max": 0.04})
    assert summary["lag_correlations"] == pytest.approx([0.03, 0.0, 1.0])
    assert "mastery_correlation" not in summary
    scored = int(batch.has_next.sum())
    assert int((torch.cat(progress.answers) != UNSCORED).sum()) == 2 * scored
    assert len(progress.state()["auc"]["probabilities"]) == 2 * scored
    again = EpochProgress.restore(progress.state(), CPU)
    assert again.mean_loss() == progress.mean_loss()
    assert again.summary() == summary
    assert again.train_auc() == progress.train_auc()


def test_dropout_is_a_function_of_seed_epoch_and_step() -> None:
    def draw(*key: int) -> list[float]:
        seed_step(*key)
        return torch.rand(3).tolist()

    assert draw(42, 1, 0) == draw(42, 1, 0)
    keys = [(42, 1, 0), (43, 1, 0), (42, 2, 0), (42, 1, 1), (42, 0, 1)]
    assert len({tuple(draw(*key)) for key in keys}) == len(keys)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def device(wanted: str, count: int) -> str:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        return str(select_device(wanted))

    assert device("auto", 0) == device("cpu", 0) == device("cpu", 2) == "cpu"
    assert device("auto", 1) == device("cuda", 1) == "cuda"
    assert device("cuda:1", 2) == "cuda:1"
    with pytest.raises(TrainingError, match="no GPU"):
        device("cuda", 0)
    with pytest.raises(TrainingError, match="cuda:0 to cuda:1"):
        device("cuda:2", 2)


def test_the_machine_is_prepared_as_configured() -> None:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        prepare_machine("cpu", 2, True)
        assert torch.get_num_threads() == 2
        assert torch.are_deterministic_algorithms_enabled()
        prepare_machine("cpu", 1, False)
        assert torch.get_num_threads() == 1
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def test_mixed_precision_computes_dense_layers_only() -> None:
    config = small_config(use_amp=True)
    layer = torch.nn.Linear(3, 3)
    with precision(config.number_format, CPU):
        assert layer(torch.ones(1, 3)).dtype == torch.bfloat16
        model = build_model(config, vocabulary_of(4))
        output = model(next(iter(training_batches(TRAINING, 4, 42, 1))))
    assert output.mastery is not None and output.gains is not None
    assert {output.logits.dtype, output.mastery.dtype, output.gains.dtype} == {torch.float32}
    with precision(small_config().number_format, CPU):
        assert layer(torch.ones(1, 3)).dtype == torch.float32
    trainer = trainer_of(small_config(**EVENTFUL, use_amp=True))
    trainer.run(Notes())
    assert np.isfinite([row["val_loss"] for row in trainer.history.rows]).all()
