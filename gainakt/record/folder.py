"""The experiment folder: the only module that knows its file names."""

from __future__ import annotations

import csv
import errno
import io
import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainakt.config import Config, dump_config
from gainakt.errors import ExperimentError
from gainakt.files import file_hash, refuse_other_than_text, write_atomically

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

# So many runs of one name may start in one second.
MOST_AT_ONCE = 1000
RUNNING, INTERRUPTED, FAILED, COMPLETED = "running", "interrupted", "failed", "completed"


@dataclass(frozen=True)
class RunFolder:
    """One experiment's folder: where its files lie, and how they are read and written."""

    path: Path

    @classmethod
    def create(cls, out: Path, timestamp: str, model: str, short_title: str) -> RunFolder:
        """Make a new, empty folder `{timestamp}_{model}_{short_title}` under `out`.

        A number behind the name tells runs of one second apart.

        Raises:
            ExperimentError: it cannot be made.
        """
        name = f"{timestamp}_{model}_{short_title}"
        refuse_other_than_text(str(out.resolve()))
        try:
            if out.exists() and not out.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, f"{out} is a file, must be a folder")
            out.mkdir(parents=True, exist_ok=True)
            for number in range(1, MOST_AT_ONCE):
                # runs that start in the same second are told apart by a number
                path = out / (name if number == 1 else f"{name}-{number}")
                with suppress(FileExistsError):
                    path.mkdir()
                    return cls(path.resolve())
        except OSError as error:
            raise ExperimentError(f"cannot make {out / name}: {error.strerror or error}") from None
        raise ExperimentError(f"{out / name} exists already; choose another short_title")

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

    @property
    def shell_name(self) -> str:
        """The folder as a word for a shell that stands where this process does."""
        here = Path.cwd()
        inside = self.path.is_relative_to(here)
        return shlex.quote(str(self.path.relative_to(here) if inside else self.path))

    def is_completed(self) -> bool:
        """Whether training reached its end; what is not finished counts for nothing in a group."""
        return self.results.is_file() and read_json(self.results).get("status") == COMPLETED

    def sweep(self) -> None:
        """Remove what writers that were killed left; for whoever holds the folder alone."""
        for path in self.path.glob("*.writing"):
            path.unlink(missing_ok=True)

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

    @property
    def audit(self) -> Path:
        """audit.json: what `gainakt audit` found."""
        return self.path / "audit.json"

    def stamp(self, data_sha256: str) -> dict[str, str]:
        """Return what a file that is derived from the best checkpoint keeps, to be known as such.

        Args:
            data_sha256: hash of the data set that was read.
        """
        return {"checkpoint": file_hash(self.best), "data": data_sha256}

    def stale(self, path: Path) -> str | None:
        """Say why a derived JSON file does not belong to the best checkpoint; None where it does.

        Files of the first version have no stamp; there the epoch must agree.
        """
        content = read_json(path)
        if not isinstance(content, dict):
            return f"{path.name} is damaged: it holds no JSON object"
        made = content.get("of")
        if isinstance(made, dict):
            if made.get("checkpoint") == file_hash(self.best):
                return None
        elif content.get("epoch") in (None, self._best_epoch()):
            return None
        return f"{path.name} was made from another checkpoint than {self.best.name}"

    def _best_epoch(self) -> object:
        results = read_json(self.results)
        return results.get("best_epoch") if isinstance(results, dict) else None

    def current(self, path: Path) -> dict[str, Any] | None:
        """Return a derived JSON file's content; None where it is missing or stale."""
        if not path.is_file() or not self.best.is_file() or self.stale(path):
            return None
        content: dict[str, Any] = read_json(path)
        return content

    def current_predictions(self, split: str) -> Path | None:
        """Return the predictions of a split; None where they are missing, stale or not its own."""
        path, metrics = self.predictions(split), self.current(self.evaluation(split))
        if metrics is None or not path.is_file():
            return None
        known = metrics.get("predictions_sha256")
        return path if known is None or known == file_hash(path) else None

    def stale_files(self) -> list[str]:
        """Say which derived files do not belong to the best checkpoint."""
        if not self.best.is_file():
            return []
        names = ("evaluation_*.json", "interpretability_*.json")
        paths = sorted(path for name in names for path in self.path.glob(name))
        return [reason for path in paths if (reason := self.stale(path))]

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
    except (OSError, ValueError, RecursionError) as error:
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
