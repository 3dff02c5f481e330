"""Nine measures of interpretability for any model, beside controls, with intervals over students.

Mastery is always that of the skill asked, before the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gainakt.arrays import FloatArray, IntArray
from gainakt.baselines.controls import make_controls, mastery_of
from gainakt.data.interactions import Dataset
from gainakt.data.sequences import Sequences, chunk_sequences, window_sequences
from gainakt.evaluation.agreement import Agreement
from gainakt.evaluation.bootstrap import Estimate, StudentBootstrap
from gainakt.evaluation.calibration import Calibration
from gainakt.evaluation.consistency import sample_skills, sample_students
from gainakt.evaluation.direction import flip_answers
from gainakt.evaluation.faithfulness import decompose, delete_answers
from gainakt.evaluation.fidelity import compare_contributions, probe_answers
from gainakt.evaluation.predictor import Predictor, Reading
from gainakt.evaluation.readout import Readout
from gainakt.evaluation.significance import WeightedAUC
from gainakt.evaluation.traces import clock_figures, rank_correlation, trace_figures

Figures = dict[str, Estimate]


class Measure(NamedTuple):
    """A figure of the table: the number of its measure, and its label."""

    number: int
    label: str


MEASURES: dict[str, Measure] = {
    "prediction_auc": Measure(1, "AUC of the prediction"),
    "mastery_auc": Measure(1, "AUC of mastery"),
    "mastery_gap": Measure(1, "AUC of the prediction minus AUC of mastery"),
    "agreement": Measure(2, "agreement of mastery and answers (DOA), mean over skills"),
    "agreement_weighted": Measure(2, "the same, skills weighted by answers"),
    "agreement_at_attempt": Measure(2, "the same, at equal skill and attempt number"),
    "falls_next": Measure(3, "wrong flipped to right: next predictions that fall"),
    "falls_later": Measure(3, "wrong flipped to right: later predictions that fall"),
    "decomposition_error": Measure(4, "largest |logit - prior - sum of contributions|"),
    "right_signs": Measure(4, "contributions with the sign of their answer"),
    "deletion_change": Measure(5, "strongest 10% of answers removed: mean |change of p|"),
    "deletion_over_random": Measure(5, "the same, over that of random answers"),
    "deletion_over_recent": Measure(5, "the same, over that of the latest answers"),
    "struck_over_random": Measure(5, "strongest 10% of terms struck, over random terms"),
    "struck_over_recent": Measure(5, "the same, over the latest terms"),
    "fidelity_flip": Measure(5, "contributions and effects of flips, r within predictions"),
    "fidelity_flip_beyond_recent": Measure(5, "  less the r of recency, paired"),
    "fidelity_flip_beyond_skill": Measure(5, "  less the r of recency on the skill, paired"),
    "fidelity_removal": Measure(5, "contributions and effects of removals, r within predictions"),
    "fidelity_removal_beyond_recent": Measure(5, "  less that of recency, paired"),
    "fidelity_removal_beyond_skill": Measure(5, "  less that of recency on the skill, paired"),
    "fidelity_slope": Measure(5, "effect of a removal for each unit of contribution"),
    "fidelity_sign": Measure(5, "flips whose effect has the sign said, weighted by size"),
    "flip_elsewhere": Measure(5, "share of flips' effects past the answer's own contribution"),
    "stability": Measure(6, "Spearman of mastery with the other run"),
    "stability_contributions": Measure(6, "Spearman of contributions, within predictions"),
    "stability_strongest": Measure(6, "strongest tenth of contributions in common"),
    "calibration_error": Measure(7, "calibration error (ECE, 10 quantile bins), chance taken off"),
    "calibration_error_observed": Measure(7, "the same, as observed"),
    "calibration_error_floor": Measure(7, "what calibrated probabilities would show by chance"),
    "brier": Measure(7, "Brier score"),
    "mastery_correlation": Measure(8, "mean mastery and next answer, within students"),
    "mastery_minus_clock": Measure(8, "the same, less that of the step number, paired"),
    "mastery_spread_skills": Measure(9, "spread of mastery over a student's skills"),
    "mastery_spread_students": Measure(9, "spread of a skill's mastery over students"),
    "gain_spread_skills": Measure(9, "spread of an answer's gains over skills"),
    "gain_spread_students": Measure(9, "spread of a skill's gains over students"),
}

# What a control's structure fixes: the clocks read no answer, and the other two only rise with
# right ones (for BKT since guess and slip are at most one half).
FIXED_CONTROLS = dict.fromkeys(("falls_next", "falls_later"), Estimate(0.0))


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    samples: resamples of students. flips: answers flipped. deletions: predictions whose past is
    thinned out. probes: predictions whose past answers are flipped and removed one by one.
    students: whose mastery of all skills is read (a model may need K passes for it).
    """

    samples: int = 1000
    flips: int = 10_000
    deletions: int = 2_000
    probes: int = 300
    students: int = 200
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Material:
    """What models are measured on.

    windows: histories as they are scored; pieces: the same cut one after the other; sample: the
    first pieces of some students.
    """

    dataset: Dataset
    windows: Sequences
    pieces: Sequences
    sample: Sequences

    @classmethod
    def of(
        cls, dataset: Dataset, students: IntArray, reading: Reading, settings: Settings
    ) -> Material:
        """Cut the histories of `students` to what a model reads."""
        pieces = chunk_sequences(dataset, students, reading.seq_len)
        sample = pieces.take(sample_students(pieces, settings.students, settings.seed))
        windows = window_sequences(dataset, students, reading.seq_len, reading.stride)
        return cls(dataset, windows, pieces, sample)

    def predictions(self, predictor: Predictor) -> Readout:
        """Return a model's predictions of all answers but each student's first."""
        readout = predictor.read(self.windows)
        return readout.where(readout.has_next)

    def rows(self, scored: Readout) -> IntArray:
        """Return the data set's row of each answer predicted."""
        rows: IntArray = self.windows.starts[scored.sequence] + scored.position + 1
        return rows


