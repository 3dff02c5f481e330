"""Every random stream of a run, by name: all of them are functions of the run's seed.

No two streams share a generator: the streams of training are seeded by (seed, epoch) and
(seed, epoch, step), every other one by the seed and a spawn key of its own.
"""

from __future__ import annotations

from enum import Enum

import numpy as np


class Stream(Enum):
    """A purpose for which numbers are drawn: its spawn key, and what it decides."""

    CONSISTENCY = (1, "students of the consistency check")
    ALIGNMENT = (2, "students of the global alignment pass")
    CORRELATION_BOOTSTRAP = (3, "bootstrap of students behind the intervals of correlations")
    STUDENT_BOOTSTRAP = (4, "bootstrap of students behind every other interval")
    FLIPS = (5, "answers that are flipped to see predictions move")
    DELETIONS = (6, "predictions whose past answers are deleted")
    RANDOM_ANSWERS = (7, "random answers that are deleted beside the strongest ones")
    TEACHER = (8, "seed of teacher t, with the spawn key (8, t)")
    PAIRED_BOOTSTRAP = (9, "bootstrap of students behind paired differences")
    CONSISTENCY_SKILLS = (11, "skills of the consistency check, where there are many")
    PROBES = (12, "answers that are flipped and removed one by one")
    CALIBRATION = (10, "chance errors that the calibration error is corrected for")
    AUDIT = (20, "moments, changes and shuffled answers of an audit")

    def __init__(self, key: int, purpose: str) -> None:
        self.key = key
        self.purpose = purpose

    def sequence(self, seed: int, *number: int) -> np.random.SeedSequence:
        """Return the stream's seed sequence in a run of `seed`; `number` tells repeats apart."""
        return np.random.SeedSequence(seed, spawn_key=(self.key, *number))

    def generator(self, seed: int, *number: int) -> np.random.Generator:
        """Return the stream's generator in a run of `seed`; `number` tells repeats apart."""
        return np.random.default_rng(self.sequence(seed, *number))


def epoch_generator(seed: int, epoch: int) -> np.random.Generator:
    """Return the generator of the order of students in an epoch."""
    return np.random.default_rng([seed, epoch])


def step_seed(seed: int, epoch: int, step: int) -> int:
    """Return the seed of torch's generators in one optimiser step.

    Dropout is thereby a function of seed, epoch and step alone: a resumed run draws what the
    uninterrupted one drew, with no generator state to keep.
    """
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)[0])


def seeds_page(primary: int, every: tuple[int, ...]) -> str:
    """Return SEEDS.md: every seed and what it seeds."""
    rows = "\n".join(
        f"| {stream.purpose} | numpy generator, spawn key ({stream.key}) |" for stream in Stream
    )
    return f"""# Seeds

- primary: {primary}
- all: {", ".join(map(str, every))}

The primary seed alone determines everything random in this run:

| what | how |
|---|---|
| initial weights | torch generator seeded with the primary seed |
| order of students in epoch e | numpy generator seeded with (primary, e) |
| dropout in step s of epoch e | torch generator seeded with (primary, e, s) |
{rows}

`all` are the seeds of the experiment that this run is part of; `gainakt crossval` runs each.
"""
