"""What every model keeps to: one contract over all that are registered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gainakt.config import MODELS
from gainakt.data.batches import make_batch
from gainakt.data.interactions import Dataset, load_dataset
from gainakt.data.packing import Packing, packed_batch
from gainakt.data.rows import asked_next
from gainakt.experiment.learning import Learning
from gainakt.models import build_model
from gainakt.record.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tests.helpers import (
    SKILLS,
    batch_of,
    of_student,
    outputs,
    random_students,
    read,
    sequences_of,
    small_config,
    small_model,
    vocabulary_of,
)

every_model = pytest.mark.parametrize("name", MODELS)


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


# ---- one answer, one student, one file


@every_model
@torch.no_grad()
def test_a_question_of_several_skills_does_not_answer_itself(name: str) -> None:
    """What is predicted of a question is the same whatever its answer, to the last bit."""
    model = small_model(name)
    (steps,) = random_students([12], SKILLS, seed=11)
    order = [0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 8, 9]
    flipped = [
        (skill, 1 - answer if question == 3 else answer)
        for question, (skill, answer) in zip(order, steps, strict=True)
    ]
    before, after = (batch_of(one, orders=[order]) for one in (steps, flipped))
    scored = before.has_next & (before.position < 3)
    assert int(scored.sum()) == 3
    assert not before.has_next[3:5].any(), "skills after the first are not predicted apart"
    assert torch.equal(model(before).logits[scored], model(after).logits[scored])


@every_model
@torch.no_grad()
def test_a_skill_asked_in_place_of_another_is_predicted_from_the_same_past(name: str) -> None:
    model = small_model(name)
    students = random_students([14, 9], SKILLS, seed=17)
    batch = batch_of(*students)
    same = model.asked_instead(batch, batch.next_skill)
    valid = batch.has_next
    torch.testing.assert_close(same[valid], model(batch).logits[valid], atol=1e-5, rtol=1e-5)
    others = (batch.next_skill + 1) % SKILLS
    instead = model.asked_instead(batch, others)
    for step in (0, 4, 12):  # one at a time it is what a history with that skill says
        changed = list(students[0])
        changed[step + 1] = ((changed[step + 1][0] + 1) % SKILLS, changed[step + 1][1])
        again = read(model, batch_of(changed, students[1]), 0)["logits"]
        of_first = of_student(batch, instead, 0)
        torch.testing.assert_close(of_first[step], again[step], atol=1e-5, rtol=1e-5)


@every_model
@torch.no_grad()
def test_a_student_told_answer_by_answer_is_predicted_as_in_a_batch(name: str) -> None:
    model = small_model(name).double()
    (steps,) = random_students([30], SKILLS, seed=12)
    batch = batch_of(steps)
    logits, rows = model(batch).logits, sequences_of(steps).rows
    mastery = model.mastery(batch)
    state = model.begin()
    for step in range(29):
        state.extend(rows.take(slice(step, step + 1)))
        found = state.logits(asked_next(range(SKILLS)))[steps[step + 1][0]]
        torch.testing.assert_close(found, logits[step], atol=1e-10, rtol=0)
        if mastery is not None:
            of_state = state.mastery()
            assert of_state is not None
            torch.testing.assert_close(of_state, mastery[step], atol=1e-10, rtol=0)


@every_model
@torch.no_grad()
def test_a_checkpoint_brings_the_model_back_to_the_last_bit(name: str, tmp_path: Path) -> None:
    model, batch = small_model(name), batch_of(*random_students([9, 14], SKILLS, seed=13))
    checkpoint = Checkpoint(small_config(name), model.vocabulary, 3, model.state_dict())
    save_checkpoint(tmp_path / "model.safetensors", checkpoint)
    again = load_checkpoint(tmp_path / "model.safetensors").model()
    before, after = outputs(model(batch)), outputs(again(batch))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[output], after[output]) for output in before)


@every_model
@torch.no_grad()
def test_packed_rows_give_what_rectangles_give(name: str) -> None:
    model = small_model(name)
    if not model.reads_packed_rows:
        pytest.skip(f"{name} does not read packed rows")
    lengths = [7, 20, 3, 31, 12]
    sequences = sequences_of(*random_students(lengths, SKILLS, seed=14))
    packing = Packing(sequences, 64, len(sequences), seed=0)
    plan = packing.epoch(1)
    rows = packed_batch(packing.columns(), plan.sequence, plan.position, packing.length)
    for index in range(len(lengths)):
        by_rectangle = read(model, make_batch(sequences, np.arange(len(lengths))), index)
        for output, values in read(model, rows, index).items():
            torch.testing.assert_close(values, by_rectangle[output], atol=1e-5, rtol=1e-5)


@every_model
@torch.no_grad()
def test_mastery_is_a_probability_and_gains_are_none_below_zero(name: str) -> None:
    model, batch = small_model(name), batch_of(*random_students([25, 40], SKILLS, seed=15))
    mastery, gains = model.mastery(batch), model(batch).gains
    if mastery is not None:
        assert mastery.shape == (len(batch.skill), SKILLS)
        assert bool(((mastery >= 0) & (mastery <= 1)).all())
        some = model.mastery(batch, torch.tensor([2, 0]))
        assert some is not None
        torch.testing.assert_close(some, mastery[:, [2, 0]])
    if gains is not None:
        assert bool((gains >= 0).all())


@every_model
@torch.no_grad()
def test_an_explanation_adds_up_to_the_prediction(name: str) -> None:
    model, batch = small_model(name), batch_of(*random_students([15, 15], SKILLS, seed=16))
    explanation = model.explain(batch)
    if explanation is None:
        pytest.skip(f"{name} does not explain its predictions")
    torch.testing.assert_close(explanation.logits, model(batch).logits, atol=1e-5, rtol=1e-5)
    (contributions,) = explanation.contributions
    total = explanation.prior + contributions.sum(-1).flatten()
    torch.testing.assert_close(total, explanation.logits, atol=1e-5, rtol=1e-5)
    later = torch.ones_like(contributions[0]).triu_(1).bool()
    assert not contributions[:, later].any(), "no answer counts before it was given"


# ---- answers that carry no information cannot be predicted: a guard against leaks


class _Nothing:
    """A recorder that records nothing."""

    def on_step(self, *news: object) -> None:
        pass

    def on_epoch(self, *news: object) -> None:
        pass

    on_state = on_epoch


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    from gainakt.data.simulate import simulate

    path = tmp_path_factory.mktemp("shuffled") / "data"
    return load_dataset(simulate(path, students=400, skills=5, seed=8).path)


@pytest.mark.parametrize("name", MODELS)
def test_shuffled_answers_cannot_be_predicted(name: str, students: Dataset) -> None:
    shuffled = np.random.default_rng(0).permutation(students.rows.response)
    auc = _best_auc(name, replace(students, rows=students.rows.replace(response=shuffled)))
    # 2,500 validation targets: the standard error of an AUC of 0.5 is about 0.012
    assert 0.45 < auc < 0.55


@pytest.mark.parametrize("name", MODELS)
def test_true_answers_can_be(name: str, students: Dataset) -> None:
    assert _best_auc(name, students) > 0.56, "else the test above says nothing"


def _best_auc(name: str, dataset: Dataset) -> float:
    config = small_config(name, epochs=4, batch_size=16, learning_rate=0.01, seq_len=60)
    trainer = Learning.of(config, dataset).trainer(config, torch.device("cpu"))
    trainer.run(_Nothing())
    assert trainer.history.best is not None
    return float(trainer.history.best["val_auc"])
