"""The experiment folder: the only module that knows its file names."""

from __future__ import annotations

import csv
import errno
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainakt.config import Config, dump_config
from gainakt.errors import ExperimentError
from gainakt.files import write_atomically

METRIC_COLUMNS = (
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
)

TRAJECTORY_KEYS = (
    "epoch",
    "warmup_scale",
    "effective_alignment_weight",
    "batch",
    "global",
    "peak",
    "retention",
    "consistency_weight",
    "sparsity_weight",
    "events",
)

# Where the report of several runs goes, beside no single one of them.
COMPARISON_PAGE = "comparison.html"

RUNNING, INTERRUPTED, FAILED, COMPLETED = "running", "interrupted", "failed", "completed"


@dataclass(frozen=True)
class RunFolder:
    """One experiment's folder: where its files lie, and how they are read and written."""

    path: Path

    @classmethod
    def create(cls, out: Path, timestamp: str, model: str, short_title: str) -> RunFolder:
        """Make a new, empty folder `{timestamp}_{model}_{short_title}` under `out`.

        Raises:
            ExperimentError: it exists already, or cannot be made.
        """
        path = out / f"{timestamp}_{model}_{short_title}"
        try:
            if out.exists() and not out.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, f"{out} is a file, must be a folder")
            out.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except FileExistsError:
            raise ExperimentError(
                f"{path} exists already and is never overwritten; start again in a second or "
                "choose another short_title"
            ) from None
        except OSError as error:
            raise ExperimentError(f"cannot make {path}: {error.strerror or error}") from None
        return cls(path.resolve())

    @classmethod
    def find(cls, run: str | Path, root: Path = Path("experiments")) -> RunFolder:
        """Return the folder that `run` names: a path, or a unique prefix of a folder under `root`.

        Raises:
            ExperimentError: there is none, or more than one.
        """
        if Path(run).is_dir():
            return cls(Path(run).resolve())
        inside = list(root.iterdir()) if root.is_dir() else []
        found = sorted(p for p in inside if p.is_dir() and str(run) and p.name.startswith(str(run)))
        if len(found) == 1:
            return cls(found[0].resolve())
        if found:
            names = ", ".join(p.name for p in found)
            raise ExperimentError(f"{run!r} is the start of several runs: {names}; give more of it")
        raise ExperimentError(
            f"no experiment folder {str(run)!r}; give its path, or the start of its name in {root}/"
        )

    def remove(self) -> None:
        """Remove the folder and what is in it: for one that never became a run."""
        shutil.rmtree(self.path, ignore_errors=True)

    @property
    def config(self) -> Path:
        """config.json: every parameter."""
        return self.path / "config.json"

    @property
    def script(self) -> Path:
        """run.sh: the full commands."""
        return self.path / "run.sh"

    @property
    def best(self) -> Path:
        """Weights of the epoch with the best validation AUC."""
        return self.path / "model_best.safetensors"

    @property
    def last(self) -> Path:
        """Weights after the last epoch."""
        return self.path / "model_last.safetensors"

    @property
    def state(self) -> Path:
        """What resuming needs besides."""
        return self.path / "state_last.pt"

    @property
    def metrics(self) -> Path:
        """metrics_epoch.csv: one row an epoch."""
        return self.path / "metrics_epoch.csv"

    @property
    def log(self) -> Path:
        """stdout.log: the raw console output."""
        return self.path / "stdout.log"

    @property
    def environment(self) -> Path:
        """environment.json: versions, machine, git."""
        return self.path / "environment.json"

    @property
    def seeds(self) -> Path:
        """SEEDS.md: every seed and what it seeds."""
        return self.path / "SEEDS.md"

    @property
    def trajectory(self) -> Path:
        """trajectory.json: schedules, correlations and events by epoch."""
        return self.path / "trajectory.json"

    @property
    def results(self) -> Path:
        """results.json: status, best epoch, final metrics, timings."""
        return self.path / "results.json"

    @property
    def data(self) -> Path:
        """data.json: where the data lay, with their manifest and hash."""
        return self.path / "data.json"

    @property
    def comparison(self) -> Path:
        """comparison.json: of a repeated run with its original."""
        return self.path / "comparison.json"

    def teacher(self, number: int) -> Path:
        """Predictions of the training answers by teacher `number`, from 1."""
        return self.path / f"teacher_{number}.npy"

    @property
    def readme(self) -> Path:
        """README.md: for a reader."""
        return self.path / "README.md"

    @property
    def report(self) -> Path:
        """report.html: the run on one page; its figures and their numbers lie in report/ beside."""
        return self.path / "report.html"

    def evaluation(self, split: str) -> Path:
        """Metrics of an evaluated split; `test_on_NAME` where the data are not the run's own."""
        return self.path / f"evaluation_{split}.json"

    def predictions(self, split: str) -> Path:
        """Every prediction of an evaluated split, named as its metrics are."""
        return self.path / f"predictions_{split}.parquet"

    def interpretability(self, split: str) -> Path:
        """Measures of interpretability on a split."""
        return self.path / f"interpretability_{split}.json"

    def write_config(self, config: Config) -> None:
        """Write config.json."""
        write_json(self.config, dump_config(config))

    def write_script(self, text: str) -> None:
        """Write run.sh, executable."""
        write_atomically(self.script, text.encode())
        self.script.chmod(0o755)

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write metrics_epoch.csv; values in full precision, empty where there is none."""
        extra = [name for name in (rows[0] if rows else {}) if name not in METRIC_COLUMNS]
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, [*METRIC_COLUMNS, *extra], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.metrics, buffer.getvalue().encode())

    def read_metrics(self) -> list[dict[str, str]]:
        """Read metrics_epoch.csv.

        Raises:
            ExperimentError: the file is missing or not a CSV of the expected columns.
        """
        reader = csv.DictReader(read_text(self.metrics).splitlines())
        missing = [name for name in METRIC_COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ExperimentError(f"{self.metrics.name} lacks the column {missing[0]}")
        return list(reader)


def figures_beside(page: Path) -> Path:
    """Return the folder of a page's figures: `report/` for `report.html`."""
    return page.with_suffix("")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, readable by people; NaN has no place in it."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, (text + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ExperimentError: the file is missing or not JSON.
    """
    try:
        return json.loads(_reading(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExperimentError(f"{path.name} cannot be read as JSON: {error}") from None


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        ExperimentError: the file is missing or not text.
    """
    try:
        return _reading(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ExperimentError(f"{path.name} cannot be read: {error}") from None


def _reading(path: Path) -> Path:
    if not path.is_file():
        raise ExperimentError(f"{path.name} is missing")
    return path
