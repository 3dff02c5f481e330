"""Optional tracking elsewhere; the experiment folder stays the truth.

A tracker is a function that starts one for a run, and a line in the registry. Its library is
imported only when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from gainakt.config import Config, flatten
from gainakt.errors import ConfigError
from gainakt.files import one_after_another

Outcome = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker(Protocol):
    """Receives an epoch's metrics, by name."""

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record the numbers of one epoch."""

    def close(self, outcome: Outcome) -> None:
        """Finish the record, saying how the run ended."""


class MLflowTracker:
    """Logs to a local MLflow database beside the experiment folders.

    It has a client and a run of its own: what the user tracks in the same process stays as it is.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        mlflow = _import("mlflow", "use_mlflow")
        # the first to come makes the tables; others wait for it
        with one_after_another(folder.parent):
            uri = f"sqlite:///{folder.parent / 'mlflow.db'}?timeout=60"
            self._client = mlflow.MlflowClient(tracking_uri=uri)
            name = config.data.dataset
            experiment = self._client.get_experiment_by_name(name)
            number = (
                self._client.create_experiment(name)
                if experiment is None
                else experiment.experiment_id
            )
        self._run = self._client.create_run(number, run_name=config.experiment.id).info.run_id
        for parameter, value in flatten(config).items():
            self._client.log_param(self._run, parameter, str(value)[:500])

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record the numbers of one epoch."""
        for name, value in metrics.items():
            self._client.log_metric(self._run, name, value, step=epoch)

    def close(self, outcome: Outcome) -> None:
        """Finish the MLflow run."""
        self._client.set_terminated(self._run, outcome)


class WandbTracker:
    """Logs to Weights & Biases offline, inside the experiment folder, as a run of its own."""

    def __init__(self, config: Config, folder: Path) -> None:
        wandb = _import("wandb", "use_wandb")
        self._run = wandb.init(
            project="gainakt",
            name=config.experiment.id,
            dir=str(folder),
            mode="offline",
            # a run that the user has opened goes on beside it
            reinit="create_new",
            config=config.model_dump(mode="json"),
            settings=wandb.Settings(silent=True, console="off"),
        )

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record the numbers of one epoch."""
        self._run.log(dict(metrics), step=epoch)

    def close(self, outcome: Outcome) -> None:
        """Finish the offline run."""
        self._run.finish(exit_code=0 if outcome == "FINISHED" else 1)


# By the flag in group runtime that turns it on.
TRACKERS: dict[str, Callable[[Config, Path], Tracker]] = {
    "use_wandb": WandbTracker,
    "use_mlflow": MLflowTracker,
}


class Tracking:
    """The trackers of one run; trouble with one of them is said and never stops training.

    Args:
        config: of the run.
        folder: its experiment folder.
        say: told in a line what went wrong.
    """

    def __init__(self, config: Config, folder: Path, say: Callable[[str], None]) -> None:
        self.outcome: Outcome = "FAILED"
        self._say = say
        self._active: dict[str, Tracker] = {}
        for flag, start in TRACKERS.items():
            if getattr(config.runtime, flag):
                self._try(flag, partial(self._open, flag, start, config, folder))

    def _open(
        self, flag: str, start: Callable[[Config, Path], Tracker], config: Config, folder: Path
    ) -> None:
        self._active[flag] = start(config, folder)

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Log an epoch's row to each tracker."""
        numbers = {k: float(v) for k, v in row.items() if v is not None}
        for flag, tracker in list(self._active.items()):
            self._try(flag, partial(tracker.log, int(row["epoch"]), numbers))

    def close(self) -> None:
        """Finish every record with the outcome."""
        for flag, tracker in list(self._active.items()):
            self._try(flag, partial(tracker.close, self.outcome))

    def _try(self, flag: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever another's library comes up with
            self._active.pop(flag, None)
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self._say(f"{flag}: not tracked any further ({reason[:200]}); training goes on")


@contextmanager
def trackers(
    config: Config, folder: Path, say: Callable[[str], None] = print
) -> Iterator[Tracking]:
    """Open the trackers that are asked for; what is yielded logs an epoch's row to each.

    Its `outcome` is told to them at the end: whoever trains to the end sets it.
    """
    tracking = Tracking(config, folder, say)
    try:
        yield tracking
    except KeyboardInterrupt:
        tracking.outcome = "KILLED"
        raise
    finally:
        tracking.close()


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