@dataclass(frozen=True, eq=False)
class Answers:
    """The n answers predicted: whose they are, skill, answer, how many attempts at the skill came
    before; (n,).
    """

    student: IntArray
    skill: IntArray
    answer: IntArray
    attempt: IntArray
    bootstrap: StudentBootstrap


@dataclass(frozen=True)
class Interpretability:
    """The figures of a model and its controls: column -> key of `MEASURES` -> estimate.

    by_construction: the keys that the model's structure fixes. curves: reliability curves by
    column. settings, students, answers: what was measured; flips: wrong answers that were flipped,
    fewer than the settings ask for where there are no more.
    """

    columns: dict[str, Figures]
    by_construction: frozenset[str]
    curves: dict[str, list[dict[str, float]]]
    settings: Settings
    students: int
    answers: int
    flips: int


def measure(
    model: Predictor,
    untrained: Predictor,
    material: Material,
    training: IntArray,
    settings: Settings,
    against: tuple[Predictor, Predictor] | None = None,
) -> Interpretability:
    """Measure a model beside its controls.

    Args:
        model: trained.
        untrained: of the same configuration, as it was before training.
        material: the histories to measure on.
        training: students that the controls may learn from.
        settings: how much to measure.
        against: the model of another seed, trained and untrained, for stability.
    """
    scored = material.predictions(model)
    rows = material.rows(scored)
    controls = make_controls(material.dataset, training)
    owner = material.windows.students[scored.sequence]
    answers = Answers(
        owner,
        scored.next_skill,
        scored.next_answer,
        controls["attempts"].mastery[rows].astype(np.int64),
        StudentBootstrap(owner, settings.samples, settings.seed),
    )
    skills = sample_skills(material.dataset.n_skills, settings.seed)
    columns: dict[str, Figures] = {}
    curves: dict[str, list[dict[str, float]]] = {}
    flips = 0
    others = against or (None, None)
    for name, own, other in (("model", model, others[0]), ("untrained", untrained, others[1])):
        readout = scored if own is model else material.predictions(own)
        probability = readout.probability.astype(np.float64)
        mastery = None if np.isnan(readout.next_mastery).any() else readout.next_mastery
        behaviour, flips = _of_behaviour(own, material, settings)
        columns[name] = {
            **_of_mastery(answers, probability, mastery, settings, gap=True),
            **behaviour,
            **trace_figures(
                own.mastery(material.sample, skills),
                material.sample,
                settings.samples,
                settings.seed,
            ),
        }
        curves[name] = Calibration(answers.answer, probability).curve()
        if other is not None and mastery is not None:
            second = material.predictions(other).next_mastery
            # untrained models of one seed are one model: that says nothing
            if not np.array_equal(mastery, second):
                columns[name]["stability"] = rank_correlation(mastery, second, answers.bootstrap)
                columns[name] |= _of_contributions(own, other, material, settings)
    for name, control in controls.items():
        known = None if control.probability is None else control.probability[rows]
        columns[name] = {
            **_of_mastery(answers, known, control.mastery[rows], settings, gap=False),
            **FIXED_CONTROLS,
            **trace_figures(
                mastery_of(control, material.sample, skills),
                material.sample,
                settings.samples,
                settings.seed,
            ),
        }
        if known is not None:
            curves[name] = Calibration(answers.answer, known).curve()
    columns["step_number"] |= clock_figures(material.sample, settings.samples, settings.seed)
    return Interpretability(
        columns,
        model.model.by_construction,
        curves,
        settings,
        students=len(np.unique(owner)),
        answers=len(rows),
        flips=flips,
    )


