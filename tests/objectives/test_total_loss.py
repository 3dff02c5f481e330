"""The total loss: by hand, free of padding, and every enabled term teaches the model something."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import gainakt.data.batches as batches
from gainakt.config import MODELS, Config
from gainakt.data.batches import Batch, make_batch
from gainakt.models import KnowledgeTracer, ModelOutput, build_model
from gainakt.models.gainakt2exp import GainAKT2Exp
from gainakt.objectives.schedule import EpochWeights, ScheduleState, epoch_weights
from gainakt.objectives.total import (
    TERMS,
    BatchWeights,
    Losses,
    prediction_loss,
    total_loss,
)
from tests.helpers import (
    batch_of,
    lay_out,
    random_students,
    sequences_of,
    small_config,
    vocabulary_of,
)

# the batch of test_constraint.py, with its hand-computed terms
BATCH = batch_of([(0, 1), (1, 0), (0, 1)], [(1, 0), (1, 1), (0, 0), (1, 1)])
MASTERY = lay_out(
    BATCH,
    [[0.5, 0.2], [0.6, 0.1], [0.4, 0.3]],
    [[0.1, 0.9], [0.3, 0.7], [0.3, 0.8], [0.2, 0.9]],
)
GAINS = lay_out(
    BATCH,
    [[0.2, 0.1], [0.0, 0.3], [0.4, -0.1]],
    [[0.1, 0.5], [-0.3, 0.2], [0.6, 0.0], [0.1, 0.7]],
)
LOGITS = lay_out(BATCH, [0.0, math.log(3), 9.0], [math.log(4), 0.0, -math.log(3), 9.0])
OUTPUT = ModelOutput(LOGITS, MASTERY, GAINS)

LATE = EpochWeights(
    performance_scale=1.0,
    consistency=0.3,
    alignment=0.25,
    adaptive=False,
    reference=None,
    retention_peak=0.9,
    lag=True,
)


def losses_of(
    config: Config,
    weights: EpochWeights | None = None,
    output: ModelOutput = OUTPUT,
    batch: Batch = BATCH,
    moving: BatchWeights | None = None,
) -> tuple[Losses, BatchWeights]:
    weights = weights or epoch_weights(config, ScheduleState.start(config), 1)
    sparsity = config.interpretability.sparsity_loss_weight
    moving = moving or BatchWeights.start(sparsity, torch.device("cpu"))
    return total_loss(output, batch, config, weights, moving)


def test_main_loss_by_hand() -> None:
    # next answers: 0, 1; 1, 0, 1. Odds 1, 3; 4, 1, 1/3 give the answer that came the
    # probabilities 1/2, 3/4; 4/5, 1/2, 1/4; the last steps of both have nothing to predict
    product = 1 / 2 * 3 / 4 * 4 / 5 * 1 / 2 * 1 / 4
    assert float(prediction_loss(OUTPUT, BATCH)) == pytest.approx(-math.log(product) / 5, rel=1e-6)


def test_main_loss_with_extreme_logits_is_finite() -> None:
    output = ModelOutput(torch.where(BATCH.next_response == 1, -500.0, 500.0))
    assert float(prediction_loss(output, BATCH)) == 500.0


def test_first_epoch_by_hand() -> None:
    losses, moving = losses_of(small_config(use_residual_alignment=False))
    # weights 0.1, 0.8 / 8, 0.8 / 8, 0.2, 0.3 on the terms of test_constraint.py
    mastery_performance = 1.5 / 4 + 1.3 / 3
    gain_performance = 1.4 / 3 - 1.5 / 4 + 0.1
    constraint = (
        0.1 * 0.06
        + 0.1 * mastery_performance
        + 0.1 * gain_performance
        + 0.2 * (-0.1 / 7)
        + 0.3 * 0.143
    )
    assert float(losses.constraint) == pytest.approx(constraint, rel=1e-5)
    # means over the skills at the five steps with a next answer
    answers = [0, 1, 1, 0, 1]
    of_mastery = np.corrcoef([0.35, 0.35, 0.5, 0.5, 0.55], answers)[0, 1]
    of_gain = np.corrcoef([0.15, 0.15, 0.3, -0.05, 0.3], answers)[0, 1]
    assert losses.mastery_correlation is not None and losses.gain_correlation is not None
    assert float(losses.mastery_correlation) == pytest.approx(of_mastery, rel=1e-4)
    assert float(losses.gain_correlation) == pytest.approx(of_gain, rel=1e-4)
    # 0.25 / 8
    alignment = -0.03125 * (of_mastery + of_gain)
    assert float(losses.alignment) == pytest.approx(alignment, rel=1e-4)
    assert float(losses.lag) == 0.0
    assert float(losses.retention) == 0.0
    assert losses.lag_correlations is not None and losses.lag_correlations.shape == (3,)
    total = float(losses.main) + constraint + alignment
    assert float(losses.total) == pytest.approx(total, rel=1e-5)
    assert losses.terms().tolist() == [float(getattr(losses, name)) for name in TERMS]
    assert int(moving.low_variance_batches) == 0


def test_late_epoch_by_hand() -> None:
    losses, _ = losses_of(small_config(use_residual_alignment=False), LATE)
    answers = [0, 1, 1, 0, 1]
    of_mastery = np.corrcoef([0.35, 0.35, 0.5, 0.5, 0.55], answers)[0, 1]
    # 0.14 (0.9 - 0.005 - c)
    assert float(losses.retention) == pytest.approx(0.14 * (0.895 - of_mastery), rel=1e-4)
    # lag 1: gains before each answer; lag 2: first student's 1st, second's 1st and 2nd
    first = np.corrcoef([0.15, 0.15, 0.3, -0.05, 0.3], answers)[0, 1]
    second = np.corrcoef([0.15, 0.3, -0.05], [1, 0, 1])[0, 1]
    # lag 3 is a single pair, whose correlation is 0
    expected = -0.06 * (0.5 * first + 0.3 * second) / 1.0
    assert float(losses.lag) == pytest.approx(expected, rel=1e-4)
    assert losses.lag_correlations is not None
    assert losses.lag_correlations.tolist() == pytest.approx([first, second, 0.0], rel=1e-4)


def test_adaptive_alignment_by_hand() -> None:
    config = small_config()
    plain = float(losses_of(config, LATE)[0].alignment)
    # 1 + 4 (0.05 - 0) with the last global correlation
    adaptive = replace(LATE, adaptive=True, reference=0.0)
    assert float(losses_of(config, adaptive)[0].alignment) == pytest.approx(1.2 * plain)
    high = replace(LATE, adaptive=True, reference=0.3)
    assert float(losses_of(config, high)[0].alignment) == pytest.approx(plain)
    # without one, with the batch's own: here it lies over the minimum of 0.05, then under 1
    own = replace(LATE, adaptive=True, reference=None)
    losses, _ = losses_of(config, own)
    assert losses.mastery_correlation is not None
    correlation = float(losses.mastery_correlation)
    assert correlation > 0.05
    assert float(losses.alignment) == pytest.approx(plain)
    demanding = small_config(alignment_min_correlation=1.0)
    factor = min(3.0, 1 + 4 * (1 - correlation))
    alignment = float(losses_of(demanding, own)[0].alignment)
    assert alignment == pytest.approx(factor * plain, rel=1e-5)


def test_low_variance_closes_the_alignment_and_lowers_sparsity() -> None:
    config = small_config(variance_floor=1.0)
    moving = None
    sparsity, gate = [], []
    for _ in range(4):
        losses, moving = losses_of(config, LATE, moving=moving)
        gate.append(float(losses.alignment))
        sparsity.append(float(moving.sparsity))
        # retention is no part of the alignment and stays
        assert float(losses.retention) != 0.0
    assert gate == [0.0] * 4
    assert sparsity == pytest.approx([0.2, 0.2, 0.1, 0.1])


def test_the_reduced_sparsity_weight_is_used() -> None:
    config = small_config()
    full, _ = losses_of(config, LATE)
    half, _ = losses_of(config, LATE, moving=BatchWeights.start(0.1, torch.device("cpu")))
    # the term itself is -0.1 / 7
    difference = float(full.constraint) - float(half.constraint)
    assert difference == pytest.approx(0.1 * (-0.1 / 7), rel=1e-3)


def test_constraints_switched_off_leave_the_plain_loss() -> None:
    config = small_config(
        enhanced_constraints=False,
        enable_alignment_loss=False,
        enable_retention_loss=False,
        enable_lag_gain_loss=False,
    )
    losses, _ = losses_of(config)
    assert losses.terms()[1:].tolist() == [0.0] * 4
    assert torch.equal(losses.total, prediction_loss(OUTPUT, BATCH))


def test_outputs_that_a_model_lacks_cost_nothing() -> None:
    config = small_config()
    losses, _ = losses_of(config, LATE, ModelOutput(LOGITS))
    assert losses.terms()[1:].tolist() == [0.0] * 4
    assert losses.lag_correlations is None
    losses, _ = losses_of(config, LATE, ModelOutput(LOGITS, gains=GAINS))
    assert float(losses.lag) != 0.0
    assert losses.terms()[[1, 2, 4]].tolist() == [0.0] * 3


def small_model(config: Config) -> KnowledgeTracer:
    return build_model(config, vocabulary_of(4))


STUDENTS = random_students([3, 4, 5, 8, 9, 20, 21], seed=1)


@pytest.mark.parametrize("name", MODELS)
def test_padding_content_reaches_no_term(name: str) -> None:
    """Scramble everything that stands on padding: all terms keep every bit."""
    config = small_config(name)
    model = small_model(config)
    batch = batch_of(*STUDENTS)
    padding = ~batch.valid
    assert int(padding.sum()) >= 5
    generator = torch.Generator().manual_seed(3)

    def scrambled(values: torch.Tensor, limit: int) -> torch.Tensor:
        return torch.where(padding, torch.randint(limit, values.shape, generator=generator), values)

    other = replace(
        batch,
        skill=scrambled(batch.skill, 4),
        response=scrambled(batch.response, 2),
        next_skill=scrambled(batch.next_skill, 4),
        next_response=scrambled(batch.next_response, 2),
    )
    assert not torch.equal(other.skill, batch.skill)
    terms = losses_of(config, LATE, model(batch), batch)[0].terms()
    assert torch.equal(losses_of(config, LATE, model(other), other)[0].terms(), terms)
    with torch.no_grad():
        output = model(batch)
        fields = [v for v in (output.logits, output.mastery, output.gains) if v is not None]
        for values in fields:
            values[padding] = float("nan")
    assert torch.equal(losses_of(config, LATE, output, batch)[0].terms(), terms)


@pytest.mark.parametrize("name", MODELS)
def test_grouping_into_rectangles_reaches_no_term(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(name)
    model = small_model(config)
    terms, shapes = [], []
    for cost in (0, 8, 1000):
        monkeypatch.setattr(batches, "RECTANGLE_COST", cost)
        batch = batch_of(*STUDENTS)
        shapes.append(len(batch.rectangles))
        losses, _ = losses_of(config, LATE, model(batch), batch)
        terms.append(losses.terms())
        assert losses.terms()[0] > 0
    assert shapes[0] > shapes[1] > shapes[2] == 1
    for other in terms[1:]:
        assert other.tolist() == pytest.approx(terms[0].tolist(), rel=1e-5, abs=1e-7)


def gradient(config: Config, weights: EpochWeights) -> torch.Tensor:
    """The gradient of the total loss in all parameters of a small model, flat."""
    model = small_model(config)
    batch = batch_of(*STUDENTS)
    losses_of(config, weights, model(batch), batch)[0].total.backward()
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize(
    ("off", "on"),
    [
        ({"mastery_performance_loss_weight": 0.0}, {}),
        ({"gain_performance_loss_weight": 0.0}, {}),
        ({"sparsity_loss_weight": 0.0}, {}),
        ({"alignment_weight": 0.0}, {}),
        ({"retention_weight": 0.0}, {}),
        ({"lag_gain_weight": 0.0}, {}),
        ({"lag_gain_weight": 0.06}, {"lag_max_lag": 2}),
        ({"use_residual_alignment": False}, {"use_residual_alignment": True}),
    ],
)
def test_every_enabled_term_changes_the_gradient(off: dict[str, Any], on: dict[str, Any]) -> None:
    def late(config: Config) -> EpochWeights:
        return replace(LATE, alignment=config.alignment.alignment_weight)

    without, with_term = small_config(**off), small_config(**on)
    difference = gradient(with_term, late(with_term)) - gradient(without, late(without))
    assert float(difference.abs().max()) > 1e-6


def test_consistency_changes_the_gradient_where_mastery_is_full() -> None:
    """Mastery that stops at 1 no longer rises by a tenth of the gain: there the term teaches."""
    config = small_config()
    model = small_model(config)
    assert isinstance(model, GainAKT2Exp)
    assert model.mastery_head is not None and model.gain_head is not None
    learnt = model.gain_head.weight
    with torch.no_grad():
        model.mastery_head.bias.fill_(3.0)
        model.gain_head.bias.fill_(1.0)
    batch = batch_of(*STUDENTS)

    def head_gradient(consistency: float) -> torch.Tensor:
        model.zero_grad()
        weights = replace(LATE, consistency=consistency)
        losses_of(config, weights, model(batch), batch)[0].total.backward()
        assert learnt.grad is not None
        return learnt.grad.clone()

    assert not torch.allclose(head_gradient(0.3), head_gradient(0.0))


def test_no_alignment_gradient_flows_back_through_the_adaptive_factor() -> None:
    """The factor is a weight, not an objective: its gradient is that of the plain loss, scaled."""
    config = small_config(alignment_min_correlation=0.5, retention_weight=0.0, lag_gain_weight=0.0)
    only = replace(LATE, retention_peak=None, lag=False)
    none = gradient(config, replace(only, alignment=0.0))
    plain = gradient(config, only) - none
    adaptive = gradient(config, replace(only, adaptive=True)) - none
    scale = float((adaptive @ plain) / (plain @ plain))
    assert scale > 1.5
    assert torch.allclose(adaptive, scale * plain, atol=1e-6)


def test_windows_score_only_their_last_targets() -> None:
    sequences = replace(sequences_of([(0, 1)] * 6), score_from=np.array([3]))
    batch = make_batch(sequences, np.array([0]))
    logits = torch.tensor([50.0, -50.0, 50.0, 0.0, 0.0, 50.0])
    # only the targets after steps 4 and 5 count: ln 2 each
    loss = prediction_loss(ModelOutput(logits), batch)
    assert float(loss) == pytest.approx(math.log(2), rel=1e-6)
