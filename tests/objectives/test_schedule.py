"""How the weights move from epoch to epoch, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gainakt.config import load_config
from gainakt.objectives.schedule import (
    EpochWeights,
    ScheduleState,
    after_epoch,
    epoch_weights,
    performance_scale,
)


def weights_of(epoch: int, state: ScheduleState | None = None, **overrides: object) -> EpochWeights:
    config = load_config(None, {"epochs": 12, **overrides})
    return epoch_weights(config, state or ScheduleState.start(config), epoch)


def step_on(
    state: ScheduleState, epoch: int, share: float, correlation: float | None, **overrides: object
) -> tuple[ScheduleState, list[dict[str, Any]]]:
    return after_epoch(load_config(None, overrides), state, epoch, share, correlation)


STATE = ScheduleState(alignment_weight=0.25, consistency_weight=0.3)


def test_the_first_epoch_of_the_seed_run() -> None:
    weights = weights_of(1)
    assert weights.performance_scale == 0.125  # 1 / 8
    assert weights.alignment == 0.03125  # 0.25 / 8
    assert weights.consistency == 0.3
    assert not weights.adaptive
    assert weights.retention_peak is None
    assert not weights.lag


@pytest.mark.parametrize(
    ("epoch", "expected"), [(1, 0.125), (4, 0.5), (7, 0.875), (8, 1.0), (9, 1.0), (100, 1.0)]
)
def test_warm_up_by_hand(epoch: int, expected: float) -> None:
    assert performance_scale(epoch, 8, 12, False) == expected
    assert weights_of(epoch).performance_scale == expected
    assert weights_of(epoch).alignment == 0.25 * expected


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (3, 0.5 * (1 - 0.5**0.5)),  # cos(pi / 4)
        (4, 0.25),  # cos(pi / 3) = 1 / 2
        (6, 0.5),  # cos(pi / 2) = 0
        (8, 0.75),
        (12, 1.0),  # cos(pi) = -1
    ],
)
def test_cosine_schedule_by_hand(epoch: int, expected: float) -> None:
    weights = weights_of(epoch, enable_cosine_perf_schedule=True)
    assert weights.performance_scale == pytest.approx(expected)
    # the alignment keeps its own linear ramp
    assert weights.alignment == 0.25 * min(1, epoch / 8)


def test_alignment_has_its_own_warm_up() -> None:
    weights = weights_of(2, alignment_warmup_epochs=4, warmup_constraint_epochs=8)
    assert weights.alignment == 0.125
    assert weights.performance_scale == 0.25
    assert weights_of(2, enable_alignment_loss=False).alignment == 0.0


def test_the_ramp_scales_the_current_alignment_weight() -> None:
    assert weights_of(4, replace(STATE, alignment_weight=0.1)).alignment == 0.05


def test_adaptive_alignment_starts_when_the_ramp_is_over() -> None:
    assert [weights_of(epoch).adaptive for epoch in (7, 8, 9)] == [False, False, True]
    assert not weights_of(9, adaptive_alignment=False).adaptive
    assert weights_of(9, replace(STATE, mastery_correlation=0.02)).reference == 0.02
    assert weights_of(9).reference is None


def test_retention_starts_the_epoch_after_warm_up() -> None:
    state = replace(STATE, peak=0.2)
    peaks = [weights_of(epoch, state).retention_peak for epoch in (7, 8, 9, 10)]
    assert peaks == [None, None, 0.2, 0.2]
    assert weights_of(3, state, warmup_constraint_epochs=2).retention_peak == 0.2
    assert weights_of(9, state, enable_retention_loss=False).retention_peak is None


def test_lag_starts_two_epochs_after_warm_up() -> None:
    assert [weights_of(epoch).lag for epoch in (8, 9, 10, 11)] == [False, False, True, True]
    assert weights_of(4, warmup_constraint_epochs=2).lag
    assert not weights_of(3, warmup_constraint_epochs=2).lag
    assert not weights_of(10, enable_lag_gain_loss=False).lag


def test_the_peak_only_rises() -> None:
    state = STATE
    peaks = []
    for epoch, correlation in enumerate((-0.3, -0.1, 0.0, -0.2, 0.15, 0.1), start=1):
        state, _ = step_on(state, epoch, 0.0, correlation)
        peaks.append(state.peak)
    assert peaks == [-0.3, -0.1, 0.0, 0.0, 0.15, 0.15]


def test_an_unmeasured_epoch_keeps_the_last_correlation() -> None:
    state, events = step_on(replace(STATE, mastery_correlation=0.04, peak=0.06), 3, 0.5, None)
    assert state == replace(STATE, mastery_correlation=0.04, peak=0.06)
    assert events == []


def test_share_cap_by_hand() -> None:
    before = replace(STATE, mastery_correlation=0.1)
    state, events = step_on(before, 3, -0.09, 0.102)
    # 0.25 * 0.7
    assert state.alignment_weight == pytest.approx(0.175)
    assert events == [
        {
            "epoch": 3,
            "event": "share_cap",
            "parameter": "alignment_weight",
            "from": 0.25,
            "to": pytest.approx(0.175),
        }
    ]
    # the sign of the share does not matter
    assert step_on(before, 3, 0.09, 0.102)[0].alignment_weight == pytest.approx(0.175)


@pytest.mark.parametrize(
    ("share", "correlation"),
    [
        (-0.08, 0.05),  # at the cap, not over it
        (0.01, 0.05),
        (-0.2, 0.1055),  # risen by 0.0055
    ],
)
def test_share_cap_excuses(share: float, correlation: float) -> None:
    state, events = step_on(replace(STATE, mastery_correlation=0.1), 3, share, correlation)
    assert state.alignment_weight == 0.25
    assert events == []


def test_share_cap_needs_a_correlation_to_compare_with() -> None:
    assert step_on(STATE, 1, -0.5, 0.01)[1] == []


def test_share_cap_stops_at_its_floor() -> None:
    state = replace(STATE, alignment_weight=0.06, mastery_correlation=0.1)
    cut, events = step_on(state, 3, -0.2, 0.1)
    assert cut.alignment_weight == 0.05  # not 0.042
    assert len(events) == 1
    again, events = step_on(cut, 4, -0.2, 0.1)
    assert again.alignment_weight == 0.05
    assert events == []
    # a weight that was configured lower is not raised
    low = replace(state, alignment_weight=0.01)
    assert step_on(low, 3, -0.2, 0.1)[0].alignment_weight == 0.01


def test_consistency_rebalance_by_hand() -> None:
    state, events = step_on(STATE, 8, 0.0, 0.09)
    assert state.consistency_weight == 0.2
    assert events == [
        {
            "epoch": 8,
            "event": "consistency_rebalance",
            "parameter": "consistency_weight",
            "from": 0.3,
            "to": 0.2,
        }
    ]
    assert weights_of(9, state).consistency == 0.2
    # it stays, and is told once
    state, events = step_on(state, 9, 0.0, 0.09)
    assert state.consistency_weight == 0.2
    assert events == []


@pytest.mark.parametrize(("epoch", "correlation"), [(7, 0.01), (8, 0.1), (8, 0.5), (8, None)])
def test_consistency_is_not_rebalanced(epoch: int, correlation: float | None) -> None:
    state, events = step_on(STATE, epoch, 0.0, correlation)
    assert state.consistency_weight == 0.3
    assert events == []
