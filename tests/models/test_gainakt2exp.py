"""GainAKT2Exp: its size, its blocks, and mastery by cumulative sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gainakt.config import load_config
from gainakt.errors import ConfigError
from gainakt.models import build_model
from gainakt.models.attention import Dropout, causal_attention
from gainakt.models.gainakt2exp import GainAKT2Exp, TwoStreamBlock, accumulate_mastery
from tests.helpers import (
    SKILLS,
    batch_of,
    of_student,
    outputs,
    random_students,
    small_config,
    small_model,
    vocabulary_of,
)


def test_seed_size_has_14_658_761_parameters() -> None:
    model = build_model(load_config(None), vocabulary_of(100))
    # embeddings 2 * 200 * 512 + 100 * 512 + 200 * 512; six blocks of four projections, a
    # feed-forward layer and three norms; prediction 1536 -> 1024 -> 1; two heads 512 -> 100
    embeddings = (2 * 200 + 100 + 200) * 512
    projections = 4 * (512 * 512 + 512)
    feed_forward = (512 * 1024 + 1024) + (1024 * 512 + 512)
    block = projections + feed_forward + 3 * 2 * 512
    prediction = (1536 * 1024 + 1024) + (1024 + 1)
    heads = 2 * (512 * 100 + 100)
    assert embeddings + 6 * block + prediction + heads == 14_658_761
    assert sum(p.numel() for p in model.parameters()) == 14_658_761


def test_no_skills_no_model() -> None:
    with pytest.raises(ConfigError, match="no skills"):
        build_model(small_config(), vocabulary_of(0))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(1, 3), st.floats(0, 4), st.integers(0, 10_000))
def test_cumulative_mastery_equals_the_recursion(
    steps: int, skills: int, largest: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(2, steps, skills, generator=generator)
    gains = largest * torch.rand(2, steps, skills, generator=generator)
    # m_1 = sigmoid of the head, m_t = min(1, m_{t-1} + 0.1 g_t)
    expected = [first[:, 0]]
    for t in range(1, steps):
        expected.append((expected[-1] + 0.1 * gains[:, t]).clamp(max=1.0))
    mastery = accumulate_mastery(first, gains)
    torch.testing.assert_close(mastery, torch.stack(expected, dim=1), atol=1e-5, rtol=0)
    assert bool((mastery[:, 1:] >= mastery[:, :-1]).all())


def test_mastery_by_hand() -> None:
    first = torch.tensor([[[0.6], [0.1], [0.1], [0.1]]])
    gains = torch.tensor([[[9.0], [2.0], [0.0], [3.0]]])
    # the first gain is in the first mastery already; 0.8 + 0.3 stops at 1
    mastery = accumulate_mastery(first, gains).flatten().tolist()
    assert mastery == pytest.approx([0.6, 0.8, 0.8, 1.0])


def test_outputs_have_their_ranges() -> None:
    batch = batch_of(*random_students([3, 7, 30], SKILLS))
    output = small_model()(batch)
    n = len(batch.valid)
    assert output.logits.shape == (n,)
    assert output.mastery is not None and output.mastery.shape == (n, SKILLS)
    assert output.gains is not None and output.gains.shape == (n, SKILLS)
    assert bool((output.gains >= 0).all()) and bool((output.gains > 0).any())
    assert bool((output.mastery >= 0).all()) and bool((output.mastery <= 1).all())


def test_heads_can_be_left_out() -> None:
    off: dict[str, Any] = {
        "enhanced_constraints": False,
        "enable_alignment_loss": False,
        "enable_global_alignment_pass": False,
        "enable_retention_loss": False,
    }
    batch = batch_of(*random_students([3, 7], SKILLS))
    gains_only = small_model(use_mastery_head=False, **off)
    assert set(outputs(gains_only(batch))) == {"logits", "gains"}
    off["enable_lag_gain_loss"] = False
    plain = small_model(use_mastery_head=False, use_gain_head=False, **off)
    assert set(outputs(plain(batch))) == {"logits"}
    # the heads do not feed the prediction, and come last in the initialisation
    assert torch.equal(plain(batch).logits, small_model()(batch).logits)


def test_one_block_by_hand() -> None:
    """The block against the formulas of the specification, written out for one sequence."""
    torch.manual_seed(0)
    block = TwoStreamBlock(d_model=4, n_heads=2, d_ff=6, dropout=0.0)
    batch = batch_of([(0, 1)] * 3)
    context, value = torch.randn(2, 3, 4)
    q, k, v = block.query(context), block.key(context), block.value(value)
    rows = []
    for t in range(3):
        heads = []
        for h in (slice(0, 2), slice(2, 4)):
            scores = (k[: t + 1, h] @ q[t, h]) / 2**0.5
            heads.append(scores.softmax(dim=0) @ v[: t + 1, h])
        rows.append(torch.cat(heads))
    attended = torch.stack(rows) @ block.project.weight.T + block.project.bias

    def norm(x: Tensor) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()

    inner = norm(context + attended)
    expand, _, _, contract = block.feed_forward
    expected_context = norm(inner + contract(expand(inner).relu()))
    expected_value = norm(value + attended)
    new_context, new_value = block(batch, context, value)
    torch.testing.assert_close(new_value, expected_value, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(new_context, expected_context, atol=1e-5, rtol=1e-4)


def test_the_model_reads_skill_answer_position_and_the_skill_asked_next() -> None:
    model = small_model()
    assert isinstance(model, GainAKT2Exp)
    batch = batch_of([(0, 1), (3, 0), (2, 1)])
    seen: dict[str, Tensor] = {}
    for name in ("embed_context", "embed_value", "embed_skill", "embed_position"):
        getattr(model, name).register_forward_pre_hook(
            lambda _, args, name=name: seen.__setitem__(name, args[0])
        )
    model(batch)
    # token = skill + 4 * answer
    assert seen["embed_context"].tolist() == [4, 3, 6]
    assert seen["embed_value"].tolist() == [4, 3, 6]
    assert seen["embed_position"].tolist() == [0, 1, 2]
    assert seen["embed_skill"].tolist()[:2] == [3, 2]


def test_attention_stays_inside_the_sequence_and_looks_back_only() -> None:
    batch = batch_of([(0, 1)] * 3, [(0, 1)] * 4)
    n = len(batch.valid)
    # equal scores: attention is the mean of the values so far
    zeros, values = torch.zeros(n, 2), torch.arange(2.0 * n).view(n, 2)
    attended = causal_attention(batch, zeros, zeros, values, n_heads=1)
    for index in range(2):
        own = of_student(batch, values, index)
        counts = torch.arange(1, len(own) + 1)[:, None]
        expected = own.cumsum(dim=0) / counts
        torch.testing.assert_close(of_student(batch, attended, index), expected)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropout = Dropout(0.2)
    x = torch.ones(100_003)
    dropped = dropout(x)
    # 5 standard deviations of the share: 5 sqrt(0.2 * 0.8 / 100000)
    assert abs(float((dropped == 0).float().mean()) - 0.2) < 0.0064
    # 0.2 of 65536 is 13107 whole steps
    kept = dropped[dropped != 0]
    assert kept.unique().tolist() == pytest.approx([1 / (1 - 13107 / 65536)])
    assert dropout.eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_dropout_neighbours_are_independent() -> None:
    """Four elements share a random word; they must not share their fate."""
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(40_000)) != 0).double().view(-1, 4)
    correlations = np.corrcoef(kept.T.numpy()) - np.eye(4)
    assert np.abs(correlations).max() < 0.05
    assert kept.mean(dim=0).tolist() == pytest.approx([0.5] * 4, abs=0.03)


def test_dropout_depends_on_the_generator_and_is_active_in_training() -> None:
    model = small_model(dropout=0.3).train()
    batch = batch_of(*random_students([10], SKILLS))
    torch.manual_seed(5)
    first = model(batch).logits
    second = model(batch).logits
    torch.manual_seed(5)
    again = model(batch).logits
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
