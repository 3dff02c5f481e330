"""What a run says while it works: to the terminal's stderr, and word for word to stdout.log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from gainakt.errors import ExperimentError
from gainakt.words import printable

try:
    import fcntl
except ImportError:  # Windows has no such locks; a run is not guarded there
    fcntl = None  # type: ignore[assignment]


class RunConsole:
    """Prints lines and a live bar of batches; every line also goes to the run's log.

    Args:
        quiet: print nothing to the terminal; the log is written all the same.
        clock: seconds, for the time left.
    """

    def __init__(self, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._clock = clock
        self._log: TextIO | None = None
        self._before_log: list[str] = []
        self._bar: Progress | None = None
        self._began = 0.0
        self._done_before = 0
        self._deaf = False

    def __enter__(self) -> RunConsole:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end_bar()
        if self._log is not None:
            # what a full disk did not take was reported when it was written
            with suppress(OSError):
                self._log.close()
            self._log = None

    def log_to(self, path: Path) -> None:
        """Append to this log from now on, beginning with what was already said.

        Raises:
            ExperimentError: another process still writes this run, or the disk refuses.
        """
        with _writing(path):
            self._log = path.open("a", encoding="utf-8", buffering=1)
            _hold(self._log)
            for line in self._before_log:
                self._log.write(printable(line) + "\n")
        self._before_log.clear()

    def say(self, line: str = "") -> None:
        """Print a line and log it."""
        self._write(line)
        self._print(line)

    def note(self, line: str) -> None:
        """Log a line without printing it."""
        self._write(line)

    def start(self, done: int, total: int) -> None:
        """Begin to count optimiser steps, `done` of `total` behind us."""
        self._began, self._done_before = self._clock(), done
        if self._console.is_terminal and not self._console.quiet:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total} batches"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("training", total=total, completed=done)

    def step(self, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None:
        """Report an optimiser step: `step` of `steps` in `epoch` of `epochs`."""
        done = (epoch - 1) * steps + step
        left = (epochs * steps - done) * (self._clock() - self._began)
        left /= max(done - self._done_before, 1)
        line = (
            f"epoch {epoch}/{epochs}  batch {step}/{steps}  loss {loss:.4f}  "
            f"about {duration(left)} left"
        )
        self._write(line)
        if self._bar is None:
            self._print(line)
        else:
            self._bar.update(
                self._task,
                completed=done,
                description=f"epoch {epoch}/{epochs}  loss {loss:.4f}",
            )

    def end_bar(self) -> None:
        """Take the live bar off the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _print(self, line: str) -> None:
        """Print a line, as long as somebody reads; training does not end with its audience."""
        if self._deaf:
            return
        try:
            self._console.print(printable(line), markup=False)
        # rich leaves the program where a pipe is closed
        except (OSError, ValueError, SystemExit):
            self._deaf = True
            self._bar = None

    def _write(self, line: str) -> None:
        if self._log is None:
            self._before_log.append(line)
        else:
            with _writing(Path(self._log.name)):
                self._log.write(printable(line) + "\n")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExperimentError(f"cannot write {path}: {error.strerror or error}") from None


def _hold(log: TextIO) -> None:
    """Hold a run's log for this process alone; the hold ends with the process, however it ends."""
    if fcntl is None:
        return
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ExperimentError(
            f"{Path(log.name).parent.name} is still being trained by another process; "
            "wait for its end or stop it"
        ) from None
    except OSError:  # a file system without locks: training goes on without
        return


def duration(seconds: float) -> str:
    """Spell a duration for people: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
