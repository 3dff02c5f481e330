"""The command line: thin verbs over the package. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from cyclopts import App, Parameter
from cyclopts.exceptions import CycloptsError
from rich.console import Console

from gainakt._version import __version__
from gainakt.cli import auditing, benchmarks, data, results, serving, training
from gainakt.cli.parameters import exactly, join_switches
from gainakt.errors import GainaktError
from gainakt.files import refuse_other_than_text
from gainakt.words import printable

app = App(
    name="gainakt",
    help="Knowledge tracing that anyone can reproduce with one command.",
    version=__version__,
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(converter=exactly),
)

# In the order in which help lists them.
for verb in (
    data.prepare,
    data.simulate,
    training.train,
    results.check,
    results.evaluate,
    auditing.audit,
    results.score,
    results.explain,
    training.resume,
    training.reproduce,
    results.compare,
    results.report,
    training.crossval,
    benchmarks.benchmark,
    benchmarks.leaderboard,
    serving.serve,
    serving.keys,
):
    app.command(verb)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0 only on success."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a mark that it cannot spell is no failure
            stream.reconfigure(errors="backslashreplace")
    try:
        for word in words:
            refuse_other_than_text(word)
        code = app(join_switches(words), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        complain(str(error))
        code = 2
    except GainaktError as error:
        complain(str(error))
        code = 1
    except KeyboardInterrupt:
        complain("stopped")
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    except OSError as error:
        complain(f"{error.filename or 'output'}: {error.strerror or error}")
        code = 1
    sys.exit(code or 0)


def complain(message: str) -> None:
    line = printable(f"gainakt: {message}")
    Console(stderr=True, soft_wrap=True).print(line, markup=False, highlight=False)