def _of_mastery(
    answers: Answers,
    probability: FloatArray | None,
    mastery: npt.NDArray[np.floating] | None,
    settings: Settings,
    *,
    gap: bool,
) -> Figures:
    """Measures 1, 2 and 7: all that predictions and mastery of the skill asked say.

    Args:
        answers: the n answers.
        probability, mastery: (n,).
        settings: how much is measured.
        gap: whether mastery stands beside a prediction of its own.
    """
    figures: Figures = {}
    if probability is not None:
        calibration = Calibration(answers.answer, probability)
        error = calibration.corrected(answers.student, settings.samples, settings.seed)
        figures["calibration_error"] = Estimate(error.value, error.low, error.high)
        figures["calibration_error_observed"] = Estimate(error.observed)
        figures["calibration_error_floor"] = Estimate(error.floor)
        (figures["brier"],) = answers.bootstrap.estimate(lambda w: [calibration.brier(w)])
    of_p = None if probability is None else WeightedAUC(answers.answer, probability)
    if mastery is None:
        if of_p is not None:
            curve = of_p
            (figures["prediction_auc"],) = answers.bootstrap.estimate(lambda w: [curve(w)])
        return figures
    of_m = WeightedAUC(answers.answer, mastery)
    by_skill = Agreement(answers.skill, answers.answer, mastery)
    group = answers.skill * (answers.attempt.max() + 1) + answers.attempt
    by_attempt = Agreement(group, answers.answer, mastery)

    def all_of_them(w: FloatArray) -> list[float]:
        auc = of_m(w)
        own = float("nan") if of_p is None else of_p(w)
        doa = [by_skill.mean(w), by_skill.weighted(w), by_attempt.weighted(w)]
        return [own, auc, own - auc, *doa]

    keys = [key for key, entry in MEASURES.items() if entry.number <= 2]
    estimates = dict(zip(keys, answers.bootstrap.estimate(all_of_them), strict=True))
    left_out = () if gap else ("mastery_gap",)
    return figures | {
        k: e for k, e in estimates.items() if e.value is not None and k not in left_out
    }


def _of_behaviour(
    predictor: Predictor, material: Material, settings: Settings
) -> tuple[Figures, int]:
    """Measures 3 to 5: what the model does when answers are changed, added up or deleted.

    Returns:
        The figures, and how many answers were flipped.
    """
    figures: Figures = {}
    seed = settings.seed
    flips = flip_answers(predictor, material.pieces, settings.flips, seed)
    if len(flips.student):
        bootstrap = StudentBootstrap(flips.student, settings.samples, settings.seed)
        figures["falls_next"] = bootstrap.ratio(flips.next_falls, flips.next)
        figures["falls_later"] = bootstrap.ratio(flips.later_falls, flips.later)
    sums = decompose(predictor, material.windows)
    if sums is not None:
        bootstrap = StudentBootstrap(sums.student, settings.samples, settings.seed)
        figures["decomposition_error"] = Estimate(float(sums.error.max()))
        figures["right_signs"] = bootstrap.ratio(sums.right_signs, sums.contributions)
    deleted = delete_answers(predictor, material.pieces, settings.deletions, seed)
    if deleted is not None:
        bootstrap = StudentBootstrap(deleted.student, settings.samples, settings.seed)
        figures["deletion_change"] = bootstrap.mean(deleted.strongest)
        figures["deletion_over_random"] = bootstrap.ratio(deleted.strongest, deleted.random)
        figures["deletion_over_recent"] = bootstrap.ratio(deleted.strongest, deleted.recent)
        if deleted.struck is not None:
            strongest, random, recent = deleted.struck
            figures["struck_over_random"] = bootstrap.ratio(strongest, random)
            figures["struck_over_recent"] = bootstrap.ratio(strongest, recent)
    return figures | _of_fidelity(predictor, material, settings), len(flips.student)


def _of_fidelity(predictor: Predictor, material: Material, settings: Settings) -> Figures:
    """Measure 5, answer by answer: contributions beside explanations that know no model."""
    probes = probe_answers(predictor, material.pieces, settings.probes, settings.seed)
    if probes is None:
        return {}
    bootstrap = StudentBootstrap(probes.owners, settings.samples, settings.seed)
    figures: Figures = {}
    for name, effect in (("flip", probes.flipped), ("removal", probes.removed)):
        of_model = probes.correlations(probes.said, effect)
        figures[f"fidelity_{name}"] = bootstrap.mean(of_model)
        for rival, says in (("recent", probes.recent), ("skill", probes.same_skill)):
            beyond = of_model - probes.correlations(says, effect)
            figures[f"fidelity_{name}_beyond_{rival}"] = bootstrap.mean(beyond)
    of_answers = StudentBootstrap(probes.student, settings.samples, settings.seed)
    size = np.abs(probes.flipped)
    said = probes.said
    figures["fidelity_slope"] = of_answers.ratio(said * probes.removed, said * said)
    figures["fidelity_sign"] = of_answers.ratio(size * (said * probes.flipped > 0), size)
    if not np.isnan(probes.own).any():
        elsewhere = np.abs(probes.flipped - probes.own)
        figures["flip_elsewhere"] = of_answers.ratio(elsewhere, elsewhere + np.abs(probes.own))
    return figures


def _of_contributions(
    one: Predictor, other: Predictor, material: Material, settings: Settings
) -> Figures:
    """Measure 6: whether models of two seeds explain the same predictions alike."""
    agreement = compare_contributions(
        one, other, material.pieces, settings.deletions, settings.seed
    )
    if agreement is None:
        return {}
    bootstrap = StudentBootstrap(agreement.student, settings.samples, settings.seed)
    return {
        "stability_contributions": bootstrap.mean(agreement.rank),
        "stability_strongest": bootstrap.mean(agreement.strongest),
    }
