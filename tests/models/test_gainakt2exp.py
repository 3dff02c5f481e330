"""The model: its size, mastery by cumulative sum, and what holds for every registered model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gainakt.config import MODELS, load_config
from gainakt.data.batches import Batch, make_batch
from gainakt.errors import ConfigError
from gainakt.models import KnowledgeTracer, ModelOutput, build_model
from gainakt.models.attention import Dropout, causal_attention
from gainakt.models.gainakt2exp import GainAKT2Exp, TwoStreamBlock, accumulate_mastery
from tests.helpers import (
    batch_of,
    of_student,
    random_students,
    sequences_of,
    small_config,
    vocabulary_of,
)

SKILLS = 4
every_model = pytest.mark.parametrize("name", MODELS)


def small_model(name: str = "gainakt2exp", **overrides: Any) -> KnowledgeTracer:
    return build_model(small_config(name, **overrides), vocabulary_of(SKILLS)).eval()


def outputs(output: ModelOutput) -> dict[str, Tensor]:
    """The outputs that a model has, by name."""
    fields = {"logits": output.logits, "mastery": output.mastery, "gains": output.gains}
    return {name: values for name, values in fields.items() if values is not None}


@torch.no_grad()
def read(model: KnowledgeTracer, batch: Batch, index: int) -> dict[str, Tensor]:
    """All outputs for one sequence of a batch."""
    return {k: of_student(batch, v, index) for k, v in outputs(model(batch)).items()}


def test_every_model_has_parameters_and_a_builder() -> None:
    assert set(MODELS) == set(MODELS)


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


@every_model
def test_initial_weights_depend_on_the_seed_only(name: str) -> None:
    torch.manual_seed(1)
    first = small_model(name).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = small_model(name).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = small_model(name, seed=43)
    if next(other.parameters(), None) is not None:
        assert not all(torch.equal(first[key], w) for key, w in other.state_dict().items())


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


@every_model
@pytest.mark.parametrize("step", [0, 1, 6, 23, 37])
def test_no_output_knows_anything_later(name: str, step: int) -> None:
    """Change the next answer and every step after it: nothing up to the step moves by a bit.

    The skill asked next stays, since the prediction may read it.
    """
    model = small_model(name)
    students = random_students([5, 40, 38, 40], SKILLS, seed=2)
    index = 1
    before = read(model, batch_of(*students), index)
    rng = np.random.default_rng(step)
    changed = list(students[index])
    next_skill, next_answer = changed[step + 1]
    changed[step + 1] = (next_skill, 1 - next_answer)
    for later in range(step + 2, 40):
        skill = changed[later][0] + int(rng.integers(1, SKILLS))
        changed[later] = (skill % SKILLS, int(rng.integers(2)))
    students[index] = changed
    after = read(model, batch_of(*students), index)
    for output, values in before.items():
        assert torch.equal(after[output][: step + 1], values[: step + 1]), output
        # the change was one that the model sees, unless mastery is full already
        full = output == "mastery" and bool((values[step + 1] == 1).all())
        same = torch.equal(after[output][step + 1], values[step + 1])
        assert full or not model.reads_history or not same, output


@every_model
def test_the_prediction_reads_the_skill_asked_next_and_nothing_else_does(name: str) -> None:
    model = small_model(name)
    students = random_students([20], SKILLS)
    step = 8
    before = read(model, batch_of(*students), 0)
    changed = list(students[0])
    skill, answer = changed[step + 1]
    changed[step + 1] = ((skill + 1) % SKILLS, answer)
    after = read(model, batch_of(changed), 0)
    assert torch.equal(after["logits"][:step], before["logits"][:step])
    if next(model.parameters(), None) is not None:  # what is fitted is alike for all before it is
        assert after["logits"][step] != before["logits"][step]
    for output in set(before) - {"logits"}:
        assert torch.equal(after[output][: step + 1], before[output][: step + 1]), output


@every_model
def test_other_students_are_never_read(name: str) -> None:
    """Neighbours in the same rectangle change entirely; every bit of a student's outputs stays."""
    model = small_model(name)
    students = random_students([12, 12, 12], SKILLS, seed=4)
    before = read(model, batch_of(*students), 1)
    others = random_students([12, 12, 12], SKILLS, seed=5)
    after = read(model, batch_of(others[0], students[1], others[2]), 1)
    for output, values in before.items():
        assert torch.equal(after[output], values), output


@every_model
def test_outputs_are_equal_alone_and_in_company(name: str) -> None:
    model = small_model(name)
    students = random_students([3, 4, 6, 9, 15, 16, 40], SKILLS, seed=6)
    together = batch_of(*students)
    assert int((~together.valid).sum()) > 0
    for index, steps in enumerate(students):
        company, alone = read(model, together, index), read(model, batch_of(steps), 0)
        for output, values in company.items():
            torch.testing.assert_close(alone[output], values, atol=1e-5, rtol=1e-5)


@every_model
def test_padding_content_changes_no_output(name: str) -> None:
    model = small_model(name)
    batch = batch_of(*random_students([3, 4, 6, 7], SKILLS, seed=7))
    padding = ~batch.valid
    assert bool(padding.any())
    other = replace(
        batch,
        skill=torch.where(padding, (batch.skill + 1) % SKILLS, batch.skill),
        response=torch.where(padding, 1 - batch.response, batch.response),
        next_skill=torch.where(padding, (batch.next_skill + 2) % SKILLS, batch.next_skill),
    )
    with torch.no_grad():
        before, after = outputs(model(batch)), outputs(model(other))
    for output, values in before.items():
        assert torch.equal(after[output][batch.valid], values[batch.valid]), output


@every_model
def test_the_longest_sequence_fits_and_dropout_is_off_in_evaluation(name: str) -> None:
    config = small_config(name)
    sequences = sequences_of(*random_students([config.model.seq_len], SKILLS))
    batch = make_batch(sequences, np.array([0]))
    model = small_model(name)
    assert torch.equal(model(batch).logits, model(batch).logits)


@every_model
def test_the_last_skill_and_a_single_skill_are_modelled(name: str) -> None:
    config = small_config(name)
    for skills in (1, 3):
        steps = [(skills - 1, t % 2) for t in range(5)]
        logits = build_model(config, vocabulary_of(skills))(batch_of(steps)).logits
        assert bool(torch.isfinite(logits).all())


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
