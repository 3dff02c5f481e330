"""What time leaves of the evidence: fading towards the prior, and nothing else."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gainakt.data.batches import Batch, make_batch
from gainakt.data.rows import Rows, asked_next
from gainakt.data.sequences import whole_histories
from gainakt.models import build_model
from gainakt.models.gainsum.asked import Asked
from gainakt.models.gainsum.history import time_since
from gainakt.models.gainsum.model import GainSum
from gainakt.models.gainsum.retention import HOUR, HOURS, RATE, SPEED, Retention
from tests.helpers import SKILLS, pooled_batch, small_config, vocabulary_of

both = pytest.mark.parametrize("weights", ["in_context", "skills_only"])


def model_of(weights: str, **overrides: Any) -> GainSum:
    """A model in whose predictions time weighs heavily."""
    config = small_config("gainsum", weights=weights, forgetting="on", **overrides)
    model = build_model(config, vocabulary_of(SKILLS)).double().eval()
    assert isinstance(model, GainSum) and model.retention is not None
    with torch.no_grad():
        model.retention.rate.weight.normal_(std=0.2, generator=torch.Generator().manual_seed(3))
    return model


def rows_of(length: int, seed: int, unknown: float = 0.1) -> Rows:
    """A student with pauses from seconds to months; some times are not known."""
    rng = np.random.default_rng(seed)
    pauses = np.exp(rng.uniform(math.log(1e3), math.log(5e9), length)).astype(np.int64)
    known = rng.random(length) >= unknown
    return Rows(
        skill=rng.integers(SKILLS, size=length).astype(np.int32),
        response=rng.integers(2, size=length).astype(np.int8),
        order=np.arange(length, dtype=np.int32),
        time=np.where(known, 1_700_000_000_000 + pauses.cumsum(), 0),
    )


def batch_of_rows(rows: Rows) -> Batch:
    return make_batch(whole_histories(rows, np.array([len(rows)])), np.zeros(1, np.int64))


def test_shares_by_hand() -> None:
    retention = Retention(2)
    with torch.no_grad():
        # rates log(2) and log(1 + e), an hour
        retention.rate.weight.copy_((torch.tensor([[0.0], [1.0]]) - RATE) / SPEED)
        retention.log_hours.fill_(-math.log(HOURS) / SPEED)
        asked = Asked(torch.tensor([0, 1, 0]), torch.tensor([[-1], [-1], [1]]))
        found = retention(asked, torch.tensor([0, 3 * HOUR, HOUR]))
    rates = [math.log(2), math.log(1 + math.e), math.log(1 + math.exp(0.5))]
    expected = [1.0, 4 ** -rates[1], 2 ** -rates[2]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_time_since_any_skill_of_the_question_was_answered() -> None:
    batch = pooled_batch([([0], 1), ([1, 2], 0), ([0, 1], 1), ([3], 1), ([2], 0)])
    time = torch.tensor([100, 200, 500, 0, 900])
    timed = replace(batch, time=time, next_time=torch.cat([time[1:], time[-1:]]))
    asked = Asked.of(timed.next_skill, timed.next_others)
    # 1 and 2 are new; 0, 1 was answered at 200; the fourth has no time; 2 was answered at 200;
    # after the last, 2 is asked again at once
    assert time_since(timed, asked, SKILLS).tolist() == [0, 300, 0, 700, 0]


@both
@torch.no_grad()
def test_without_times_nothing_changes_to_the_bit(weights: str) -> None:
    batch = batch_of_rows(rows_of(30, 1).replace(time=None))
    config = small_config("gainsum", weights=weights)
    plain = build_model(config, vocabulary_of(SKILLS)).eval()
    timed = build_model(
        small_config("gainsum", weights=weights, forgetting="on"), vocabulary_of(SKILLS)
    ).eval()
    assert torch.equal(plain(batch).logits, timed(batch).logits)
    unknown = replace(
        batch, time=torch.zeros_like(batch.skill), next_time=torch.zeros_like(batch.skill)
    )
    assert torch.equal(plain(batch).logits, timed(unknown).logits)


@both
@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000))
@torch.no_grad()
def test_a_prediction_goes_towards_its_prior_while_nothing_happens(weights: str, seed: int) -> None:
    model, rows = model_of(weights), rows_of(20, seed, unknown=0.0)
    state = model.begin()
    state.extend(rows)
    assert rows.time is not None
    later = rows.time[-1] + np.concatenate([[0], np.logspace(3, 13, 30).astype(np.int64)])
    for skill in range(SKILLS):
        logits = state.logits(asked_next([skill] * len(later), time=later.tolist()))
        batch = batch_of_rows(rows)
        prior = model.explain(batch, skill).prior[-1]
        left = logits - prior
        assert bool((left * left[0] >= 0).all()), "never past the prior"
        assert bool((left.abs().diff() <= 1e-12).all()), "never away from it"


@both
@torch.no_grad()
def test_the_sum_is_exact_and_time_matters(weights: str) -> None:
    model, batch = model_of(weights), batch_of_rows(rows_of(30, 4))
    found, logits = model.explain(batch), model(batch).logits
    total = found.prior + found.contributions[0].sum(dim=-1).flatten()
    torch.testing.assert_close(total, logits, atol=1e-10, rtol=0)
    plain = replace(batch, time=None, next_time=None)
    assert not torch.allclose(model(plain).logits, logits, atol=1e-3)


@torch.no_grad()
def test_answer_free_a_right_answer_never_lowers_a_prediction_whatever_the_times() -> None:
    model = model_of("skills_only")
    for seed in range(20):
        batch = batch_of_rows(rows_of(20, seed))
        before = model(batch).logits
        for step in torch.nonzero(batch.response == 0).flatten().tolist():
            response = batch.response.clone()
            response[step] = 1
            assert bool((model(replace(batch, response=response)).logits >= before - 1e-12).all())


@both
@torch.no_grad()
def test_told_answer_by_answer_it_predicts_as_in_a_batch(weights: str) -> None:
    model, rows = model_of(weights), rows_of(25, 9)
    logits = model(batch_of_rows(rows)).logits
    assert rows.time is not None
    for at_once in (1, 7):
        state = model.begin()
        state.extend(rows.take(slice(0, at_once)))
        for step in range(at_once, 25):
            time = int(rows.time[step])
            # a step without a time is asked as of the last answer; the batch knows none there
            if time:
                asked = asked_next([int(rows.skill[step])], time=time)
                torch.testing.assert_close(copy.copy(state).logits(asked)[0], logits[step - 1])
            state.extend(rows.take(slice(step, step + 1)))


@torch.no_grad()
def test_mastery_of_every_skill_fades() -> None:
    model, rows = model_of("in_context"), rows_of(20, 2, unknown=0.0)
    state = model.begin()
    state.extend(rows)
    now, later = state.mastery(), state.mastery(int(rows.time[-1]) + 10**12)  # type: ignore[index]
    each = [state.logits(asked_next([skill])).sigmoid() for skill in range(SKILLS)]
    torch.testing.assert_close(now, torch.cat(each))
    assert not torch.allclose(now, later, atol=1e-3)
