"""Small sequences, batches, models and configurations that several test files build on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from gainakt.config import MODELS, Config, load_config
from gainakt.data.batches import Batch, make_batch
from gainakt.data.rows import NONE, Rows
from gainakt.data.sequences import Sequences, whole_histories
from gainakt.data.tables import MemoryDataset
from gainakt.data.vocabulary import Vocabulary
from gainakt.evaluation.predictor import Predictor, Reading
from gainakt.models import build_model
from gainakt.models.interface import KnowledgeTracer, ModelOutput
from gainakt.record.checkpoint import Checkpoint
from gainakt.tracer import Tracer

# What metrics_epoch.csv begins with, as it is specified; a copy of its own, for it is frozen.
METRIC_COLUMNS = [
    "epoch",
    "train_loss",
    "train_auc",
    "val_loss",
    "val_auc",
    "val_accuracy",
    "monotonicity_violation_rate",
    "negative_gain_rate",
    "bounds_violation_rate",
    "mastery_correlation",
    "gain_correlation",
    "main_loss_share",
    "constraint_loss_share",
    "alignment_loss_share",
    "lag_loss_share",
    "retention_loss_share",
]

Steps = Sequence[tuple[int, int]]
# What models of `small_tracer` know, where they tell questions apart.
QUESTIONS = 7


def sequences_of(*students: Steps, orders: Sequence[Sequence[int]] | None = None) -> Sequences:
    """One sequence for each student, given as (skill, answer) steps.

    `orders` gives the question number of every step; without it each step is its own question.
    """
    lengths = np.array([len(steps) for steps in students], dtype=np.int64)
    flat = [step for steps in students for step in steps]
    questions = orders if orders is not None else [range(n) for n in lengths]
    rows = Rows(
        skill=np.array([skill for skill, _ in flat], dtype=np.int32),
        response=np.array([answer for _, answer in flat], dtype=np.int8),
        order=np.array([order for question in questions for order in question], dtype=np.int32),
    )
    return whole_histories(rows, lengths)


def vocabulary_of(n_skills: int, n_questions: int = 0) -> Vocabulary:
    """The skills k0, k1, ... and the questions q1, q2, ..., of codes 1, 2, ..."""
    return Vocabulary(
        tuple(f"k{skill}" for skill in range(n_skills)),
        tuple(f"q{question}" for question in range(1, n_questions + 1)),
    )


def predictor_of(model: KnowledgeTracer, seq_len: int = 64, stride: int = 20) -> Predictor:
    """A predictor on the CPU."""
    return Predictor(model, Reading(seq_len, stride), torch.device("cpu"))


def batch_of(*students: Steps, orders: Sequence[Sequence[int]] | None = None) -> Batch:
    """The batch of `sequences_of` the students."""
    return make_batch(sequences_of(*students, orders=orders), np.arange(len(students)))


def pooled_batch(*students: Sequence[tuple[Sequence[int], int]]) -> Batch:
    """The batch of students given as (skills, answer) steps, each question one step."""
    widest = max(len(skills) for steps in students for skills, _ in steps)
    firsts = [[(skills[0], answer) for skills, answer in steps] for steps in students]
    sequences = sequences_of(*firsts)
    others = [
        [*skills[1:], *[NONE] * (widest - len(skills))] for steps in students for skills, _ in steps
    ]
    columns = np.array(others, np.int32).reshape(len(others), widest - 1)
    pooled = replace(sequences, rows=sequences.rows.replace(others=columns))
    return make_batch(pooled, np.arange(len(students)))


def random_students(lengths: Sequence[int], n_skills: int = 4, seed: int = 0) -> list[Steps]:
    """Students of the given lengths with random skills and answers."""
    rng = np.random.default_rng(seed)
    return [
        list(zip(rng.integers(n_skills, size=n), rng.integers(2, size=n), strict=True))
        for n in lengths
    ]


def lay_out(batch: Batch, *students: Any, padding: float = 99.0) -> Tensor:
    """Values by student and step as a batch's flat float tensor, `padding` on padding."""
    example = torch.tensor(students[0][0])
    flat = torch.full((len(batch.valid), *example.shape), padding)
    for index, values in enumerate(students):
        flat[(batch.sequence == index) & batch.valid] = torch.tensor(values, dtype=torch.float32)
    return flat


def of_student(batch: Batch, values: Tensor, index: int) -> Tensor:
    """The rows of a flat tensor that belong to sequence `index`, padding left out."""
    return values[(batch.sequence == index) & batch.valid]


