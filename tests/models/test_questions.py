"""Models with question ids: what they add, and what an unknown one must not change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gainakt.config import MODELS
from gainakt.data.batches import Batch
from gainakt.data.rows import UNKNOWN, asked_next
from gainakt.models import build_model
from gainakt.models.gainsum.model import GainSum
from gainakt.models.interface import KnowledgeTracer
from gainakt.models.questions import Questions
from tests.helpers import (
    QUESTIONS,
    SKILLS,
    batch_of,
    random_students,
    sequences_of,
    small_config,
    vocabulary_of,
)

both = pytest.mark.parametrize("weights", ["in_context", "skills_only"])


def model_of(weights: str, n_questions: int = QUESTIONS, **overrides: Any) -> GainSum:
    """A model whose questions are far from one another."""
    config = small_config("gainsum", weights=weights, question_ids=True, **overrides)
    model = build_model(config, vocabulary_of(SKILLS, n_questions))
    assert isinstance(model, GainSum)
    if model.questions is not None:
        with torch.no_grad():
            for table in (model.questions.embed.weight, model.questions.easy.weight):
                table[1:].normal_(generator=torch.Generator().manual_seed(5))
    return model.eval()


def asked(batch: Batch, codes: np.ndarray | int) -> Batch:
    """The batch with questions of these codes, by step; the next one's is that of the next step."""
    question = torch.as_tensor(np.broadcast_to(codes, batch.skill.shape).copy(), dtype=torch.int64)
    following = torch.cat([question[1:], question[:1]])
    return replace(batch, question=question, next_question=following)


def random_batch(seed: int = 0) -> Batch:
    batch = batch_of(*random_students([20, 30], SKILLS, seed))
    return asked(batch, np.random.default_rng(seed).integers(QUESTIONS + 1, size=len(batch.skill)))


@both
@torch.no_grad()
def test_an_unknown_question_is_its_skill_to_the_bit(weights: str) -> None:
    model, batch = model_of(weights), random_batch()
    without = replace(batch, question=None, next_question=None)
    assert torch.equal(model(asked(batch, UNKNOWN)).logits, model(without).logits)
    assert not torch.equal(model(batch).logits, model(without).logits)


@both
def test_without_ids_the_model_is_that_of_skills_alone_to_the_bit(weights: str) -> None:
    plain = build_model(small_config("gainsum", weights=weights), vocabulary_of(SKILLS))
    for n_questions in (0, QUESTIONS):
        config = small_config("gainsum", weights=weights, question_ids=True)
        model = build_model(config, vocabulary_of(SKILLS, n_questions))
        shared = {k: w for k, w in model.state_dict().items() if not k.startswith("questions.")}
        assert shared.keys() == plain.state_dict().keys()
        assert all(torch.equal(w, shared[k]) for k, w in plain.state_dict().items())
        assert len(shared) == len(model.state_dict()) or n_questions


@both
@torch.no_grad()
def test_no_later_question_is_read(weights: str) -> None:
    model, batch = model_of(weights), random_batch(1)
    before = model(batch).logits
    for step in (0, 5, 17):
        assert batch.question is not None
        changed = batch.question.clone()
        later = (batch.sequence == 0) & (batch.position > step + 1) & batch.valid
        changed[later] = changed[later] % QUESTIONS + 1
        after = model(asked(batch, changed.numpy())).logits
        kept = (batch.sequence == 0) & (batch.position <= step)
        assert torch.equal(after[kept], before[kept])
        assert not torch.equal(after, before)


@both
@torch.no_grad()
def test_an_easier_question_is_predicted_higher_by_how_much_easier_it_is(weights: str) -> None:
    model, batch = model_of(weights), random_batch(2)
    assert model.questions is not None
    model.questions.embed.weight[2] = model.questions.embed.weight[1]
    # the last step's prediction reads the question asked next alone
    last = int(batch.valid.nonzero().max()) - 1
    assert batch.next_question is not None
    logits = []
    for code in (1, 2):
        following = batch.next_question.clone()
        following[last] = code
        logits.append(float(model(replace(batch, next_question=following)).logits[last]))
    one, two = model.questions.easy.weight[1:3, 0].tolist()
    assert logits[1] - logits[0] == pytest.approx(two - one, abs=1e-5)


