"""Students in two splits: by their ids, and by histories that are too alike to be a coincidence.

A history is taken apart into shingles, `SHINGLE` consecutive answers each: which question (or
skill) and whether right. Those that many share say nothing and are left out. Source of the method:
Broder 1997, On the resemblance and containment of documents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gainakt.arrays import FloatArray, IntArray
from gainakt.data.interactions import Dataset
from gainakt.data.pooling import first_rows
from gainakt.seeds import Stream

SHINGLE = 10
# Shingles that more students of the other side share say nothing.
MOST_SHARED = 50
# A history with fewer telling shingles cannot be told from another.
FEWEST = 6
# Almost identical: so many of a history's telling shingles are in one other history.
SHARE = 0.8
# Bits by which a coincidence must be more surprising than the number of pairs makes it: answers of
# one student are not independent, so that independence finds them too surprising.
MARGIN_BITS = 20.0


@dataclass(frozen=True)
class Pair:
    """Two students whose histories are almost identical.

    share: of the first one's telling shingles that the second one has. bits: how surprising it is,
    were answers independent given the skill.
    """

    student: str
    other: str
    share: float
    bits: float


def same_ids(dataset: Dataset, students: IntArray, other: Dataset, others: IntArray) -> list[str]:
    """Return the ids of `students` that are among those of `others`, however they are spelt."""
    known = {_plain(other.student_ids[o]) for o in others.tolist()}
    ids = [dataset.student_ids[s] for s in students.tolist()]
    return [name for name in ids if _plain(name) in known]


def _plain(name: str) -> str:
    """An id without what spreadsheets and joins add to it."""
    plain = name.strip().casefold()
    return plain[:-2] if plain.endswith(".0") and plain[:-2].isdigit() else plain


def almost_identical(
    dataset: Dataset, students: IntArray, other: Dataset, others: IntArray
) -> list[Pair]:
    """Return each of `students` whose history is almost that of one of `others`, the nearest one.

    Args:
        dataset, students: (n,) indices, whose histories are looked up.
        other, others: (m,) indices, among whose they are looked up.
    """
    of_ours, of_others = _items(dataset, other)
    bits = _surprise(dataset, students)
    hashes, owners = _shingles(other, others, of_others)
    order = np.argsort(hashes, kind="stable")
    hashes, owners = hashes[order], owners[order]
    threshold = math.log2(max(len(students) * len(others), 2)) + MARGIN_BITS
    found = []
    for student in students.tolist():
        mine, _ = _shingles(dataset, np.array([student]), of_ours)
        mine = np.unique(mine)
        begin, end = np.searchsorted(hashes, mine, "left"), np.searchsorted(hashes, mine, "right")
        telling = end - begin <= MOST_SHARED
        if telling.sum() < FEWEST:
            continue
        hits = [
            np.unique(owners[a:b])
            for a, b in zip(begin[telling].tolist(), end[telling].tolist(), strict=True)
        ]
        counts = np.bincount(np.concatenate(hits), minlength=1)
        nearest = int(counts.argmax())
        share = float(counts[nearest] / telling.sum())
        if share < SHARE:
            continue
        surprise = share * _of_history(dataset, student, bits)
        if surprise >= threshold:
            pair = dataset.student_ids[student], other.student_ids[int(others[nearest])]
            found.append(Pair(*pair, share, surprise))
    return found


Items = npt.NDArray[np.uint64]


def _items(a: Dataset, b: Dataset) -> tuple[Items, Items]:
    """A number for what each row of two data sets asks, the same for the same id in both.

    It is the question where both name questions, else the skill.
    """
    questions = [data.rows.question for data in (a, b)]
    known: dict[str, int] = {}
    found = []
    for data, question in zip((a, b), questions, strict=True):
        if question is not None and all(q is not None for q in questions):
            ids, asked = ["", *data.vocabulary.questions], question
        else:
            ids, asked = [*data.vocabulary.skills], data.rows.skill
        names = np.array([known.setdefault(i, len(known)) for i in ids], np.uint64)
        found.append(names[asked])
    return found[0], found[1]


def _steps(dataset: Dataset, student: int) -> IntArray:
    """The first rows of a student's answers."""
    begin, end = int(dataset.offsets[student]), int(dataset.offsets[student + 1])
    first = first_rows(dataset.rows.order[begin:end], np.array([0, end - begin]))
    steps: IntArray = begin + np.flatnonzero(first)
    return steps


def _shingles(dataset: Dataset, students: IntArray, items: Items) -> tuple[Items, IntArray]:
    """Return the hash of every shingle of students, and which of them (by number) it is of."""
    rows = dataset.rows
    factors = Stream.AUDIT.generator(0, 3).integers(1, 1 << 63, SHINGLE, dtype=np.uint64) | 1
    hashes, owners = [], []
    for number, student in enumerate(students.tolist()):
        steps = _steps(dataset, student)
        codes = items[steps] * np.uint64(2) + rows.response[steps].astype(np.uint64) + 1
        n = len(codes) - SHINGLE + 1
        if n < 1:
            continue
        # modulo 2^64; squared in between, so that sums of other answers do not meet
        mixed = (codes * np.uint64(0x9E3779B97F4A7C15)) ^ (codes << np.uint64(17))
        total = np.zeros(n, np.uint64)
        for place in range(SHINGLE):
            total += mixed[place : place + n] * factors[place]
        hashes.append(total)
        owners.append(np.full(n, number))
    if not hashes:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    return np.concatenate(hashes), np.concatenate(owners)


def _surprise(dataset: Dataset, students: IntArray) -> FloatArray:
    """Bits of a wrong and a right answer (2, K), by how often students give it to each skill."""
    n_skills = len(dataset.vocabulary.skills)
    counts = np.ones((2, n_skills))
    for student in students.tolist():
        steps = _steps(dataset, student)
        np.add.at(counts, (dataset.rows.response[steps], dataset.rows.skill[steps]), 1)
    bits: FloatArray = -np.log2(counts / counts.sum(0))
    return bits


def _of_history(dataset: Dataset, student: int, bits: FloatArray) -> float:
    steps = _steps(dataset, student)
    return float(bits[dataset.rows.response[steps], dataset.rows.skill[steps]].sum())
