"""Does each contribution say what its answer does? Single answers flipped and removed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from gainakt.arrays import FloatArray, IntArray
from gainakt.data.sequences import Sequences, copied
from gainakt.evaluation.consistency import within_student_correlations
from gainakt.evaluation.faithfulness import answer_weights, last_logits, prediction_pieces
from gainakt.evaluation.predictor import Predictor
from gainakt.seeds import Stream

# Past answers probed of each prediction, at most.
PROBED = 20


@dataclass(frozen=True, eq=False)
class Probes:
    """What single past answers do to predictions; columns of length n, one an answer probed.

    prediction: number of the prediction that it is probed in; student: whose. said: what the
    explanation says that the answer adds to the log-odds. flipped, removed: what it adds against
    the same answer turned to its opposite, and against a history without it. recent, same_skill:
    what explanations say that know no model: the answer's sign by 1 / age, and the same for answers
    to the skill in question alone, their age counted in such answers. own: what of `flipped` is in
    the answer's own contribution, the rest being in the prior and in other answers'; nan where the
    explanation is no sum.
    """

    prediction: IntArray
    student: IntArray
    said: FloatArray
    flipped: FloatArray
    removed: FloatArray
    recent: FloatArray
    same_skill: FloatArray
    own: FloatArray

    def correlations(self, says: FloatArray, does: FloatArray) -> FloatArray:
        """Return each prediction's correlation, over its answers probed, of two columns (n,)."""
        return within_student_correlations(says, does, self.prediction)

    @property
    def owners(self) -> IntArray:
        """Whose each prediction is, in the order of `correlations`."""
        owners: IntArray = self.student[np.unique(self.prediction, return_index=True)[1]]
        return owners


@torch.inference_mode()
def probe_answers(
    predictor: Predictor, sequences: Sequences, targets: int, seed: int
) -> Probes | None:
    """Flip and remove single past answers of predictions drawn at random.

    Args:
        predictor: what reads the histories.
        sequences: what to draw from; predictions with fewer than 10 answers before are left out.
        targets: how many predictions.
        seed: of the draws.

    Returns:
        None for a model that explains nothing, or where no history is long enough.
    """
    pieces = prediction_pieces(sequences, targets, seed)
    weighed = answer_weights(predictor, pieces) if len(pieces) else None
    if weighed is None:
        return None
    weights, is_sum = weighed
    past = pieces.lengths - 1
    rng = Stream.PROBES.generator(seed)
    drawn = [np.sort(rng.permutation(n)[:PROBED]) for n in past.tolist()]
    prediction = np.repeat(np.arange(len(pieces)), [*map(len, drawn)])
    place = np.concatenate(drawn)
    sign = 2.0 * pieces.rows.response[pieces.starts[prediction] + place] - 1
    said = np.array([weights[p][i] for p, i in zip(prediction, place, strict=True)])
    logit = last_logits(predictor.read(pieces))[prediction]

    turned = copied(pieces.take(prediction))
    rows = turned.starts + place
    turned.rows.response[rows] = 1 - turned.rows.response[rows]
    flipped = logit - last_logits(predictor.read(turned))
    keep = np.ones(len(turned.rows), dtype=bool)
    keep[rows] = False
    removed = logit - last_logits(predictor.read(copied(pieces.take(prediction), keep)))

    own = np.full(len(place), np.nan)
    if is_sum:
        after = answer_weights(predictor, turned)
        assert after is not None
        own = said - np.array([w[i] for w, i in zip(after[0], place, strict=True)])
    recency = _recency(pieces)
    return Probes(
        prediction,
        pieces.students[prediction].astype(np.int64),
        said if is_sum else said * sign,
        flipped,
        removed,
        sign * np.array([recency[0][p][i] for p, i in zip(prediction, place, strict=True)]),
        sign * np.array([recency[1][p][i] for p, i in zip(prediction, place, strict=True)]),
        own,
    )


def _recency(pieces: Sequences) -> tuple[list[FloatArray], list[FloatArray]]:
    """1 / age of the answers before each piece's last, and the same among those to its skill."""
    recent, of_skill = [], []
    for start, length in zip(pieces.starts.tolist(), pieces.lengths.tolist(), strict=True):
        skills = pieces.rows.skill[start : start + length]
        same = skills[:-1] == skills[-1]
        recent.append(1.0 / np.arange(length - 1, 0, -1))
        age = np.cumsum(same[::-1])[::-1]
        of_skill.append(np.where(same, 1.0 / np.maximum(age, 1), 0.0))
    return recent, of_skill


@dataclass(frozen=True, eq=False)
class SeedAgreement:
    """How two models of other seeds explain the same n predictions; columns of length n.

    student: whose. rank: Spearman correlation of the contributions of the same answers. strongest:
    the share of one's strongest tenth that is in the other's.
    """

    student: IntArray
    rank: FloatArray
    strongest: FloatArray


def compare_contributions(
    one: Predictor, other: Predictor, sequences: Sequences, targets: int, seed: int
) -> SeedAgreement | None:
    """Compare how two models explain predictions drawn at random; None where they explain none.

    Args:
        one, other: what reads the histories.
        sequences: what to draw from; predictions with fewer than 10 answers before are left out.
        targets: how many predictions.
        seed: of the draw.
    """
    from scipy.stats import rankdata

    pieces = prediction_pieces(sequences, targets, seed)
    weighed = [answer_weights(model, pieces) if len(pieces) else None for model in (one, other)]
    if weighed[0] is None or weighed[1] is None:
        return None
    rank, strongest = [], []
    for a, b in zip(weighed[0][0], weighed[1][0], strict=True):
        constant = np.ptp(a) == 0 or np.ptp(b) == 0
        rank.append(np.nan if constant else float(np.corrcoef(rankdata(a), rankdata(b))[0, 1]))
        n = max(1, round(len(a) / 10))
        tops = (set(np.argsort(-np.abs(w), kind="stable")[:n].tolist()) for w in (a, b))
        strongest.append(len(set.intersection(*tops)) / n)
    students = pieces.students.astype(np.int64)
    return SeedAgreement(students, np.array(rank), np.array(strongest))
