"""Packed rows: the same steps as in rectangles, and neighbours in a row that never meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gainakt.data.batches import Batch, make_batch, training_batches
from gainakt.data.packing import ROW_LENGTH, Packing, choose_shapes, packed_batch
from gainakt.data.sequences import Sequences
from gainakt.models import KnowledgeTracer, ModelOutput, build_model
from gainakt.objectives.schedule import EpochWeights
from gainakt.objectives.total import BatchWeights, total_loss
from tests.helpers import (
    Steps,
    of_student,
    random_students,
    sequences_of,
    small_config,
    vocabulary_of,
)

SKILLS = 5
lengths_lists = st.lists(st.integers(3, 40), min_size=1, max_size=14)
# every objective takes part
WEIGHTS = EpochWeights(0.7, 0.3, 0.2, True, 0.01, 0.4, True)
MODELS: dict[str, dict[str, Any]] = {
    "gainakt2exp": {},
    "in_context": {"model": "gainsum", "weights": "in_context"},
    "skills_only": {"model": "gainsum", "weights": "skills_only"},
}
every_model = pytest.mark.parametrize("name", list(MODELS))


def packed(sequences: Sequences, seq_len: int = 64) -> Batch:
    """All sequences as one batch of packed rows."""
    packing = Packing(sequences, seq_len, len(sequences), seed=0)
    plan = packing.epoch(1)
    return packed_batch(packing.columns(), plan.sequence, plan.position, packing.length)


def config_of(name: str) -> Any:
    parameters = dict(MODELS[name])
    return small_config(parameters.pop("model", "gainakt2exp"), **parameters)


def model_of(name: str) -> KnowledgeTracer:
    return build_model(config_of(name), vocabulary_of(SKILLS)).train()  # dropout is 0


def per_step(batch: Batch, values: Tensor, count: int) -> Tensor:
    """Values ordered by sequence and position, whatever the layout."""
    return torch.cat([of_student(batch, values, index) for index in range(count)])


@settings(deadline=None, max_examples=40)
@given(lengths_lists, st.integers(0, 1000))
def test_packed_rows_hold_the_steps_that_rectangles_hold(lengths: list[int], seed: int) -> None:
    sequences = sequences_of(*random_students(lengths, SKILLS, seed))
    by_rectangle, by_row = make_batch(sequences, np.arange(len(lengths))), packed(sequences)
    names = ("skill", "response", "position", "next_skill", "next_response", "target", "has_next")
    for name in names:
        found, expected = (
            per_step(batch, getattr(batch, name), len(lengths)) for batch in (by_row, by_rectangle)
        )
        assert torch.equal(found, expected), name
    assert int(by_row.valid.sum()) == sum(lengths)
    assert int(by_row.position.max()) < max(lengths)
    assert not bool(by_row.has_next[~by_row.valid].any())


def test_what_is_visible_by_hand() -> None:
    sequences = sequences_of(*random_students([200, 50, 3]))
    batch = packed(sequences, seq_len=200)
    # 200 + 50 + 3 fit into one row of 256; three steps are left over
    assert batch.rectangles == ((0, 1, ROW_LENGTH),)
    assert batch.visible is not None and batch.visible.shape == (ROW_LENGTH, ROW_LENGTH)
    assert batch.visible[0].nonzero().flatten().tolist() == [0]
    assert batch.visible[199].sum() == 200
    assert batch.visible[200].nonzero().flatten().tolist() == [200]
    assert batch.visible[252].nonzero().flatten().tolist() == [250, 251, 252]
    assert batch.visible[255].nonzero().flatten().tolist() == [253, 254, 255]
    assert batch.valid.nonzero().flatten().tolist() == list(range(253))


@pytest.mark.parametrize("batch_size", [1, 4, 7, 30])
def test_an_epoch_has_the_steps_of_the_training_batches(batch_size: int) -> None:
    sequences = sequences_of(*random_students([3 + 7 * n % 60 for n in range(30)], SKILLS))
    packing = Packing(sequences, 64, batch_size, seed=5)
    for epoch in (1, 2):
        plan = packing.epoch(epoch)
        expected = list(training_batches(sequences, batch_size, 5, epoch))
        assert len(plan.rows) == len(plan.starts) == len(expected)
        for rows, start, batch in zip(plan.rows, plan.starts, expected, strict=True):
            cells = slice(start, start + rows * packing.length)
            found = Counter(plan.sequence[cells].tolist())
            found.pop(len(sequences), None)
            assert found == Counter(batch.sequence[batch.valid].tolist())
        assert plan.starts[-1] + plan.rows[-1] * packing.length == len(plan.sequence)


def test_an_epoch_has_few_shapes_whatever_the_order() -> None:
    rng = np.random.default_rng(0)
    sequences = sequences_of(*random_students(rng.integers(3, 64, size=400).tolist(), SKILLS))
    packing = Packing(sequences, 64, 32, seed=1)
    assert 1 <= len(packing.shapes) <= 3
    usual = [rows for epoch in range(1, 6) for rows in packing.epoch(epoch).rows]
    assert sum(rows in packing.shapes for rows in usual) > 0.9 * len(usual)


@pytest.mark.parametrize(("seq_len", "length"), [(3, 256), (200, 256), (256, 256), (257, 320)])
def test_rows_are_long_enough(seq_len: int, length: int) -> None:
    assert Packing(sequences_of([(0, 1)] * 3), seq_len, 1, 0).length == length


def test_shapes_by_hand() -> None:
    assert choose_shapes(np.array([5])) == [5]
    assert choose_shapes(np.array([3, 4, 5]), most=3) == [3, 4, 5]
    # the 4 and the six 9 rounded up to 10 waste 6 + 6 rows; the eight 3 rounded up to 4 waste 8
    rows = np.array([3] * 8 + [4] + [9] * 6 + [10])
    assert choose_shapes(rows, most=2) == [3, 10]
    # the 4 rounded up to 9 wastes 5, the six 9 rounded up to 10 waste 6
    assert choose_shapes(rows, most=3) == [3, 9, 10]
    assert choose_shapes(rows, most=1) == [10]


def losses_and_gradients(
    name: str,
    model: KnowledgeTracer,
    batch: Batch,
    read: Callable[[Batch], ModelOutput] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """All that a batch gives; `read` reads it in the model's place."""
    model.zero_grad()
    output = model(batch) if read is None else read(batch)
    config = config_of(name)
    losses, moving = total_loss(
        output, batch, config, WEIGHTS, BatchWeights.start(0.2, torch.device("cpu"))
    )
    losses.total.backward()
    found = {"terms": losses.terms(), "sparsity": moving.sparsity, "logits": output.logits}
    for field in ("mastery", "gains"):
        if getattr(output, field) is not None:
            found[field] = getattr(output, field)
    for field in ("mastery_correlation", "lag_correlations", "mastery_variance"):
        if getattr(losses, field) is not None:
            found[field] = getattr(losses, field)
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return found, gradients


