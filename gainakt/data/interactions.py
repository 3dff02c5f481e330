"""The interaction table: what a prepared data set is on disk and how training reads it.

Training imports this module on machines that have neither polars nor dataframely, so it needs only
numpy and pyarrow.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gainakt.data.contents import ContentHash
from gainakt.data.mapped import LAYOUT, Piece, TextColumn, open_arrays, release, text_at
from gainakt.data.rows import (
    CORRECT,
    FOLD,
    ORDER,
    QUESTION,
    SKILL,
    STUDENT,
    TIMESTAMP,
    TRUE_MASTERY,
    Rows,
)
from gainakt.data.vocabulary import Vocabulary
from gainakt.errors import DataError, GainaktError

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
TABLE_FILE = "interactions.parquet"
ARRAYS_FOLDER = "arrays"

TEST_FOLD = -1

COLUMN_TYPES: dict[str, pa.DataType] = {
    STUDENT: pa.string(),
    ORDER: pa.int32(),
    SKILL: pa.string(),
    CORRECT: pa.int8(),
    QUESTION: pa.string(),
    TIMESTAMP: pa.int64(),
    FOLD: pa.int8(),
    TRUE_MASTERY: pa.float32(),
}
OPTIONAL_COLUMNS = (QUESTION, TIMESTAMP, TRUE_MASTERY)

_BATCH_ROWS = 1 << 18
_INTEGER = re.compile(r"[+-]?[0-9]+")
_MANIFEST_KEYS: dict[str, type] = {
    "name": str,
    "reader": str,
    "counts": dict,
    "skills": list,
    "splits": dict,
    "interactions_sha256": str,
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """A prepared data set: flat arrays, with the students as ranges of rows.

    With S students and N ``rows``, whose codes are those of ``vocabulary``: ``offsets`` (S + 1,)
    int64, student s owns rows ``offsets[s]:offsets[s + 1]``; ``folds`` (S,) int8, -1 for test.
    ``load_dataset`` maps them from disk.
    """

    name: str
    path: Path
    manifest: dict[str, Any]
    student_ids: Sequence[str]
    vocabulary: Vocabulary
    rows: Rows
    offsets: np.ndarray
    folds: np.ndarray
    origin: np.ndarray | None = None  # of a part: the rows of the whole that it holds

    @property
    def skill_ids(self) -> tuple[str, ...]:
        """The skills in code order."""
        return self.vocabulary.skills

    @property
    def n_skills(self) -> int:
        """How many skills the data set has (K)."""
        return self.vocabulary.n_skills

    def students(self, split: str, fold: int = 0, test_fold: int = TEST_FOLD) -> np.ndarray:
        """Indices of the students in a split, ascending, int64.

        ``split`` is "test" (``test_fold``: the data set's own test students, or a fold that takes
        their place), "valid" (``fold``) or "train" (every other fold, never the data set's own
        test students). Raises DataError when the split, a fold or its students are not there.
        """
        if split not in ("train", "valid", "test"):
            raise DataError(f"no split {split!r}; allowed are train, valid and test")
        if split == "test":
            if test_fold != TEST_FOLD:
                self._check_fold(test_fold)
            chosen = self.folds == test_fold
        else:
            self._check_fold(fold)
            chosen = self.folds == fold
            if split == "train":
                chosen = ~chosen & (self.folds != TEST_FOLD) & (self.folds != test_fold)
        if not chosen.any():
            raise DataError(f"data set {self.name!r} ({self.path}) has no {split} students")
        return np.flatnonzero(chosen)

    def column(self, name: str) -> np.ndarray:
        """One column of the table as stored, (N,), for the rows of this data set.

        Raises DataError when the table has no such column.
        """
        if name == ORDER:
            return self.rows.order
        with _Opened(self.path) as file:
            if name not in file.schema_arrow.names:
                present = ", ".join(file.schema_arrow.names)
                raise DataError(
                    f"{self.path / TABLE_FILE} has no column {name!r}; it has {present}"
                )
            values = np.asarray(file.read(columns=[name]).column(0).to_numpy())
        return values if self.origin is None else values[self.origin]

    def part(self, students: np.ndarray) -> Dataset:
        """The data set of these students alone, (n,) indices, in memory and in the order given."""
        begins = self.offsets[students]
        lengths = self.offsets[students + 1] - begins
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = np.repeat(begins - offsets[:-1], lengths) + np.arange(offsets[-1])
        chosen = replace(
            self,
            student_ids=TextColumn(pa.chunked_array([text_at(self.student_ids, students)])),
            rows=self.rows.take(rows),
            offsets=offsets,
            folds=self.folds[students],
            origin=rows if self.origin is None else self.origin[rows],
        )
        release(*self.rows.present().values())
        return chosen

    def places(self, student: np.ndarray, row: np.ndarray) -> np.ndarray:
        """The place (n,) of each row in its student's stored history, from 0.

        Where questions are pooled, some places are left out (see ``gainakt.data.pooling``).
        """
        begin: np.ndarray = self.offsets[student]
        if self.origin is not None:
            row, begin = self.origin[row], self.origin[begin]
        return np.asarray(row - begin)

    def differences(self, other: Dataset) -> list[str]:
        """Return the names of what differs from another data set, whatever either is made of."""

        def contents(data: Dataset) -> dict[str, Any]:
            columns = {name: getattr(data.rows, name) for name in Rows.SOURCES}
            names = {"skills": data.vocabulary.skills, "questions": data.vocabulary.questions}
            bounds = {"offsets": data.offsets, "folds": data.folds, "students": data.student_ids}
            return bounds | names | columns

        own, others = contents(self), contents(other)
        return [name for name in own if not np.array_equal(own[name], others[name])]

    def _check_fold(self, fold: int) -> None:
        present = np.unique(self.folds[self.folds != TEST_FOLD]).tolist()
        if fold not in present:
            allowed = ", ".join(map(str, present)) or "none"
            raise DataError(
                f"data set {self.name!r} ({self.path}) has no fold {fold}; its folds are {allowed}"
            )


def skill_order(skill_ids: Iterable[str]) -> list[str]:
    """Distinct skill ids in code order: by number when all are integers, else by text."""
    distinct = set(skill_ids)
    if all(_INTEGER.fullmatch(skill) for skill in distinct):
        return sorted(distinct, key=lambda skill: (int(skill), skill))
    return sorted(distinct)


def load_dataset(path: str | Path) -> Dataset:
    """Open a prepared data set: its arrays, mapped into memory.

    ``path`` is a folder that ``gainakt prepare`` or ``gainakt simulate`` made. The first time, and
    whenever table or manifest were changed, the whole table is read and verified against the
    manifest, and the arrays are made. Raises DataError when a file is missing or unreadable, the
    format version is another, or table and manifest disagree.
    """
    folder = Path(path)
    manifest = _read_manifest(folder)
    counts = manifest["counts"]
    with _Opened(folder) as file:
        _check_schema(folder / TABLE_FILE, file.schema_arrow)
        stored = set(file.schema_arrow.names)
    arrays = open_arrays(
        folder / ARRAYS_FOLDER,
        _key(folder, manifest),
        counts.get("students"),
        counts.get("interactions"),
        [name for name, source in Rows.SOURCES.items() if source in stored],
        partial(_pieces, folder, manifest),
    )
    return Dataset(
        name=manifest["name"],
        path=folder,
        manifest=manifest,
        student_ids=arrays.student_ids,
        vocabulary=Vocabulary(tuple(map(str, manifest["skills"])), arrays.question_ids),
        rows=arrays.rows,
        offsets=arrays.offsets,
        folds=arrays.folds,
    )


def _key(folder: Path, manifest: dict[str, Any]) -> str:
    """A name for all that the arrays depend on, and for the file whose check they stand for."""
    table = (folder / TABLE_FILE).stat()
    parts = [LAYOUT, *(manifest[name] for name in ("interactions_sha256", "skills", "counts"))]
    text = json.dumps([*parts, table.st_size, table.st_mtime_ns])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _read_manifest(folder: Path) -> dict[str, Any]:
    _check_present(folder)
    file = folder / MANIFEST_FILE
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as JSON: {error}") from None
    if not isinstance(manifest, dict):
        raise DataError(f"{file} must hold a JSON object, not {type(manifest).__name__}")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise DataError(
            f"{file} has format_version {version!r}; this gainakt reads {FORMAT_VERSION}: "
            "prepare the data again"
        )
    for key, kind in _MANIFEST_KEYS.items():
        if not isinstance(manifest.get(key), kind):
            raise DataError(f"{file}: {key!r} is missing or not of type {kind.__name__}")
    odd = {name: n for name, n in manifest["counts"].items() if not isinstance(n, int)}
    if odd:
        raise DataError(f"{file}: counts must be whole numbers, not {odd}")
    return manifest


def _check_present(folder: Path) -> None:
    if not folder.is_dir():
        raise DataError(
            f"no prepared data set at {folder}: it is not a folder; "
            "make one with `gainakt prepare` or `gainakt simulate`"
        )
    for name in (MANIFEST_FILE, TABLE_FILE):
        if not (folder / name).is_file():
            raise DataError(
                f"{folder} is not a prepared data set: {name} is missing; make one with "
                "`gainakt prepare READER SOURCE --out DIR`"
            )


class _Opened:
    """Context manager: the Parquet file of a data set, with pyarrow's errors said in ours."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / TABLE_FILE

    def __enter__(self) -> pq.ParquetFile:
        try:
            self._parquet = pq.ParquetFile(self.file)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from None
        return self._parquet

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._parquet.close()
        if isinstance(error, GainaktError):
            return
        if isinstance(error, pa.ArrowException | OSError | ValueError):
            raise self._damaged(error) from None

    def _damaged(self, error: BaseException) -> DataError:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        return DataError(f"{self.file} is damaged, prepare the data again: {first_line}")


