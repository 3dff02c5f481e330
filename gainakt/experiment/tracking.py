"""Optional tracking elsewhere; the experiment folder stays the truth.

A tracker is a function that starts one for a run, and a line in the registry. Its library is
imported only when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from gainakt.config import Config, flatten
from gainakt.errors import ConfigError


class Tracker(Protocol):
    """Receives an epoch's metrics, by name."""

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record the numbers of one epoch."""

    def close(self) -> None:
        """Finish the record."""


class MLflowTracker:
    """Logs to a local MLflow database beside the experiment folders."""

    def __init__(self, config: Config, folder: Path) -> None:
        mlflow = _import("mlflow", "use_mlflow")
        mlflow.set_tracking_uri(f"sqlite:///{folder.parent / 'mlflow.db'}")
        mlflow.set_experiment(config.data.dataset)
        self._mlflow = mlflow
        self._run = mlflow.start_run(run_name=config.experiment.id)
        mlflow.log_params({k: str(v)[:500] for k, v in flatten(config).items()})

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record the numbers of one epoch."""
        self._mlflow.log_metrics(dict(metrics), step=epoch)

    def close(self) -> None:
        """Finish the MLflow run."""
        self._mlflow.end_run()


class WandbTracker:
    """Logs to Weights & Biases in offline mode, inside the experiment folder."""

    def __init__(self, config: Config, folder: Path) -> None:
        wandb = _import("wandb", "use_wandb")
        self._run = wandb.init(
            project="gainakt",
            name=config.experiment.id,
            dir=str(folder),
            mode="offline",
            config=config.model_dump(mode="json"),
            settings=wandb.Settings(silent=True, console="off"),
        )

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record the numbers of one epoch."""
        self._run.log(dict(metrics), step=epoch)

    def close(self) -> None:
        """Finish the offline run."""
        self._run.finish()


# By the flag in group runtime that turns it on.
TRACKERS: dict[str, Callable[[Config, Path], Tracker]] = {
    "use_wandb": WandbTracker,
    "use_mlflow": MLflowTracker,
}


@contextmanager
def trackers(config: Config, folder: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Open the trackers that are asked for; yield a function that logs an epoch's row to each."""
    with ExitStack() as stack:
        active = []
        for flag, start in TRACKERS.items():
            if getattr(config.runtime, flag):
                tracker = start(config, folder)
                stack.callback(tracker.close)
                active.append(tracker)

        def log(row: Mapping[str, Any]) -> None:
            numbers = {k: float(v) for k, v in row.items() if v is not None}
            for tracker in active:
                tracker.log(int(row["epoch"]), numbers)

        yield log


def check_trackers(config: Config) -> None:
    """Fail before a run begins when a tracker that it asks for is not installed.

    Raises:
        ConfigError: names what to install.
    """
    for flag, module in (("use_wandb", "wandb"), ("use_mlflow", "mlflow")):
        if getattr(config.runtime, flag):
            _import(module, flag)


def _import(module: str, flag: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f"runtime.{flag} = true needs {module}; install it with: pip install 'gainakt[track]'"
        ) from None
