"""Is an explanation true to the model: does it add up, and does what it stresses matter?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gainakt.arrays import BoolArray, FloatArray, IntArray
from gainakt.data.batches import Batch
from gainakt.data.sequences import Sequences, copied
from gainakt.evaluation.predictor import Predictor
from gainakt.evaluation.readout import Readout
from gainakt.models.interface import Explanation
from gainakt.seeds import Stream

DELETED = 0.1
# With fewer answers before it, a tenth of them is less than one.
LEAST_PAST = 10


@dataclass(frozen=True, eq=False)
class Decomposition:
    """How the explanations of n predictions add up; columns of length n.

    student: whose. error: |logit - prior - sum of contributions|, the logit being that of a plain
    prediction. contributions: how many; right_signs: of these the ones not negative for a right and
    not positive for a wrong answer.
    """

    student: IntArray
    error: FloatArray
    contributions: IntArray
    right_signs: IntArray


@dataclass(frozen=True, eq=False)
class Deletions:
    """How n predictions move when a tenth of the past answers is deleted; columns of length n.

    student: whose. strongest, random, recent: |change of the probability| when the answers that
    the explanation gives most weight, answers at random or the latest are removed from the history
    and the model reads what is left. struck: these three when only their terms are struck from the
    sum; None for a model whose explanation is no sum.
    """

    student: IntArray
    strongest: FloatArray
    random: FloatArray
    recent: FloatArray
    struck: tuple[FloatArray, FloatArray, FloatArray] | None


@torch.inference_mode()
def decompose(
    predictor: Predictor,
    sequences: Sequences,
) -> Decomposition | None:
    """Add up the explanation of every prediction that is scored; None if there are none.

    Args:
        predictor: what reads the histories.
        sequences: what to read.
    """
    model, parts = predictor.model, []
    for batch in predictor.batches(sequences):
        explanation = model.explain(batch)
        if explanation is None:
            return None
        columns = (batch.sequence, *_sums(explanation, model(batch).logits, batch))
        parts.append([column[batch.has_next].cpu().numpy() for column in columns])
    sequence, error, count, right = (np.concatenate(c) for c in zip(*parts, strict=True))
    return Decomposition(sequences.students[sequence], error, count, right)


def _sums(explanation: Explanation, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Error, number of contributions and number with the right sign, (N,) each."""
    sums, rights = [], []
    for (start, rows, length), shares in zip(
        batch.rectangles, explanation.contributions, strict=True
    ):
        answer = batch.response[start : start + rows * length].view(rows, 1, length)
        past = torch.ones(length, length, dtype=torch.bool, device=shares.device).tril()
        right = (shares * (2 * answer - 1) >= 0) & past
        sums.append(shares.double().sum(dim=-1).flatten())
        rights.append(right.sum(dim=-1).flatten())
    error = (logits.double() - explanation.prior.double() - torch.cat(sums)).abs()
    return error, batch.position + 1, torch.cat(rights)


def delete_answers(
    predictor: Predictor,
    sequences: Sequences,
    targets: int,
    seed: int,
) -> Deletions | None:
    """Delete a tenth of the answers before predictions drawn at random.

    The weight of an answer is the size of its contribution; for a model that explains no sum but
    has gains, its gain on the skill asked. None for a model that has neither.

    Args:
        predictor: what reads the histories.
        sequences: what to draw from; predictions with fewer than 10 answers before are left out.
        targets: how many predictions.
        seed: of the draws.
    """
    pieces = prediction_pieces(sequences, targets, seed)
    if not len(pieces):
        return None
    weighed = answer_weights(predictor, pieces)
    if weighed is None:
        return None
    weights, is_sum = weighed
    past = pieces.lengths - 1
    rng = Stream.RANDOM_ANSWERS.generator(seed)
    orders = (
        [np.argsort(-np.abs(w), kind="stable") for w in weights],
        [rng.permutation(n) for n in past.tolist()],
        [np.arange(n)[::-1] for n in past.tolist()],
    )
    logit = last_logits(predictor.read(pieces))
    p = _sigmoid(logit)
    moved: list[FloatArray] = []
    struck: list[FloatArray] = []
    for order in orders:
        deleted = [o[: round(DELETED * len(o))] for o in order]
        left = copied(pieces, _kept(pieces, deleted))
        without = last_logits(predictor.read(left))
        terms = np.array([w[d].sum() for w, d in zip(weights, deleted, strict=True)])
        moved.append(np.abs(_sigmoid(without) - p))
        struck.append(np.abs(_sigmoid(logit - terms) - p))
    return Deletions(
        pieces.students.astype(np.int64),
        strongest=moved[0],
        random=moved[1],
        recent=moved[2],
        struck=(struck[0], struck[1], struck[2]) if is_sum else None,
    )


