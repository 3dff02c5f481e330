"""What a run learns from: the students' histories, cut once, and the model that is to read them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from gainakt.config import Config
from gainakt.data.batches import bounded_ranges
from gainakt.data.interactions import Dataset
from gainakt.data.pooling import pooled
from gainakt.data.sequences import Sequences, chunk_sequences, rows_of_pieces
from gainakt.data.vocabulary import Vocabulary
from gainakt.errors import DataError
from gainakt.evaluation.predictor import PART_STEPS
from gainakt.evaluation.protocol import coded
from gainakt.models import KnowledgeTracer, build_model
from gainakt.training.loop import Trainer


@dataclass(frozen=True, eq=False)
class Learning:
    """The data of a run as its model reads them.

    dataset: coded with `vocabulary`. training, validation: pieces of the students' histories, a row
    for each step that the model reads.
    """

    dataset: Dataset
    vocabulary: Vocabulary
    training: Sequences
    validation: Sequences

    @classmethod
    def of(cls, config: Config, dataset: Dataset) -> Learning:
        """Cut the histories of the configured folds.

        Raises:
            DataError: a split is empty, too short, or has answers of one class only; there are no
                times for a model that reads them.
        """
        if config.model.reads_times and dataset.rows.time is None:
            raise DataError(
                f"forgetting is on, but {dataset.name} has no times; set --forgetting off, or auto"
            )
        vocabulary = dataset.vocabulary
        if not config.model.reads_questions:
            vocabulary = vocabulary.with_questions(())
        elif vocabulary.n_questions:
            students = dataset.students("train", config.data.fold, config.data.test_fold)
            vocabulary = vocabulary.with_questions(questions_answered(dataset, students))
        dataset = coded(dataset, vocabulary)
        steps = pooled(dataset) if config.model.pools_skills else dataset
        parts = {}
        for split in ("train", "valid"):
            students = dataset.students(split, config.data.fold, config.data.test_fold)
            parts[split] = chunk_sequences(steps, students, config.model.seq_len)
            _check(parts[split], split, dataset.name, config.data.fold)
        return cls(dataset, vocabulary, parts["train"], parts["valid"])

    def model(self, config: Config, device: torch.device) -> KnowledgeTracer:
        """Build the configured model."""
        return build_model(config, self.vocabulary).to(device)

    def trainer(self, config: Config, device: torch.device) -> Trainer:
        """Build the configured model and what trains it."""
        model = self.model(config, device)
        return Trainer(model, config, self.training, self.validation, device)

    def softened(self, answers: npt.NDArray[np.float32]) -> Learning:
        """Return the same with soft answers (N,) to learn in place of the given ones."""
        return replace(self, training=replace(self.training, soft_answers=answers))


def questions_answered(dataset: Dataset, students: npt.NDArray[np.int64]) -> list[str]:
    """Return the ids of the questions that students (n,) answered, in the order of their codes.

    What is not among them nothing can be learnt of: it is an unknown question from the start.
    """
    assert dataset.rows.question is not None
    seen = np.zeros(dataset.vocabulary.n_questions + 1, dtype=bool)
    for student in students.tolist():
        seen[dataset.rows.question[dataset.offsets[student] : dataset.offsets[student + 1]]] = True
    return [dataset.vocabulary.questions[code] for code in np.flatnonzero(seen[1:]).tolist()]


def _check(pieces: Sequences, split: str, name: str, fold: int) -> None:
    if not len(pieces):
        raise DataError(
            f"data set {name!r}: the {split} students of fold {fold} have fewer than 3 "
            "interactions each, nothing can be learnt from them"
        )
    classes = answers_to_learn(pieces)
    if len(classes) < 2:
        raise DataError(
            f"data set {name!r}: every answer of the {split} students of fold {fold} is "
            f"{classes[0]}; both right and wrong answers are needed"
        )


def answers_to_learn(pieces: Sequences) -> list[int]:
    """Return the kinds of answers, 0 and 1, that come after the first of a piece."""
    found: set[int] = set()
    for begin, end in bounded_ranges(pieces.lengths, PART_STEPS):
        part = pieces.take(np.arange(begin, end))
        first = np.cumsum(part.lengths) - part.lengths
        found |= set(np.unique(np.delete(part.rows.response[rows_of_pieces(part)], first)).tolist())
        if len(found) == 2:  # as a rule after the first few students
            break
    return sorted(found)