def _pieces(folder: Path, manifest: dict[str, Any]) -> Iterator[Piece]:
    """Read the table in pieces of bounded size; after the last one it is proven to be whole.

    Raises DataError where it is damaged, or is not what the manifest says.
    """
    skill_ids = [str(skill) for skill in manifest["skills"]]
    with _Opened(folder) as file:
        names = _check_schema(folder / TABLE_FILE, file.schema_arrow)
        content = ContentHash({name: COLUMN_TYPES[name] for name in names})
        reading = _Reading(skill_ids)
        for group in range(file.num_row_groups):
            # one by one: over all groups pyarrow would hold the whole file
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group]):
                yield reading.piece(batch)
                content.update(batch)
    if content.hexdigest() != manifest["interactions_sha256"]:
        raise DataError(
            f"{folder / TABLE_FILE} does not match the hash in {MANIFEST_FILE}: one of them "
            "was changed or damaged after it was written; prepare the data again"
        )
    reading.check(folder, manifest["counts"])


def _check_schema(file: Path, schema: pa.Schema) -> list[str]:
    for name, kind in COLUMN_TYPES.items():
        if name not in schema.names:
            if name in OPTIONAL_COLUMNS:
                continue
            raise DataError(f"{file} has no column {name!r}; it has {', '.join(schema.names)}")
        if schema.field(name).type != kind:
            raise DataError(f"{file}: column {name!r} is {schema.field(name).type}, must be {kind}")
    unknown = [name for name in schema.names if name not in COLUMN_TYPES]
    if unknown:
        raise DataError(
            f"{file}: unknown column {unknown[0]!r}; allowed: {', '.join(COLUMN_TYPES)}"
        )
    return list(schema.names)