_SMALL = {
    "seq_len": 64,
    "d_model": 8,
    "n_heads": 2,
    "num_encoder_blocks": 2,
    "d_ff": 16,
    "dropout": 0.0,
}
_NEEDS_MASTERY = (
    "enhanced_constraints",
    "enable_alignment_loss",
    "enable_global_alignment_pass",
    "enable_retention_loss",
)


def small_config(model: str = "gainakt2exp", **overrides: Any) -> Config:
    """A configuration of a tiny model; objectives on outputs that it lacks are off."""
    parameters = MODELS[model].parameters
    chosen: dict[str, Any] = {"model": model}
    chosen |= {name: value for name, value in _SMALL.items() if name in parameters.model_fields}
    if "mastery" not in parameters.outputs:
        chosen |= dict.fromkeys(_NEEDS_MASTERY, False)
    if "gains" not in parameters.outputs:
        chosen["enable_lag_gain_loss"] = False
    return load_config(None, chosen | overrides)


def dataset_of(lengths: Sequence[int], n_skills: int = 3) -> MemoryDataset:
    """A data set of students with histories of the given lengths, all in fold 0."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    total = int(offsets[-1])
    return MemoryDataset(
        name="memory",
        path=Path("memory"),
        manifest={},
        student_ids=[str(student) for student in range(len(lengths))],
        vocabulary=Vocabulary(tuple(str(skill) for skill in range(n_skills))),
        rows=Rows(
            skill=(np.arange(total) % n_skills).astype(np.int32),
            response=(np.arange(total) % 2).astype(np.int8),
            order=np.concatenate([np.empty(0, np.int64), *(np.arange(n) for n in lengths)]),
        ),
        offsets=offsets,
        folds=np.zeros(len(lengths), np.int8),
    )


def small_tracer(
    model: str = "gainsum",
    n_skills: int = 5,
    *,
    exact: bool = False,
    about: dict[str, Any] | None = None,
    **overrides: Any,
) -> Tracer:
    """A tracer with a tiny model far from its initial weights; its skills are k0, k1, ..."""
    config = small_config(
        model, **{"seq_len": 12, "window_stride": 5, "devices": "cpu"} | overrides
    )
    generator = torch.Generator().manual_seed(1)
    vocabulary = vocabulary_of(n_skills, QUESTIONS if config.model.reads_questions else 0)
    weights = {
        name: weight + 0.3 * torch.randn(weight.shape, generator=generator)
        for name, weight in build_model(config, vocabulary).state_dict().items()
    }
    checkpoint = Checkpoint(config, vocabulary, 3, weights)
    return Tracer(checkpoint, about=about, exact=exact, device="cpu")


def random_table(
    lengths: Sequence[int], n_skills: int = 5, seed: int = 0, *, questions: bool = False
) -> pl.DataFrame:
    """Answers of students s0, s1, ... with histories of the given lengths, at random.

    Args:
        lengths, n_skills, seed: of the answers.
        questions: whether each is to a question, of which models of `small_tracer` know all but q0.
    """
    rng = np.random.default_rng(seed)
    rows = [
        (f"s{student}", f"k{skill}", int(answer), f"q{rng.integers(QUESTIONS + 1)}", number)
        for student, steps in enumerate(random_students(lengths, n_skills, seed))
        for number, (skill, answer) in enumerate(steps)
    ]
    columns = ["student", "skill", "correct", "question", "order"]
    table = pl.DataFrame(rows, schema=columns, orient="row")
    return table if questions else table.select(columns[:3])


SKILLS = 4


def small_model(name: str = "gainakt2exp", **overrides: Any) -> KnowledgeTracer:
    """A tiny model of `SKILLS` skills that reads as it does in evaluation."""
    return build_model(small_config(name, **overrides), vocabulary_of(SKILLS)).eval()


def outputs(output: ModelOutput) -> dict[str, Tensor]:
    """The outputs that a model has, by name."""
    fields = {"logits": output.logits, "mastery": output.mastery, "gains": output.gains}
    return {name: values for name, values in fields.items() if values is not None}


@torch.no_grad()
def read(model: KnowledgeTracer, batch: Batch, index: int) -> dict[str, Tensor]:
    """All outputs for one sequence of a batch."""
    return {k: of_student(batch, v, index) for k, v in outputs(model(batch)).items()}
