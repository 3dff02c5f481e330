"""What an experiment folder recorded, held against what is there now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainakt.config import Config, hash_of, parse_config
from gainakt.data.interactions import Dataset, load_dataset
from gainakt.errors import DataError, ExperimentError
from gainakt.files import file_hash
from gainakt.record.folder import RunFolder, read_json


def recorded_config(run: RunFolder) -> Config:
    """Return the configuration that a run recorded."""
    return parse_config(read_json(run.config), "config.json")


def recorded_data(run: RunFolder, elsewhere: Path | None = None) -> Dataset:
    """Load the data that a run learnt from.

    Args:
        run: the experiment folder.
        elsewhere: a prepared data set to use in place of the recorded one.

    Raises:
        DataError: they are not there any more, or damaged.
        ExperimentError: the folder does not say where they are.
    """
    where = elsewhere or _recorded_place(run)
    if elsewhere is None and not where.is_dir():
        raise DataError(
            f"the data of this run are not at {where} any more; say where they are with --data DIR"
        )
    return load_dataset(where)


def _recorded_place(run: RunFolder) -> Path:
    """Where the data are: as recorded, or on the same way from the run, when both were moved."""
    record = _data_record(run)
    there, way = Path(record["path"]), Path(record["path_from_run"])
    tail = [part for part in way.parts if part != ".."]
    if there.is_dir() or not tail or tail != list(there.parts[-len(tail) :]):
        return there
    moved = run.path / way
    return moved.resolve() if moved.is_dir() else there


def _data_record(run: RunFolder) -> dict[str, str]:
    content = read_json(run.data)
    try:
        sha256 = content["manifest"]["interactions_sha256"]
        return {
            "path": str(content["path"]),
            "path_from_run": str(content.get("path_from_run", "")),
            "sha256": str(sha256),
        }
    except (LookupError, TypeError, AttributeError):
        raise ExperimentError(f"{run.data} does not hold the data's path and manifest") from None


def config_problems(run: RunFolder) -> list[str]:
    """Say whether the configuration is not the one that the run started with."""
    content = read_json(run.config)
    # over the names that the file has: parameters that came later do not count against it
    recorded, actual = content.get("config_hash"), hash_of(content)
    if recorded == actual:
        return []
    return [
        f"config.json was changed: its values hash to {actual[:12]}..., it recorded "
        f"{str(recorded)[:12]}..."
    ]


def data_problems(run: RunFolder, dataset: Dataset) -> list[str]:
    """Say whether data are not those that the run learnt from."""
    recorded, actual = _data_record(run)["sha256"], dataset.manifest["interactions_sha256"]
    if recorded == actual:
        return []
    return [
        f"the data at {dataset.path} are not those of the run: their hash is {actual[:12]}..., "
        f"data.json recorded {recorded[:12]}..."
    ]


def checkpoint_problems(run: RunFolder, results: dict[str, Any]) -> list[str]:
    """Say which checkpoints are not the files that the run wrote."""
    problems = []
    for path in (run.best, run.last):
        if not path.is_file():
            problems.append(f"{path.name} is missing")
        elif file_hash(path) != results["checkpoints"].get(path.name):
            problems.append(f"{path.name} is not the file that the run wrote: its hash differs")
    return problems
