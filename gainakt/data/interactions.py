"""The interaction table: what a prepared data set is on disk and how training reads it.

Training imports this module on machines that have neither polars nor dataframely, so it needs only
numpy and pyarrow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gainakt.data.contents import ContentHash
from gainakt.errors import DataError, GainaktError

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
TABLE_FILE = "interactions.parquet"

STUDENT = "student_id"
ORDER = "order"
SKILL = "skill_id"
CORRECT = "correct"
QUESTION = "question_id"
TIMESTAMP = "timestamp"
FOLD = "fold"
TRUE_MASTERY = "true_mastery"

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

_BATCH_ROWS = 1 << 20
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
    """A prepared data set in memory: flat arrays, with the students as ranges of rows.

    With S students, N rows and K skills: ``skills`` (N,) int32 codes into ``skill_ids``;
    ``responses`` (N,) int8, 0 or 1; ``offsets`` (S + 1,) int64, student s owns rows
    ``offsets[s]:offsets[s + 1]``; ``folds`` (S,) int8, -1 for test.
    """

    name: str
    path: Path
    manifest: dict[str, Any]
    student_ids: list[str]
    skill_ids: tuple[str, ...]
    skills: np.ndarray
    responses: np.ndarray
    offsets: np.ndarray
    folds: np.ndarray

    @property
    def n_skills(self) -> int:
        """How many skills the data set has (K)."""
        return len(self.skill_ids)

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
        """One column of the table as stored, (N,), for those not held in memory such as ``order``.

        Raises DataError when the table has no such column.
        """
        with _Opened(self.path) as file:
            if name not in file.schema_arrow.names:
                present = ", ".join(file.schema_arrow.names)
                raise DataError(
                    f"{self.path / TABLE_FILE} has no column {name!r}; it has {present}"
                )
            return np.asarray(file.read(columns=[name]).column(0).to_numpy())

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
    """Read a prepared data set and verify it against its manifest.

    ``path`` is a folder that ``gainakt prepare`` or ``gainakt simulate`` made. Raises DataError
    when a file is missing or unreadable, the format version is another, or table and manifest
    disagree.
    """
    folder = Path(path)
    manifest = _read_manifest(folder)
    contents = _read_table(folder, manifest)
    _check_counts(folder, manifest, contents)
    return contents


def _read_manifest(folder: Path) -> dict[str, Any]:
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
    return manifest


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


def _read_table(folder: Path, manifest: dict[str, Any]) -> Dataset:
    skill_ids = [str(skill) for skill in manifest["skills"]]
    with _Opened(folder) as file:
        names = _check_schema(folder / TABLE_FILE, file.schema_arrow)
        content = ContentHash({name: COLUMN_TYPES[name] for name in names})
        pieces = [
            _Piece.of(batch, content, pa.array(skill_ids, pa.string()))
            for batch in file.iter_batches(_BATCH_ROWS)
        ]
        if content.hexdigest() != manifest["interactions_sha256"]:
            raise DataError(
                f"{folder / TABLE_FILE} does not match the hash in {MANIFEST_FILE}: one of them "
                "was changed or damaged after it was written; prepare the data again"
            )
        return _join(folder, manifest, skill_ids, pieces)


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


@dataclass(frozen=True)
class _Piece:
    """What training needs of one record batch; runs are stretches of rows of one student."""

    run_ids: list[str]
    run_ends: np.ndarray
    run_folds: np.ndarray
    folds_constant: bool
    codes: np.ndarray
    responses: np.ndarray

    @classmethod
    def of(cls, batch: pa.RecordBatch, content: ContentHash, skill_ids: pa.Array) -> _Piece:
        nulls = [name for name in batch.schema.names if batch.column(name).null_count]
        if nulls:
            raise ValueError(f"column {nulls[0]!r} has empty cells")
        content.update(batch)
        runs = pc.run_end_encode(batch.column(STUDENT))
        ends = np.asarray(runs.run_ends).astype(np.int64)
        folds = np.asarray(batch.column(FOLD))
        run_folds = folds[ends - 1]
        lengths = np.diff(ends, prepend=0)
        codes = pc.index_in(batch.column(SKILL), value_set=skill_ids)
        return cls(
            run_ids=runs.values.to_pylist(),
            run_ends=ends,
            run_folds=run_folds,
            folds_constant=bool((np.repeat(run_folds, lengths) == folds).all()),
            codes=np.asarray(pc.fill_null(codes, -1)),
            responses=np.asarray(batch.column(CORRECT)),
        )


def _join(
    folder: Path, manifest: dict[str, Any], skill_ids: list[str], pieces: list[_Piece]
) -> Dataset:
    student_ids: list[str] = []
    ends: list[np.ndarray] = []
    folds: list[np.ndarray] = []
    rows = 0
    for piece in pieces:
        # A student may straddle two batches: then the earlier part is not an end.
        if student_ids and student_ids[-1] == piece.run_ids[0]:
            student_ids.pop()
            ends[-1] = ends[-1][:-1]
            folds[-1] = folds[-1][:-1]
        student_ids += piece.run_ids
        ends.append(piece.run_ends + rows)
        folds.append(piece.run_folds)
        rows += len(piece.codes)
    if not all(piece.folds_constant for piece in pieces):
        raise ValueError("a student is in two folds")
    return Dataset(
        name=manifest["name"],
        path=folder,
        manifest=manifest,
        student_ids=student_ids,
        skill_ids=tuple(skill_ids),
        skills=_concatenate((piece.codes for piece in pieces), np.int32),
        responses=_concatenate((piece.responses for piece in pieces), np.int8),
        offsets=np.concatenate([[0], *ends]).astype(np.int64),
        folds=_concatenate(folds, np.int8),
    )


def _concatenate(arrays: Iterable[np.ndarray] | Iterator[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate([np.empty(0, kind), *arrays]).astype(kind, copy=False)


def _check_counts(folder: Path, manifest: dict[str, Any], data: Dataset) -> None:
    """The manifest is not under the hash, so what it claims about the table is compared."""
    found = {
        "students": len(data.student_ids),
        "interactions": len(data.skills),
        "skills": len(np.unique(data.skills)),
    }
    for key, value in found.items():
        if manifest["counts"].get(key) != value:
            raise DataError(
                f"{folder / MANIFEST_FILE} counts {manifest['counts'].get(key)} {key}, "
                f"but {TABLE_FILE} has {value}"
            )
    if list(data.skill_ids) != skill_order(data.skill_ids) or (data.skills < 0).any():
        raise DataError(
            f"{folder / MANIFEST_FILE}: 'skills' does not list the skills of {TABLE_FILE}"
        )
    if len(set(data.student_ids)) != len(data.student_ids):
        raise DataError(f"{folder / TABLE_FILE}: the rows of a student are not contiguous")
