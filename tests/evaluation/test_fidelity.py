"""Contributions against what single answers do, on models of which that is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gainakt.data.batches import Batch
from gainakt.data.sequences import whole_histories
from gainakt.evaluation.fidelity import _recency, compare_contributions, probe_answers
from gainakt.evaluation.interpretability import Material, Settings, _of_fidelity
from gainakt.models.interface import Explanation, KnowledgeTracer, ModelOutput
from tests.helpers import (
    SKILLS,
    predictor_of,
    random_students,
    sequences_of,
    small_model,
    vocabulary_of,
)


class Adding(KnowledgeTracer):
    """Log-odds are the sum of a weight of each answer's skill, signed; it explains `told` of it."""

    def __init__(self, told: float = 1.0, elsewhere: float = 0.0) -> None:
        super().__init__()
        self.n_skills, self.vocabulary = SKILLS, vocabulary_of(SKILLS)
        self.weight = torch.nn.Parameter(torch.linspace(0.5, 2.0, SKILLS))
        self.told, self.elsewhere = told, elsewhere

    def contributions(self, batch: Batch) -> list[torch.Tensor]:
        signed = self.weight[batch.skill] * (2 * batch.response - 1)
        parts: list[torch.Tensor] = []

        def collect(values: torch.Tensor) -> torch.Tensor:
            length = values.shape[1]
            parts.append(values[:, None].expand(-1, length, -1).tril())
            return values

        batch.by_rectangle(collect, signed)
        return parts

    def forward(self, batch: Batch) -> ModelOutput:
        sums = [part.sum(dim=-1).flatten() for part in self.contributions(batch)]
        return ModelOutput(torch.cat(sums) * (1 + self.elsewhere))

    def explain(self, batch: Batch, skill: int | None = None) -> Explanation:
        parts = self.contributions(batch)
        sums = torch.cat([part.sum(dim=-1).flatten() for part in parts])
        logits = sums * (1 + self.elsewhere)
        return Explanation(logits, logits - sums, tuple(self.told * part for part in parts))


def material_of(*students: list[tuple[int, int]]) -> Material:
    sequences = sequences_of(*students)
    return Material(None, sequences, sequences, sequences)  # type: ignore[arg-type]


STUDENTS = random_students([30, 25, 40], SKILLS, 3)
SETTINGS = Settings(samples=20, probes=40)


def test_a_model_that_tells_all_is_told_so() -> None:
    figures = _of_fidelity(predictor_of(Adding()), material_of(*STUDENTS), SETTINGS)
    for name in ("fidelity_flip", "fidelity_removal", "fidelity_slope", "fidelity_sign"):
        assert figures[name].value == pytest.approx(1.0, abs=1e-5)
    assert figures["flip_elsewhere"].value == pytest.approx(0.0, abs=1e-5)
    recent = figures["fidelity_flip_beyond_recent"]
    assert recent.value is not None and 0.1 < recent.value < 1.0


def test_what_goes_past_the_contributions_is_found() -> None:
    """Half as much again goes through the prior: a third of every flip's effect."""
    figures = _of_fidelity(predictor_of(Adding(elsewhere=0.5)), material_of(*STUDENTS), SETTINGS)
    assert figures["flip_elsewhere"].value == pytest.approx(1 / 3, abs=1e-5)
    assert figures["fidelity_slope"].value == pytest.approx(1.5, abs=1e-5)


def test_contributions_of_the_wrong_sign_are_found() -> None:
    figures = _of_fidelity(predictor_of(Adding(told=-1.0)), material_of(*STUDENTS), SETTINGS)
    assert figures["fidelity_flip"].value == pytest.approx(-1.0, abs=1e-5)
    assert figures["fidelity_sign"].value == 0.0


def test_nothing_of_an_answer_free_model_goes_past_its_contributions() -> None:
    model = small_model("gainsum", weights="skills_only").double()
    probes = probe_answers(predictor_of(model), sequences_of(*STUDENTS), 40, 0)
    assert probes is not None and len(probes.said) > 200
    np.testing.assert_allclose(probes.own, probes.flipped, atol=1e-5)
    assert (probes.said * probes.flipped >= 0).all()


def test_a_model_that_explains_nothing_is_not_probed() -> None:
    assert probe_answers(predictor_of(small_model("dkt")), sequences_of(*STUDENTS), 9, 0) is None


def test_recency_by_hand() -> None:
    sequences = sequences_of([(0, 1), (1, 1), (0, 0), (2, 1), (0, 1)])
    (recent,), (of_skill,) = _recency(sequences)
    np.testing.assert_allclose(recent, [1 / 4, 1 / 3, 1 / 2, 1])
    np.testing.assert_allclose(of_skill, [1 / 2, 0, 1, 0])


def test_two_models_agree_with_themselves_and_not_with_their_opposite() -> None:
    sequences = sequences_of(*STUDENTS)
    model = predictor_of(Adding())
    same = compare_contributions(model, model, sequences, 30, 0)
    assert same is not None
    np.testing.assert_allclose(same.rank, 1.0)
    assert (same.strongest == 1).all()
    turned = Adding()
    with torch.no_grad():
        turned.weight.copy_(turned.weight.flip(0))
    other = compare_contributions(model, predictor_of(turned), sequences, 30, 0)
    assert other is not None
    assert np.nanmean(other.rank) < 0.95 and other.strongest.mean() < 0.9


def test_probes_leave_the_histories_as_they_were() -> None:
    sequences = sequences_of(*STUDENTS)
    before = sequences.rows.response.copy()
    lengths = np.array([30, 25, 40])
    again = replace(whole_histories(sequences.rows, lengths))
    probe_answers(predictor_of(Adding()), again, 20, 0)
    np.testing.assert_array_equal(sequences.rows.response, before)
