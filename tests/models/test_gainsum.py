"""GainSum: the sum is exact, the signs hold, and skills_only never punishes a right answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gainakt.config import load_config
from gainakt.errors import ConfigError
from gainakt.models import build_model
from gainakt.models.gainsum.block import ROTARY_BASE, rotate
from gainakt.models.gainsum.evidence import attention_weights, preference, sum_evidence
from gainakt.models.gainsum.model import GainSum
from tests.helpers import Steps, batch_of, of_student, random_students, small_config, vocabulary_of

SKILLS = 4
both_settings = pytest.mark.parametrize("weights", ["in_context", "skills_only"])


def random_model(weights: str, seed: int = 0, spread: float = 1.0) -> GainSum:
    """A model far from its initial weights, where the guarantees have to hold as well."""
    model = build_model(small_config("gainsum", weights=weights, seed=seed), vocabulary_of(SKILLS))
    assert isinstance(model, GainSum)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += spread * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@torch.no_grad()
def logits(model: GainSum, steps: Steps) -> Tensor:
    """The logits after every step of one student."""
    return model(batch_of(steps)).logits


@both_settings
@torch.no_grad()
def test_prior_and_contributions_sum_to_the_logit(weights: str) -> None:
    model = random_model(weights, spread=0.3)
    batch = batch_of(*random_students([3, 7, 9, 60, 61], SKILLS))
    explanation = model.explain(batch)
    for rectangle, shares in zip(batch.rectangles, explanation.contributions, strict=True):
        start, rows, length = rectangle
        flat = slice(start, start + rows * length)
        total = explanation.prior[flat] + shares.sum(dim=-1).flatten()
        torch.testing.assert_close(total, model(batch).logits[flat], atol=1e-4, rtol=0)


@both_settings
@pytest.mark.parametrize("seed", range(5))
@torch.no_grad()
def test_right_answers_never_count_against_and_wrong_never_for(weights: str, seed: int) -> None:
    model = random_model(weights, seed)
    batch = batch_of(*random_students([5, 5, 40], SKILLS, seed))
    for skill in (None, 2):
        shares = model.explain(batch, skill).contributions
        for (start, rows, length), share in zip(batch.rectangles, shares, strict=True):
            answer = batch.response[start : start + rows * length].view(rows, 1, length)
            assert bool((share * (2 * answer - 1) >= 0).all())
            assert bool((share.triu(1) == 0).all())
            assert bool((share != 0).any())


@both_settings
@torch.no_grad()
def test_the_future_does_not_reach_a_prediction(weights: str) -> None:
    model = random_model(weights)
    steps = list(random_students([30], SKILLS)[0])
    before = logits(model, steps)
    explained = model.explain(batch_of(steps))
    for changed in (9, 17, 28):
        other = [*steps[:changed], *((int(s + 1) % SKILLS, 1 - int(r)) for s, r in steps[changed:])]
        batch = batch_of(other)
        # the skill asked next is part of the question, so step `changed - 1` is the last kept
        kept = slice(0, changed - 1)
        assert torch.equal(model(batch).logits[kept], before[kept])
        assert torch.equal(model.explain(batch).prior[kept], explained.prior[kept])
        own = model.mastery(batch)[:changed]
        assert torch.equal(own, model.mastery(batch_of(steps))[:changed])


@both_settings
@torch.no_grad()
def test_a_sequence_does_not_depend_on_its_batch(weights: str) -> None:
    model = random_model(weights, spread=0.3)
    students = random_students([4, 12, 12, 35], SKILLS)
    together = batch_of(*students)
    for index, steps in enumerate(students):
        alone = logits(model, steps)
        beside = of_student(together, model(together).logits, index)
        torch.testing.assert_close(beside, alone, atol=1e-5, rtol=1e-5)


@both_settings
@torch.no_grad()
def test_mastery_of_the_skill_asked_is_the_prediction(weights: str) -> None:
    model = random_model(weights, spread=0.3)
    batch = batch_of(*random_students([3, 20, 21], SKILLS))
    mastery = model.mastery(batch)
    assert mastery.shape == (len(batch.valid), SKILLS)
    asked = mastery.gather(1, batch.next_skill[:, None]).squeeze(1)
    torch.testing.assert_close(asked, model(batch).logits.sigmoid(), atol=1e-5, rtol=0)
    some = model.mastery(batch, torch.tensor([2, 0]))
    assert torch.equal(some, mastery[:, [2, 0]])


@torch.no_grad()
def test_explaining_a_skill_gives_its_mastery() -> None:
    model = random_model("in_context", spread=0.3)
    batch = batch_of(*random_students([8, 20], SKILLS))
    explanation = model.explain(batch, skill=3)
    expected = model.mastery(batch, torch.tensor([3])).squeeze(1)
    torch.testing.assert_close(explanation.logits.sigmoid(), expected, atol=1e-6, rtol=0)


steps_and_flip = st.lists(
    st.tuples(st.integers(0, SKILLS - 1), st.integers(0, 1)), min_size=2, max_size=25
).flatmap(lambda steps: st.tuples(st.just(steps), st.integers(0, len(steps) - 1)))


@settings(deadline=None, max_examples=150)
@given(steps_and_flip, st.integers(0, 1000), st.floats(0, 2))
@torch.no_grad()
def test_skills_only_search_for_an_answer_that_counts_the_wrong_way(
    case: tuple[list[tuple[int, int]], int], seed: int, spread: float
) -> None:
    steps, flipped = case
    model = random_model("skills_only", seed, spread)
    outcomes = []
    for answer in (0, 1):
        other = list(steps)
        other[flipped] = (steps[flipped][0], answer)
        batch = batch_of(other)
        outcomes.append(torch.cat([model(batch).logits[:, None], model.mastery(batch)], dim=1))
    wrong, right = outcomes
    # equal weights, ordered values: even rounding keeps the order up to one sum's error
    assert bool((right >= wrong - 1e-5 * (1 + wrong.abs())).all())
    assert torch.equal(right[:flipped], wrong[:flipped])


@torch.no_grad()
def test_skills_only_random_flips_on_long_histories() -> None:
    generator = torch.Generator().manual_seed(1)
    for seed in range(10):
        model = random_model("skills_only", seed)
        batch = batch_of(*random_students([64] * 20, SKILLS, seed))
        wrong = (batch.response == 0).nonzero().squeeze(1)
        chosen = wrong[torch.randperm(len(wrong), generator=generator)[:20]]
        before = model(batch).logits
        for step in chosen.tolist():
            response = batch.response.clone()
            response[step] = 1
            after = model(replace(batch, response=response)).logits
            assert bool((after >= before - 1e-5 * (1 + before.abs())).all())


@torch.no_grad()
def test_skills_only_weights_do_not_depend_on_answers() -> None:
    model = random_model("skills_only")
    batch = batch_of(*random_students([20, 20], SKILLS))
    flipped = replace(batch, response=1 - batch.response)
    first, second = model.explain(batch), model.explain(flipped)
    assert torch.equal(first.prior, second.prior)


def test_attention_weights_by_hand() -> None:
    # one head of width 4, two steps; the second question shares the skill of the first step
    query = torch.ones(1, 2, 1, 4)
    keys = torch.tensor([1.0, 0.5])[None, :, None, None].expand(1, 2, 1, 4)
    is_same = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])
    same, decay = torch.tensor([2.0]), torch.tensor([0.5])
    weights = attention_weights(query, keys, is_same, preference(same, decay, 2))
    # 4 * 1 / sqrt(4) - 0.5 * 1 step + 2, against 4 * 0.5 / sqrt(4)
    expected = torch.tensor([2.0 - 0.5 + 2.0, 1.0]).softmax(dim=0)
    torch.testing.assert_close(weights[0, 0], torch.stack([torch.tensor([1.0, 0.0]), expected]))


@pytest.mark.parametrize("causal", [True, False])
def test_the_gradient_of_the_sum_of_evidence_is_that_of_its_formula(causal: bool) -> None:
    random = torch.Generator().manual_seed(3)
    questions, answers = 5, 5 if causal else 7

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64).requires_grad_()

    inputs = (
        draw(2, questions, 3, 4),
        draw(2, answers, 3, 4),
        draw(2, answers, 3),
        draw(3),
        draw(3),
    )
    is_same = torch.randint(0, 2, (2, questions, answers), generator=random).double()

    def by_the_formula(
        query: Tensor, keys: Tensor, gains: Tensor, same: Tensor, decay: Tensor
    ) -> Tensor:
        prefer = preference(same, decay, answers, causal=causal)
        alpha = attention_weights(query, keys, is_same, prefer)
        return torch.einsum("rhti,rih->rth", alpha, gains)

    def function(query: Tensor, keys: Tensor, gains: Tensor, same: Tensor, decay: Tensor) -> Tensor:
        prefer = preference(same, decay, answers + 2, causal=causal)
        return sum_evidence(query, keys, gains, is_same, prefer)

    torch.testing.assert_close(function(*inputs), by_the_formula(*inputs))
    assert torch.autograd.gradcheck(function, inputs)


def test_the_sum_is_exact_in_mixed_precision_too() -> None:
    model = random_model("in_context", spread=0.3)
    batch = batch_of(*random_students([12, 50], SKILLS))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        explanation = model.explain(batch)
    assert explanation.logits.dtype == torch.float32
    for (start, rows, length), shares in zip(
        batch.rectangles, explanation.contributions, strict=True
    ):
        flat = slice(start, start + rows * length)
        total = explanation.prior[flat] + shares.sum(dim=-1).flatten()
        torch.testing.assert_close(total, explanation.logits[flat], atol=1e-4, rtol=0)


def test_gradients_reach_every_parameter() -> None:
    for weights in ("in_context", "skills_only"):
        model = random_model(weights).train()
        model(batch_of(*random_students([12, 20], SKILLS))).logits.sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and bool((parameter.grad != 0).any()), name


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="n_heads = 5"):
        load_config(None, {"model": "gainsum", "n_heads": 5})


def test_rotary_angles_have_the_digits_of_what_they_turn() -> None:
    x = torch.ones(2, 1, 4, dtype=torch.float64)
    position = torch.tensor([0, 99_999])
    turned = rotate(x, position)[1, 0].numpy()
    for pair, speed in enumerate((1.0, ROTARY_BASE**-0.5)):
        angle = 99_999 * speed
        expected = [np.cos(angle) - np.sin(angle), np.sin(angle) + np.cos(angle)]
        np.testing.assert_allclose(turned[2 * pair : 2 * pair + 2], expected, rtol=0, atol=1e-10)