@both
@torch.no_grad()
def test_the_prediction_is_still_an_exact_sum(weights: str) -> None:
    model, batch = model_of(weights).double(), random_batch(3)
    explanation = model.explain(batch)
    torch.testing.assert_close(explanation.logits, model(batch).logits, atol=1e-10, rtol=0)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.data())
@torch.no_grad()
def test_without_answers_in_the_weights_a_right_answer_never_lowers(
    seed: int, data: st.DataObject
) -> None:
    model, batch = model_of("skills_only").double(), random_batch(seed)
    wrong = torch.nonzero(batch.valid & (batch.response == 0)).flatten().tolist()
    flipped = data.draw(st.sampled_from(wrong))
    response = batch.response.clone()
    response[flipped] = 1
    before, after = model(batch).logits, model(replace(batch, response=response)).logits
    assert bool((after >= before - 1e-12).all())


def test_in_training_a_share_of_questions_is_unknown_and_never_learnt() -> None:
    questions = Questions(QUESTIONS, 8, dropout=0.3)
    codes = torch.full((20_000,), 3)
    dropped = (questions.train().drop(codes) == UNKNOWN).float().mean()
    assert float(dropped) == pytest.approx(0.3, abs=0.02)
    assert torch.equal(questions.eval().drop(codes), codes)
    loss = questions.embedding(torch.tensor([UNKNOWN, 3])).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    gradient = questions.embed.weight.grad
    assert gradient is not None and not gradient[UNKNOWN].any() and gradient[3].any()


every_reader = pytest.mark.parametrize(
    "name",
    [name for name, spec in MODELS.items() if "question_ids" in spec.parameters.model_fields],
)


def reader_of(name: str, n_questions: int = QUESTIONS) -> KnowledgeTracer:
    """A model of any kind whose questions are far from one another."""
    config = small_config(name, question_ids=True)
    model = build_model(config, vocabulary_of(SKILLS, n_questions))
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if key.startswith("questions."):
                weight[1:].normal_(generator=torch.Generator().manual_seed(5))
        for key, counts in model.named_buffers():
            if key == "answers_to":  # what a learner without gradients knows of questions
                counts[0, 1:] = torch.arange(n_questions)
                counts[1, 1:] = n_questions
            if key == "ease_of_question":
                counts[1:] = torch.arange(n_questions)
    return model.eval()


@every_reader
@torch.no_grad()
def test_any_reader_takes_an_unknown_question_for_its_skill(name: str) -> None:
    model, batch = reader_of(name), random_batch(6)
    plain = build_model(small_config(name), vocabulary_of(SKILLS)).eval()
    assert torch.equal(model(asked(batch, UNKNOWN)).logits, plain(batch).logits)
    assert not torch.equal(model(batch).logits, plain(batch).logits)


@every_reader
@torch.no_grad()
def test_no_reader_reads_a_later_question(name: str) -> None:
    model, batch = reader_of(name), random_batch(7)
    before = model(batch).logits
    assert batch.question is not None
    changed = batch.question.clone()
    later = (batch.sequence == 0) & (batch.position > 9) & batch.valid
    changed[later] = changed[later] % QUESTIONS + 1
    after = model(asked(batch, changed.numpy())).logits
    kept = (batch.sequence == 0) & (batch.position <= 8)
    assert torch.equal(after[kept], before[kept])
    assert not torch.equal(after, before)


@every_reader
@torch.no_grad()
def test_any_reader_told_answer_by_answer_predicts_as_in_a_batch(name: str) -> None:
    model = reader_of(name).double()
    (steps,) = random_students([25], SKILLS, 9)
    question = np.random.default_rng(3).integers(QUESTIONS + 1, size=25)
    batch = asked(batch_of(steps), question)
    logits, rows = model(batch).logits, sequences_of(steps).rows.replace(question=question)
    for at_once in (1, 7):
        state = model.begin()
        state.extend(rows.take(slice(0, at_once)))
        for step in range(at_once, 24):
            skill = int(rows.skill[step])
            found = state.logits(asked_next([skill], int(question[step])))[0]
            torch.testing.assert_close(found, logits[step - 1], atol=1e-10, rtol=0)
            state.extend(rows.take(slice(step, step + 1)))