def prediction_pieces(sequences: Sequences, targets: int, seed: int) -> Sequences:
    """Return a piece for each prediction drawn: the answers before it, and the one it predicts.

    Args:
        sequences: what to draw from; predictions with fewer than 10 answers before are left out.
        targets: how many.
        seed: of the draw.
    """
    lengths = sequences.lengths
    room = np.maximum(lengths - np.maximum(sequences.score_from, LEAST_PAST - 1) - 1, 0)
    drawn = Stream.DELETIONS.generator(seed).permutation(int(room.sum()))[:targets]
    ends = np.cumsum(room)
    piece = np.searchsorted(ends, drawn, side="right")
    from_end = ends[piece] - drawn - 1
    chosen = sequences.take(piece)
    kept = np.arange(int(chosen.lengths.sum())) - np.repeat(
        np.cumsum(chosen.lengths) - chosen.lengths, chosen.lengths
    ) < np.repeat(chosen.lengths - from_end, chosen.lengths)
    pieces = copied(chosen, kept)
    last = pieces.starts + pieces.lengths - 1
    # the skills of one question share its answer: only the first of them is predicted
    return pieces.take(np.flatnonzero(pieces.rows.order[last] != pieces.rows.order[last - 1]))


@torch.inference_mode()
def answer_weights(
    predictor: Predictor,
    pieces: Sequences,
) -> tuple[list[FloatArray], bool] | None:
    """Return each past answer's weight in its piece's last prediction, and whether they sum up.

    That is its contribution, or the gain on the skill asked; None of a model that has neither.

    Args:
        predictor: what reads the histories.
        pieces: n of them; the last answer of each is the one predicted.
    """
    model = predictor.model
    weights: list[FloatArray] = [np.zeros(0)] * len(pieces)
    is_sum = False
    for batch in predictor.batches(pieces):
        explanation = model.explain(batch)
        gains = None if explanation else model(batch).gains
        if explanation is None and gains is None:
            return None
        is_sum = explanation is not None
        for index, (start, rows, length) in enumerate(batch.rectangles):
            for row in range(rows):
                first = start + row * length
                piece = int(batch.sequence[first])
                past = int(pieces.lengths[piece]) - 1
                if explanation is not None:
                    of_past = explanation.contributions[index][row, past - 1, :past]
                else:
                    assert gains is not None
                    asked = batch.next_skill[first + past - 1]
                    of_past = gains[first : first + past, asked]
                weights[piece] = of_past.double().cpu().numpy()
    return weights, is_sum


def _kept(pieces: Sequences, deleted: list[IntArray]) -> BoolArray:
    keep = np.ones(int(pieces.lengths.sum()), dtype=bool)
    starts = np.cumsum(pieces.lengths) - pieces.lengths
    for start, places in zip(starts.tolist(), deleted, strict=True):
        keep[start + places] = False
    return keep


def last_logits(readout: Readout) -> FloatArray:
    """Return the logit (n,) of each piece's last answer: that after the step before it."""
    last = np.flatnonzero(np.diff(readout.sequence, append=-1))
    return readout.logit[last - 1].astype(np.float64)


def _sigmoid(logit: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-logit)))
