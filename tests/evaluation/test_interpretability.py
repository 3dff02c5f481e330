"""The measures of interpretability: each by a case worked out by hand or by brute force."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gainakt.baselines.controls import make_controls, mastery_of
from gainakt.data.batches import Batch
from gainakt.data.sequences import copied, rows_of_pieces, window_sequences
from gainakt.evaluation.agreement import Agreement
from gainakt.evaluation.bootstrap import Estimate, StudentBootstrap
from gainakt.evaluation.direction import flip_answers
from gainakt.evaluation.faithfulness import decompose, delete_answers
from gainakt.evaluation.interpretability import MEASURES
from gainakt.evaluation.traces import next_answer_correlations, rank_correlation, trace_figures
from gainakt.models import build_model
from gainakt.models.interface import Explanation, KnowledgeTracer, ModelOutput
from tests.conftest import Outcome, tiny_command
from tests.helpers import (
    dataset_of,
    predictor_of,
    random_students,
    sequences_of,
    small_config,
    vocabulary_of,
)

CPU = torch.device("cpu")
SKILLS = 4


class Sum(KnowledgeTracer):
    """logit = 0.5 + sum over the past of `weights[i]` * (+1 right, -1 wrong); i counts from 0."""

    def __init__(self, *weights: float, wrong_sum: float = 0.0) -> None:
        super().__init__()
        self.n_skills = SKILLS
        self.weights = torch.tensor(weights)
        self.wrong_sum = wrong_sum

    def forward(self, batch: Batch) -> ModelOutput:
        return ModelOutput(self.explain(batch).logits)

    def explain(self, batch: Batch, skill: int | None = None) -> Explanation:
        terms = self.weights[batch.position % len(self.weights)] * (2.0 * batch.response - 1)
        shares = []
        for start, rows, length in batch.rectangles:
            of_row = terms[start : start + rows * length].view(rows, 1, length)
            shares.append(of_row.expand(rows, length, length).tril())
        total = torch.cat([s.sum(dim=-1).flatten() for s in shares])
        prior = torch.full_like(total, 0.5)
        return Explanation(prior + total, prior - self.wrong_sum, tuple(shares))


class WithGains(KnowledgeTracer):
    """A model whose gains are given, and whose prediction is the number of right answers."""

    def __init__(self) -> None:
        super().__init__()
        self.n_skills = SKILLS

    def forward(self, batch: Batch) -> ModelOutput:
        right = batch.by_rectangle(lambda r: r.cumsum(dim=1).float(), batch.response)
        gains = torch.zeros(len(right), SKILLS)
        gains[:, 1] = batch.response.float()
        return ModelOutput(right, None, gains)


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


# --- resampling ----------------------------------------------------------------------------------


def test_the_bootstrap_resamples_students_with_all_their_rows() -> None:
    students = np.array([7, 7, 3, 7, 3, 1])
    bootstrap = StudentBootstrap(students, samples=200, seed=0)
    for weights in bootstrap.weights():
        assert weights[0] == weights[1] == weights[3] and weights[2] == weights[4]
        assert weights[0] + weights[2] + weights[5] == 3
    values = np.arange(6.0)
    mean = bootstrap.mean(values)
    (same,) = bootstrap.estimate(lambda w: [float(np.average(values, weights=w))])
    assert mean.value == pytest.approx(2.5) and same.value == pytest.approx(2.5)
    assert mean.low == pytest.approx(same.low) and mean.high == pytest.approx(same.high)


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = StudentBootstrap(np.arange(400), samples=2000, seed=1).mean(values)
    assert found.low is not None and found.high is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_what_is_not_defined_has_no_value() -> None:
    bootstrap = StudentBootstrap(np.arange(3), samples=100, seed=0)
    assert bootstrap.ratio(np.ones(3), np.zeros(3)) == Estimate(None)
    assert bootstrap.mean(np.full(3, np.nan)) == Estimate(None)


# --- agreement -----------------------------------------------------------------------------------


def brute_force_agreement(answers: np.ndarray, mastery: np.ndarray) -> float:
    right, wrong = mastery[answers == 1], mastery[answers == 0]
    wins = [(a > b) + (a == b) / 2 for a, b in product(right, wrong)]
    return float(np.mean(wins)) if wins else float("nan")


def test_agreement_against_every_pair() -> None:
    rng = np.random.default_rng(0)
    groups, answers = rng.integers(6, size=120), rng.integers(2, size=120)
    mastery = rng.integers(8, size=120) / 8  # with ties
    answers[groups == 4] = 1  # a skill without a wrong answer has no pairs
    weights = rng.integers(3, size=120).astype(float)
    for w in (np.ones(120), weights):
        repeated = np.repeat(np.arange(120), w.astype(int))
        expected = np.array(
            [
                brute_force_agreement(
                    *(v[repeated][groups[repeated] == g] for v in (answers, mastery))
                )
                for g in range(6)
            ]
        )
        sizes = np.bincount(groups, weights=w)
        agreement = Agreement(groups, answers, mastery)
        np.testing.assert_allclose(agreement.by_group(w)[0], expected)
        defined = ~np.isnan(expected)
        assert not defined[4]
        assert agreement.mean(w) == pytest.approx(expected[defined].mean())
        assert agreement.weighted(w) == pytest.approx(
            np.average(expected[defined], weights=sizes[defined])
        )


def test_attempts_agree_with_nothing_at_equal_attempt_number() -> None:
    rng = np.random.default_rng(1)
    attempt, answers = rng.integers(3, size=60), rng.integers(2, size=60)
    assert Agreement(attempt, answers, attempt).weighted(np.ones(60)) == 0.5


# --- direction -----------------------------------------------------------------------------------


def test_direction_of_a_model_in_which_every_second_answer_counts_against() -> None:
    # flipping answer 0 or 2 raises all later predictions, flipping answer 1 lowers them
    sequences = sequences_of([(0, 0), (1, 0), (2, 0), (3, 0), (0, 1)])
    flips = flip_answers(predictor_of(Sum(1.0, -1.0, 1.0, 0.0, 0.0)), sequences, flips=100, seed=0)
    # answers 0 to 3 are followed by 4, 3, 2 and 1 predictions; answer 3 has no weight
    assert sorted(flips.later.tolist()) == [1, 2, 3, 4]
    assert dict(zip(flips.later.tolist(), flips.later_falls.tolist(), strict=True)) == {
        4: 0,
        3: 3,
        2: 0,
        1: 0,
    }
    assert flips.next.tolist() == [1] * 4 and flips.next_falls.sum() == 1


def test_flips_are_drawn_from_wrong_answers_without_repetition() -> None:
    sequences = sequences_of(*random_students([9, 30, 12, 3], SKILLS))
    wrong = int((sequences.rows.response == 0).sum())
    drawn = flip_answers(predictor_of(Sum(1.0)), sequences, flips=10, seed=0)
    assert len(drawn.student) == 10 < wrong
    everything = flip_answers(predictor_of(Sum(1.0)), sequences, flips=10_000, seed=0)
    ends = np.cumsum(sequences.lengths) - 1
    assert len(everything.student) == wrong - int((sequences.rows.response[ends] == 0).sum())
    assert everything.later_falls.sum() == 0


@pytest.mark.parametrize("weights", ["in_context", "skills_only"])
def test_skills_only_never_falls(weights: str) -> None:
    model = build_model(small_config("gainsum", weights=weights), vocabulary_of(SKILLS))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator)
    flips = flip_answers(
        predictor_of(model), sequences_of(*random_students([40] * 20, SKILLS)), flips=300, seed=0
    )
    assert flips.later.sum() > 3000
    assert (flips.later_falls.sum() == 0) == (weights == "skills_only")
    assert ("falls_later" in model.by_construction) == (weights == "skills_only")


# --- decomposition and deletion ------------------------------------------------------------------


def test_the_sum_of_gainsum_is_exact_and_its_signs_are_right() -> None:
    model = build_model(small_config("gainsum"), vocabulary_of(SKILLS))
    sequences = sequences_of(*random_students([3, 50, 50, 17], SKILLS))
    found = decompose(predictor_of(model), sequences)
    assert found is not None
    assert len(found.error) == 2 + 49 + 49 + 16
    assert found.error.max() < 1e-5
    # the predictions after step t sum t + 1 contributions
    assert found.contributions.sum() == sum(n * (n - 1) // 2 for n in (3, 50, 50, 17))
    assert (found.right_signs == found.contributions).all()


def test_a_wrong_sum_and_wrong_signs_are_seen() -> None:
    sequences = sequences_of([(0, 1), (1, 1), (2, 0)], [(0, 0), (0, 1)])
    found = decompose(predictor_of(Sum(1.0, -2.0, wrong_sum=0.25)), sequences)
    assert found is not None
    np.testing.assert_allclose(found.error, 0.25, atol=1e-6)
    by_student = {s: found.right_signs[found.student == s].tolist() for s in (0, 1)}
    assert by_student == {0: [1, 1], 1: [1]}


def test_deletion_by_hand() -> None:
    # ten right answers, of which the third weighs most: without it the sum is .5 + 9 * .1
    weights = [0.1] * 10
    weights[2] = 1.0
    steps = [(k % SKILLS, 1) for k in range(11)]
    found = delete_answers(predictor_of(Sum(*weights)), sequences_of(steps), targets=5, seed=0)
    assert found is not None and found.struck is not None
    full = sigmoid(0.5 + 1.9)
    assert found.strongest.shape == (1,)
    # struck from the sum, only its own term is missing; read again, later answers move up a place
    assert found.struck[0][0] == pytest.approx(full - sigmoid(0.5 + 0.9), abs=1e-6)
    assert found.struck[2][0] == pytest.approx(full - sigmoid(0.5 + 1.8), abs=1e-6)
    assert found.strongest[0] == pytest.approx(full - sigmoid(0.5 + 1.8), abs=1e-6)


def test_deletion_by_gains_removes_what_gained_on_the_skill_asked() -> None:
    # only the fourth of ten answers was right, so it alone gained, and it alone moves the model
    steps = [(0, int(k == 3)) for k in range(10)] + [(1, 1)]
    found = delete_answers(predictor_of(WithGains()), sequences_of(steps), targets=5, seed=0)
    assert found is not None and found.struck is None
    assert found.strongest[0] == pytest.approx(sigmoid(1) - sigmoid(0), abs=1e-6)
    assert found.recent[0] == 0.0


def test_models_that_explain_nothing_have_no_faithfulness() -> None:
    class Plain(KnowledgeTracer):
        def forward(self, batch: Batch) -> ModelOutput:
            logits: Tensor = batch.response.float()
            return ModelOutput(logits)

    sequences = sequences_of(*random_students([20, 30], SKILLS))
    assert decompose(predictor_of(Plain()), sequences) is None
    assert delete_answers(predictor_of(Plain()), sequences, targets=5, seed=0) is None


def test_deletion_draws_predictions_with_ten_answers_before_and_scored_ones_only() -> None:
    sequences = sequences_of(*random_students([10, 11, 14], SKILLS))
    found = delete_answers(predictor_of(Sum(1.0)), sequences, targets=100, seed=0)
    assert found is not None
    assert np.bincount(found.student, minlength=3).tolist() == [0, 1, 4]
    # in windows each answer is a target once
    data = dataset_of([40])
    windows = window_sequences(data, np.array([0]), 20, 5)
    found = delete_answers(predictor_of(Sum(1.0)), windows, targets=100, seed=0)
    assert found is not None and len(found.student) == 40 - 10


def test_pieces_are_copied_row_by_row() -> None:
    sequences = sequences_of([(0, 1), (1, 0), (2, 1)], [(3, 0), (1, 1)]).take(np.array([1, 0, 1]))
    assert rows_of_pieces(sequences).tolist() == [3, 4, 0, 1, 2, 3, 4]
    kept = copied(sequences, np.array([0, 1, 1, 0, 1, 1, 1], bool))
    assert kept.lengths.tolist() == [1, 2, 2] and kept.starts.tolist() == [0, 1, 3]
    assert kept.rows.skill.tolist() == [1, 0, 2, 3, 1]


# --- stability, correlation, spread --------------------------------------------------------------


def test_rank_correlation_is_spearman() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    a = rng.integers(20, size=200).astype(float)
    b = a + 10 * rng.random(200)
    bootstrap = StudentBootstrap(np.repeat(np.arange(40), 5), samples=100, seed=0)
    found = rank_correlation(a, b, bootstrap)
    assert found.value == pytest.approx(spearmanr(a, b).statistic)
    assert found.low is not None and found.low < found.value
    assert rank_correlation(a, np.exp(a), bootstrap).value == pytest.approx(1.0)


def test_correlation_with_the_next_answer_by_hand() -> None:
    sample = sequences_of([(0, 0), (0, 1), (0, 0), (0, 1)], [(0, 1), (0, 1), (0, 1), (0, 1)])
    series = np.array([1.0, 0.0, 1.0, 9.0, 1.0, 2.0, 3.0, 4.0])
    # student 0: (1, 0, 1) with answers (1, 0, 1); student 1 always answers right
    found = next_answer_correlations(series, sample)
    np.testing.assert_allclose(found, [1.0, np.nan])


def test_spread_by_hand() -> None:
    sample = sequences_of([(0, 1), (1, 1), (0, 1)], [(0, 0), (1, 0)])
    mastery = np.array([[0.0, 0.2], [0.1, 0.2], [0.2, 0.6], [0.5, 0.5], [0.4, 0.4]])
    found = trace_figures(mastery, sample, samples=100, seed=0)
    # at the end (.2, .6) and (.4, .4)
    assert found["mastery_spread_skills"].value == pytest.approx((0.2 + 0.0) / 2)
    assert found["mastery_spread_students"].value == pytest.approx((0.1 + 0.1) / 2)
    # gains (.1, 0), (.1, .4) and (-.1, -.1)
    assert found["gain_spread_skills"].value == pytest.approx(((0.05 + 0.15) / 2 + 0.0) / 2)
    assert found["gain_spread_students"].value == pytest.approx((0.1 + 0.15) / 2)
    assert trace_figures(None, sample, samples=100, seed=0) == {}


# --- controls ------------------------------------------------------------------------------------


def test_controls_by_hand() -> None:
    data = dataset_of([4, 5], n_skills=2)  # skills 0 1 0 1 | 0 1 0 1 0, answers the same digits
    controls = make_controls(data, np.array([0]))
    assert controls["step_number"].mastery.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    assert controls["attempts"].mastery.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 2]
    success = controls["success_rate"]
    # training: skill 0 never right in 2 answers, half of all right, two pseudo-answers
    start = (0 + 2 * 0.5) / 4
    assert success.start is not None and success.start[0] == pytest.approx(start)
    assert success.mastery[8] == pytest.approx(
        (0 + data.rows.response[[4, 6]].sum() + 2 * start) / 4
    )
    for name in ("success_rate", "bkt"):
        control = controls[name]
        assert control.start is not None and control.after is not None
        np.testing.assert_allclose(control.mastery[[4, 5]], control.start)
        np.testing.assert_allclose(control.mastery[8], control.after[6])


def test_mastery_of_all_skills_stays_until_the_skill_is_practised() -> None:
    data = dataset_of([4, 5], n_skills=2)
    control = make_controls(data, np.array([0]))["bkt"]
    pieces = window_sequences(data, np.array([1]), 20, 5)
    mastery = mastery_of(control, pieces, np.arange(data.n_skills))
    assert mastery is not None and control.after is not None and control.start is not None
    np.testing.assert_allclose(mastery[:, 0], control.after[[4, 4, 6, 6, 8]])
    np.testing.assert_allclose(mastery[:, 1], [control.start[1], *control.after[[5, 5, 7, 7]]])


# --- the whole -----------------------------------------------------------------------------------


def test_measures_of_gainsum_on_the_command_line(
    gainakt: Callable[..., Outcome], gainsum_run: Path, tmp_path: Path
) -> None:
    gainsum_copy = shutil.copytree(gainsum_run, tmp_path / gainsum_run.name)
    done = gainakt(
        "evaluate",
        gainsum_copy,
        "--interpretability",
        "--quiet",
        "--flips",
        "50",
        "--against",
        gainsum_copy,
    )
    assert done.code == 0, done.err
    written = json.loads((gainsum_copy / "interpretability_test.json").read_text())
    by_name = {entry["name"]: entry for entry in written["measures"]}
    assert list(by_name) == list(MEASURES)
    assert {entry["measure"] for entry in written["measures"]} == set(range(1, 10))
    assert by_name["mastery_gap"]["by_construction"]
    assert abs(by_name["mastery_gap"]["model"]["value"]) < 1e-9
    assert by_name["decomposition_error"]["model"]["value"] < 1e-4
    assert by_name["right_signs"]["model"]["value"] == 1.0
    assert by_name["mastery_auc"]["bkt"]["value"] > 0.5
    assert by_name["stability"]["model"] is None  # a run against itself says nothing
    assert written["flips"] == 50 and "50 times" in written["summary"]
    assert done.out.rstrip().endswith(written["summary"])
    assert "by construction" in written["summary"]
    for label in {entry["label"] for entry in written["measures"]}:
        assert label in done.out


def test_measures_of_gainakt2exp_on_the_command_line(
    gainakt: Callable[..., Outcome], run_copy: Path
) -> None:
    done = gainakt("evaluate", run_copy, "--interpretability", "--json", "--quiet")
    assert done.code == 0, done.err
    written = json.loads(done.out)["interpretability"]
    by_name = {entry["name"]: entry for entry in written["measures"]}
    assert not any(entry["by_construction"] for entry in written["measures"])
    assert by_name["decomposition_error"]["model"] is None
    own = by_name["prediction_auc"]["model"]["value"] - by_name["mastery_auc"]["model"]["value"]
    assert by_name["mastery_gap"]["model"]["value"] == pytest.approx(own)
    assert by_name["deletion_over_random"]["model"]["value"] is not None
    assert re.search(r"prediction with|states no mastery", written["summary"])
    assert sum(point["answers"] for point in written["reliability"]["model"]) == written["answers"]


def test_a_comparison_needs_the_measures(
    gainakt: Callable[..., Outcome], finished_run: Path
) -> None:
    done = gainakt("evaluate", finished_run, "--against", finished_run)
    assert done.code == 1 and "--interpretability" in done.err


def test_the_table_says_what_is_fixed_and_what_is_not_given(
    gainakt: Callable[..., Outcome], gainsum_run: Path, finished_run: Path, tmp_path: Path
) -> None:
    fixed = {"mastery_gap", "decomposition_error", "right_signs"}
    sums = {"decomposition_error", "right_signs", "struck_over_random", "struck_over_recent"}
    sums |= {"flip_elsewhere"}
    seeds = {"stability", "stability_contributions", "stability_strongest"}
    for run, marked, missing in (
        (gainsum_run, fixed, seeds),
        (finished_run, set(), seeds | sums),
    ):
        folder = shutil.copytree(run, tmp_path / run.name)
        done = gainakt("evaluate", folder, "--interpretability", "--flips", "50", "--quiet")
        assert done.code == 0, done.err
        lines = {
            key: next(line for line in done.out.splitlines() if f"  {measure.label}  " in line)
            for key, measure in MEASURES.items()
        }
        own = {key: line.split(MEASURES[key].label)[1].split("  ") for key, line in lines.items()}
        shown = {key: next(cell for cell in cells if cell) for key, cells in own.items()}
        assert {key for key, cell in shown.items() if cell.strip().endswith("*")} == marked
        assert {key for key, cell in shown.items() if cell.strip() == "not given"} == missing
        # the plain evaluation beside it says the same, but for ties of rounded probabilities
        evaluation = json.loads((folder / "evaluation_test.json").read_text(encoding="utf-8"))
        written = json.loads((folder / "interpretability_test.json").read_text(encoding="utf-8"))
        auc = written["measures"][0]["model"]
        assert auc["value"] == pytest.approx(evaluation["auc"], abs=1e-3)
        assert auc["low"] < auc["value"] < auc["high"]
        assert written["answers"] == evaluation["targets"]


def test_stability_between_two_seeds(
    gainakt: Callable[..., Outcome], gainsum_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    other = {"config": "gainsum", "num_encoder_blocks": None, "seed": 7, "epochs": 1}
    trained = gainakt(*tiny_command(tiny_data, tmp_path / "other", **other), "--quiet")
    folder = shutil.copytree(gainsum_run, tmp_path / gainsum_run.name)
    words = ("evaluate", folder, "--interpretability", "--flips", "50", "--json", "--quiet")
    done = gainakt(*words, "--against", trained.out.strip())
    assert done.code == 0, done.err
    written = json.loads(done.out)["interpretability"]
    (entry,) = (e for e in written["measures"] if e["name"] == "stability")
    assert -1 <= entry["model"]["low"] < entry["model"]["value"] < entry["model"]["high"] < 1
    assert f"at Spearman {entry['model']['value']:.3f}" in written["summary"]
    assert written["against"] == Path(trained.out.strip()).name != folder.name
