"""A trained model that reads histories: the one way from a model to predictions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gainakt.arrays import BoolArray, FloatArray, IntArray
from gainakt.config import Config
from gainakt.data.batches import Batch, bounded_ranges, evaluation_batches
from gainakt.data.interactions import Dataset
from gainakt.data.pooling import AnyDataset, first_rows, pooled
from gainakt.data.sequences import Sequences, context_start, window_sequences
from gainakt.data.vocabulary import Vocabulary
from gainakt.evaluation.readout import Readout, columns_of, probability_of
from gainakt.machine import precision
from gainakt.models.interface import KnowledgeTracer
from gainakt.models.rolling import RollingState

if TYPE_CHECKING:  # tables need polars, which a training machine may lack
    from gainakt.data.tables import MemoryDataset

# Steps that are read at a time where there may be more than fit: a readout takes 60 bytes a step.
PART_STEPS = 1 << 18
# Answers of students that are read together: some hundred megabytes at most, whatever there is.
ANSWERS_AT_ONCE = 1 << 17
# Rows without an answer bring their past along, so only so many are asked together.
BLANKS_AT_ONCE = 2048


@dataclass(frozen=True)
class Reading:
    """How histories are read.

    seq_len: longest sequence the model reads. stride: steps by which windows move on in longer
    histories (see `gainakt.data.sequences.context_start`).
    """

    seq_len: int
    stride: int

    @classmethod
    def of(cls, config: Config) -> Reading:
        """Return how a configuration reads."""
        return cls(config.model.seq_len, config.evaluation.window_stride)


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained model that reads histories, with all that reading them takes.

    model: on `device`; it is left in the mode that it was in. reading: see `Reading`.
    number_format: what dense layers compute in, None for float32.
    """

    model: KnowledgeTracer
    reading: Reading
    device: torch.device
    number_format: str | None = None

    @classmethod
    def of(cls, model: KnowledgeTracer, config: Config, device: torch.device) -> Predictor:
        """Return the predictor of a configured model."""
        return cls(model.to(device), Reading.of(config), device, config.number_format)

    @property
    def vocabulary(self) -> Vocabulary:
        """What the model can name."""
        return self.model.vocabulary

    def batches(self, sequences: Sequences) -> Iterator[Batch]:
        """Yield the batches of sequences on the device, the model set to read them.

        Whoever takes them calls the model on each in turn, without gradients; this is the one place
        that knows of dropout, number formats and devices.
        """
        was_training = self.model.training
        self.model.eval()
        try:
            for batch in evaluation_batches(sequences):
                with precision(self.number_format, self.device):
                    yield batch.to(self.device)
        finally:
            self.model.train(was_training)

    @torch.inference_mode()
    def read(
        self,
        sequences: Sequences,
        *,
        residual_window: int | None = None,
        on_request: IntArray | None = None,
    ) -> Readout:
        """Read all sequences once.

        Args:
            sequences: what to read.
            residual_window: window of the residual performance, None for the plain next answer.
            on_request: skills (M,) to ask the mastery of where the output has none; M passes more.
        """
        skills = None if on_request is None else torch.from_numpy(on_request).to(self.device)
        parts: list[dict[str, Tensor]] = []
        for batch in self.batches(sequences):
            columns = columns_of(self.model, batch, residual_window, skills)
            parts.append(columns | {"valid": batch.valid})
        # the device is waited for here alone: to leave padding out of a batch would wait each time
        joined = {n: torch.cat([part[n] for part in parts]).cpu().numpy() for n in parts[0]}
        steps = np.flatnonzero(joined.pop("valid"))
        order = steps[np.lexsort((joined["position"][steps], joined["sequence"][steps]))]
        return Readout(**{name: column[order] for name, column in joined.items()})

    def parts(
        self, sequences: Sequences, *, residual_window: int | None = None, steps: int = PART_STEPS
    ) -> Iterator[Readout]:
        """Read sequences as `read` does, in parts of whole sequences, so that any number fits.

        Args:
            sequences, residual_window: as for `read`.
            steps: the most in a part, unless one sequence alone has more.
        """
        for begin, end in bounded_ranges(sequences.lengths, steps):
            part = sequences.take(np.arange(begin, end))
            readout = self.read(part, residual_window=residual_window)
            yield replace(readout, sequence=readout.sequence + begin)

    @torch.inference_mode()
    def of_questions(self, sequences: Sequences, scored: Readout) -> FloatArray:
        """Return the probability (n,) of each answer: the mean over the skills of its question.

        Each skill is predicted from before the question, for the answer is one. Where a question
        has one skill, it is the probability of the readout, to the last bit.

        Args:
            sequences: what was read, or more: the rest is not read again.
            scored: the n steps whose next answer is predicted.
        """
        if not len(scored.sequence):
            return scored.probability
        first, last = int(scored.sequence[0]), int(scored.sequence[-1])
        sequences = sequences.take(np.arange(first, last + 1))
        scored = replace(scored, sequence=scored.sequence - first)
        order = sequences.rows.order
        total, count = scored.probability, np.ones(len(scored.logit))
        longest = int(sequences.lengths.max()) + 1
        place = scored.sequence * longest + scored.position
        for batch in self.batches(sequences):
            sequence, position = batch.sequence.cpu().numpy(), batch.position.cpu().numpy()
            asked = sequences.starts[sequence] + position + 1
            more = batch.has_next.cpu().numpy()
            for number in range(1, len(order)):
                row = np.minimum(asked + number, len(order) - 1)
                more &= (asked + number < len(order)) & (
                    order[row] == order[np.minimum(asked, row)]
                )
                if not more.any():
                    break
                skills = np.where(more, sequences.rows.skill[row], batch.next_skill.cpu().numpy())
                instead = torch.from_numpy(skills.astype(np.int64)).to(self.device)
                logits = self.model.asked_instead(batch, instead).float().cpu().numpy()
                step = np.searchsorted(place, sequence[more] * longest + position[more])
                total[step] += probability_of(logits[more])
                count[step] += 1
        return np.asarray(total / count)

    @torch.inference_mode()
    def mastery(
        self, sequences: Sequences, skills: IntArray | None = None
    ) -> npt.NDArray[np.float32] | None:
        """Return the mastery (n, M) of skills after each of n steps, ordered as in a Readout.

        For some models this costs M times as much as predicting. None where a model has no mastery.

        Args:
            sequences: what to read.
            skills: (M,) whose mastery is wanted; every skill by default.
        """
        wanted = None if skills is None else torch.from_numpy(skills).to(self.device)
        parts, sequence, position = [], [], []
        for batch in self.batches(sequences):
            mastery = self.model.mastery(batch, wanted)
            if mastery is None:
                return None
            parts.append(mastery[batch.valid].float().cpu().numpy())
            sequence.append(batch.sequence[batch.valid].cpu().numpy())
            position.append(batch.position[batch.valid].cpu().numpy())
        order = np.lexsort((np.concatenate(position), np.concatenate(sequence)))
        ordered: npt.NDArray[np.float32] = np.concatenate(parts)[order]
        return ordered

    def steps_of(self, dataset: AnyDataset) -> AnyDataset:
        """Return a data set with a row for each step that the model reads: see `pooled`."""
        return pooled(dataset) if self.model.pools_skills else dataset

    def windows(self, dataset: Dataset, students: IntArray) -> Sequences:
        """Cut the histories of students (n,) as they are scored."""
        return window_sequences(dataset, students, self.reading.seq_len, self.reading.stride)

    @torch.inference_mode()
    def answers(self, dataset: Dataset, answers_at_once: int = ANSWERS_AT_ONCE) -> FloatArray:
        """Return the log-odds (N,) of a right answer for each row, by the window rule.

        They are what an evaluation computes. nan stands where none is made: for a student's first
        answer, and for skills of a question after its first.

        Args:
            dataset: coded with the model's vocabulary, not pooled.
            answers_at_once: students are read in groups of about so many answers.
        """
        logits = np.full(len(dataset.rows), np.nan)
        steps = self.steps_of(dataset)
        rows = np.arange(len(logits)) if steps is dataset else np.asarray(steps.origin)
        for begin, end in bounded_ranges(np.diff(steps.offsets), answers_at_once):
            windows = self.windows(steps, np.arange(begin, end))
            for batch in self.batches(windows):
                found = self.model(batch).logits.double().cpu().numpy()
                shown = batch.to(torch.device("cpu"))
                answer = windows.starts[shown.sequence.numpy()] + shown.position.numpy() + 1
                scored = shown.has_next.numpy()
                logits[rows[answer[scored]]] = found[scored]
        return logits

    def rows(self, dataset: MemoryDataset, answered: BoolArray) -> FloatArray:
        """Return the log-odds (N,) of a right answer for each row, from the known answers before.

        A question without an answer adds nothing to the past of later ones. The skills of one
        question share its answer: it is known where that of any of its rows is, and all but its
        first row have nan. So have rows before which no answer of the student is known.

        Args:
            dataset: coded with the model's vocabulary, not pooled.
            answered: (N,), whether the row's answer is known.
        """
        begin = np.flatnonzero(first_rows(dataset.rows.order, dataset.offsets))
        width = np.diff(begin, append=len(answered))
        known = np.logical_or.reduceat(answered, begin)
        right = np.maximum.reduceat(np.where(answered, dataset.rows.response, 0), begin)
        rows = dataset.rows.replace(response=right.repeat(width))
        logits = np.full(len(answered), np.nan)
        if self.model.pools_skills:
            steps = replace(pooled(replace(dataset, rows=rows)), origin=None)
            logits[begin] = self._questions(steps, np.arange(len(begin)), known)
        else:
            logits[begin] = self._questions(replace(dataset, rows=rows), begin, known)
        return logits

    def _questions(self, dataset: MemoryDataset, begin: IntArray, known: BoolArray) -> FloatArray:
        """The log-odds (n,) of a right answer to questions whose rows begin at `begin`."""
        width = np.diff(begin, append=len(dataset.rows))
        answered = known.repeat(width)
        logits = np.full(len(answered), np.nan)
        if answered.any():
            logits[answered] = self.answers(dataset.keep(answered))
        places = np.flatnonzero(answered)
        asked, begins, ends = self._pasts(dataset.offsets, answered, begin[~known])
        blank, widths = begin[~known][asked], width[~known][asked]
        for first in range(0, len(asked), BLANKS_AT_ONCE):
            now = slice(first, first + BLANKS_AT_ONCE)
            blanks = [np.arange(b, b + w) for b, w in zip(blank[now], widths[now], strict=True)]
            data = _with_pasts(dataset, places, blanks, begins[now], ends[now])
            logits[blank[now]] = self.answers(data)[data.offsets[1:] - widths[now]]
        found: FloatArray = logits[begin]
        return found

    def _pasts(
        self, offsets: IntArray, answered: BoolArray, blanks: IntArray
    ) -> tuple[IntArray, IntArray, IntArray]:
        """Which of the rows `blanks` have a past, and from where to where it is, of known rows."""
        before: IntArray = np.cumsum(answered) - answered
        student: IntArray = before[offsets[:-1]].repeat(np.diff(offsets))
        asked = np.flatnonzero(before[blanks] > student[blanks])
        ends, student = before[blanks[asked]], student[blanks[asked]]
        counts = (ends - student).tolist()
        starts = [context_start(n, self.reading.seq_len, self.reading.stride) for n in counts]
        return asked, student + np.array(starts, dtype=np.int64), ends

    def student(self) -> RollingState:
        """Return the state of a student without answers, to be told one answer at a time."""
        self.model.eval()
        return RollingState(self.model, self.reading.seq_len, self.reading.stride)


def _with_pasts(
    dataset: MemoryDataset,
    known: IntArray,
    blanks: list[IntArray],
    begins: IntArray,
    ends: IntArray,
) -> MemoryDataset:
    """A data set in which each blank question's rows are the last of a student with its past."""
    parts = [
        np.append(known[begin:end], blank)
        for blank, begin, end in zip(blanks, begins, ends, strict=True)
    ]
    rows, offsets = np.concatenate(parts), np.concatenate([[0], np.cumsum([*map(len, parts)])])
    # a question of its own, whatever stands beside it in the table
    order = dataset.rows.order[rows]
    for blank, end in zip(blanks, offsets[1:].tolist(), strict=True):
        order[end - len(blank) : end] = order[end - len(blank) - 1] + 1
    return replace(
        dataset,
        student_ids=[str(blank[0]) for blank in blanks],
        rows=dataset.rows.take(rows).replace(order=order),
        offsets=offsets,
        folds=np.zeros(len(blanks), np.int8),
    )