class _Reading:
    """Turns record batches into pieces, and gathers what the manifest must agree with."""

    def __init__(self, skill_ids: list[str]) -> None:
        self._skill_ids = skill_ids
        self._questions: dict[str, int] = {}
        self._value_set = pa.array(skill_ids, pa.string())
        self._rows = 0
        self._seen = np.zeros(len(skill_ids) + 1, bool)  # the last for skills not in the list
        self._last: tuple[str, int] | None = None  # student and fold of the last row
        self._hashes: list[np.ndarray] = []  # of the student ids: 8 bytes each, not the text

    def piece(self, batch: pa.RecordBatch) -> Piece:
        """What a record batch adds; raises ValueError for empty cells or a student in two folds."""
        nulls = [name for name in batch.schema.names if batch.column(name).null_count]
        if nulls:
            raise ValueError(f"column {nulls[0]!r} has empty cells")
        runs = pc.run_end_encode(batch.column(STUDENT))
        ids = runs.values
        ends = np.asarray(runs.run_ends).astype(np.int64)
        folds = np.asarray(batch.column(FOLD))
        of_runs = folds[ends - 1]
        # a student may straddle two batches, and begins in the first of them
        goes_on = self._last is not None and self._last[0] == ids[0].as_py()
        before = self._last[1] if goes_on and self._last else folds[0]
        if before != folds[0] or (np.repeat(of_runs, np.diff(ends, prepend=0)) != folds).any():
            raise ValueError("a student is in two folds")
        self._last = (ids[-1].as_py(), int(folds[-1]))
        codes = np.asarray(pc.fill_null(pc.index_in(batch.column(SKILL), self._value_set), -1))
        self._seen[codes] = True
        begins = (ends - np.diff(ends, prepend=0) + self._rows)[goes_on:]
        self._rows += len(codes)
        ids = ids.slice(int(goes_on))
        self._hashes.append(np.fromiter(map(hash, ids.to_pylist()), np.int64, len(ids)))
        if not pc.all(pc.is_in(batch.column(CORRECT), pa.array([0, 1], pa.int8()))).as_py():
            raise ValueError(f"column {CORRECT!r} holds something else than 0 and 1")
        if (of_runs < TEST_FOLD).any():
            raise ValueError(f"column {FOLD!r} holds a number under {TEST_FOLD}")
        known = len(self._questions)
        coded = {SKILL: codes}
        if QUESTION in batch.schema.names:
            coded[QUESTION] = self._question_codes(batch.column(QUESTION))
        columns = {
            name: coded[source] if source in coded else np.asarray(batch.column(source))
            for name, source in Rows.SOURCES.items()
            if source in batch.schema.names
        }
        return Piece(
            rows=Rows(**columns),
            begins=begins,
            folds=of_runs[goes_on:],
            student_ids=ids,
            question_ids=pa.array(list(self._questions)[known:], pa.string()),
        )

    def _question_codes(self, ids: pa.StringArray) -> np.ndarray:
        """Codes from 1, in the order in which the ids come up first."""
        found = ids.dictionary_encode()
        names = found.dictionary.to_pylist()
        codes = [self._questions.setdefault(name, len(self._questions) + 1) for name in names]
        coded: np.ndarray = np.array(codes, np.int32)[np.asarray(found.indices)]
        return coded

    def check(self, folder: Path, counts: dict[str, Any]) -> None:
        """The manifest is not under the hash, so what it claims about the table is compared."""
        students = np.concatenate([np.empty(0, np.int64), *self._hashes])
        found = {
            "students": len(students),
            "interactions": self._rows,
            "skills": int(self._seen.sum()),
        }
        for key, value in found.items():
            if counts.get(key) != value:
                raise DataError(
                    f"{folder / MANIFEST_FILE} counts {counts.get(key)} {key}, "
                    f"but {TABLE_FILE} has {value}"
                )
        if self._skill_ids != skill_order(self._skill_ids) or self._seen[-1]:
            raise DataError(
                f"{folder / MANIFEST_FILE}: 'skills' does not list the skills of {TABLE_FILE}"
            )
        # that two of ten million students share 64 bits by chance has odds of 1 to 400,000
        if len(np.unique(students)) != len(students):
            raise DataError(f"{folder / TABLE_FILE}: the rows of a student are not contiguous")