@every_model
@settings(deadline=None, max_examples=12)
@given(lengths=lengths_lists, seed=st.integers(0, 1000))
def test_rows_and_rectangles_give_the_same_results(
    name: str, lengths: list[int], seed: int
) -> None:
    sequences = sequences_of(*random_students(lengths, SKILLS, seed))
    model = model_of(name)
    batches = (make_batch(sequences, np.arange(len(lengths))), packed(sequences))
    results = [losses_and_gradients(name, model, batch) for batch in batches]
    (expected, gradients), (found, packed_gradients) = results
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        other = found[key]
        if key in ("logits", "mastery", "gains"):
            value = per_step(batches[0], value, len(lengths))
            other = per_step(batches[1], other, len(lengths))
        torch.testing.assert_close(other, value, atol=1e-5, rtol=1e-4, msg=key)
    assert gradients.keys() == packed_gradients.keys()
    for key, value in gradients.items():
        torch.testing.assert_close(packed_gradients[key], value, atol=1e-5, rtol=1e-3, msg=key)


@every_model
@torch.no_grad()
def test_what_stands_beside_a_sequence_does_not_reach_it(name: str) -> None:
    """To the last bit: skills, answers and padding beside it may be anything."""
    students: list[Steps] = random_students([30, 40, 20, 50], SKILLS)
    others = random_students([30, 40, 20, 50], SKILLS, seed=9)
    model = model_of(name)
    batch = packed(sequences_of(*students))
    before = model(batch)
    assert len(batch.rectangles) == 1 and batch.rectangles[0].rows == 1
    for kept in range(4):
        changed = [students[i] if i == kept else others[i] for i in range(4)]
        after = model(packed(sequences_of(*changed)))
        for field in ("logits", "mastery", "gains"):
            values = getattr(before, field)
            if values is not None:
                own = of_student(batch, values, kept)
                assert torch.equal(of_student(batch, getattr(after, field), kept), own)
    padding = ~batch.valid
    filled = replace(
        batch,
        **{
            column: torch.where(padding, value, getattr(batch, column))
            for column, value in (("skill", 2), ("response", 1), ("next_skill", 3))
        },
    )
    assert torch.equal(model(filled).logits[batch.valid], before.logits[batch.valid])


@every_model
@torch.no_grad()
def test_the_future_does_not_reach_a_packed_prediction(name: str) -> None:
    students = random_students([30, 40], SKILLS)
    model = model_of(name)
    batch = packed(sequences_of(*students))
    later = (batch.sequence == 0) & (batch.position > 12)
    changed = replace(
        batch,
        response=torch.where(later, 1 - batch.response, batch.response),
        skill=torch.where(later, (batch.skill + 1) % SKILLS, batch.skill),
    )
    assert torch.equal(model(changed).logits[~later], model(batch).logits[~later])
    assert not torch.equal(model(changed).logits[later], model(batch).logits[later])


@torch.no_grad()
def test_mastery_in_packed_rows_rises_up_to_one() -> None:
    model = build_model(small_config(), vocabulary_of(SKILLS))
    batch = packed(sequences_of(*random_students([50, 60, 40, 30], SKILLS)))
    mastery = model(batch).mastery
    falls = (mastery[:-1] - mastery[1:]).amax(dim=1)[batch.pairs(1)]
    assert float(falls.max()) <= 1e-6
    assert bool(((mastery >= 0) & (mastery <= 1)).all())
