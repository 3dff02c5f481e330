"""Training from Python: what the command line's `train` does, and the run that it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gainakt.config import FILLED_BY_RUN, Config, load_config, overridden
from gainakt.data.interactions import Dataset, load_dataset
from gainakt.errors import ConfigError, DataError, GainaktError
from gainakt.experiment.console import RunConsole
from gainakt.experiment.groups import headline_figures
from gainakt.experiment.run import train as train_run
from gainakt.html import html_table
from gainakt.machine import machine_on_loan
from gainakt.record.checklist import Check, run_checks
from gainakt.record.folder import RunFolder, read_json
from gainakt.record.records import recorded_config
from gainakt.report.ending import draw_report
from gainakt.tracer import Tracer, load

if TYPE_CHECKING:
    import polars as pl

OUT = Path("experiments")


class Run:
    """A run's experiment folder, as Python objects; each is read when it is asked for.

    Args:
        run: an experiment folder, or the start of its name in experiments/.

    Raises:
        ExperimentError: there is no such folder, or more than one.
    """

    def __init__(self, run: str | Path) -> None:
        self._folder = RunFolder.find(run, OUT)

    @property
    def path(self) -> Path:
        """The experiment folder."""
        return self._folder.path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def results(self) -> dict[str, Any]:
        """results.json: status, best epoch, final metrics, timings."""
        return dict(read_json(self._folder.results))

    @property
    def config(self) -> Config:
        """The complete configuration."""
        return recorded_config(self._folder)

    @property
    def metrics(self) -> pl.DataFrame:
        """metrics_epoch.csv: one row an epoch; null where the model gives no such figure."""
        import polars as pl

        text = pl.DataFrame(self._folder.read_metrics())
        numbers = pl.exclude("epoch").replace("", None).cast(pl.Float64)
        return text.select(pl.col("epoch").cast(pl.Int64), numbers)

    @property
    def checks(self) -> list[Check]:
        """The outcome of the ten checks, performed now."""
        return run_checks(self._folder)

    def tracer(self) -> Tracer:
        """Return the trained model, ready to predict and explain: `gainakt.load(run)`."""
        return load(self)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the name, the headline figures, the checks."""
        return html_table(self.name, self._headline().items())

    def _headline(self) -> dict[str, str]:
        checks = self.checks
        passed = f"{sum(check.passed for check in checks)} of {len(checks)}"
        failed = {f"{c.mark} {c.title}": c.reason for c in checks if not c.passed}
        try:
            results = self.results
            figures = headline_figures(self._folder)
        except GainaktError as error:
            return {"status": str(error), "checks passed": passed}
        return {
            "status": results["status"],
            "best epoch": str(results["best_epoch"]),
            **{name: f"{value:.5f}" for name, value in figures.items() if value is not None},
            "checks passed": passed,
            **failed,
        }


def train(
    config: str | Path | Config | None = None,
    data: str | Path | Dataset | None = None,
    *,
    out: str | Path = OUT,
    report: bool = True,
    quiet: bool = False,
    **overrides: Any,
) -> Run:
    """Train a model and leave a complete experiment folder, as `gainakt train` does.

    Args:
        config: named configuration, JSON file or `Config`; None for the defaults.
        data: a folder that `gainakt prepare` or `gainakt simulate` made, or the data set loaded
            from it; None for simulated students.
        out: where experiment folders are made.
        report: draw report.html at the end.
        quiet: print no progress.
        overrides: parameters by name, on top of `config`: `epochs=2`.

    Raises:
        ConfigError, DataError, TrainingError, ExperimentError: what is wrong, and what is allowed.
        KeyboardInterrupt: it was interrupted; the run is saved and can be resumed.
    """
    for name in FILLED_BY_RUN & set(overrides):
        raise ConfigError(f"{name} is filled in by the run and cannot be set")
    settings = load_config(config, overrides)
    folder = _folder_of(data)
    with RunConsole(quiet) as console, machine_on_loan():
        result = train_run(
            settings,
            folder,
            Path(out),
            command=_call(config, folder, out, overrides),
            now=datetime.now(UTC),
            console=console,
        )
        if result.completed and report:
            draw_report(result.folder, console)
    if not result.completed:
        # the run has ended in good order, but the caller's next line is not meant to follow
        raise KeyboardInterrupt(f"go on with: gainakt resume {result.folder.shell_name}")
    return Run(result.folder.path)


def _folder_of(data: str | Path | Dataset | None) -> Path | None:
    """Return the prepared folder: a run records where its data lie, and reads them from there."""
    if not isinstance(data, Dataset):
        return None if data is None else Path(data)
    stored = load_dataset(data.path)
    differing = stored.differences(data)
    if differing:
        raise DataError(
            f"data set {data.name!r} is not what lies in {data.path}: its {differing[0]} differ; a "
            "run can be repeated only from data in a folder, which `gainakt prepare` makes"
        )
    return data.path


def _call(
    config: str | Path | Config | None,
    data: Path | None,
    out: str | Path,
    overrides: Mapping[str, Any],
) -> str:
    """Spell the call for the record, so that typed again it does the same."""
    if isinstance(config, Config):
        overrides = {**overridden(config), **overrides}
        config = None
    given: list[Any] = [config, data] if data is not None else [config] if config else []
    words = [repr(str(value) if isinstance(value, Path) else value) for value in given]
    words += [f"out={str(out)!r}"] * (Path(out) != OUT)
    words += [f"{name}={value!r}" for name, value in overrides.items()]
    return f"gainakt.train({', '.join(words)})"
