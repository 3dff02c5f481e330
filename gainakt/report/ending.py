"""The report that a training ends with."""

from __future__ import annotations

from contextlib import suppress

from gainakt.errors import GainaktError
from gainakt.experiment.console import RunConsole
from gainakt.record.folder import RunFolder


def draw_report(folder: RunFolder, console: RunConsole) -> None:
    """Draw a finished run; whatever goes wrong with a picture, the run is whole and stays so."""
    with suppress(GainaktError):  # of the log, when the disk is full
        try:
            from gainakt.report.page import write_report

            console.say(f"report: {write_report(folder)}")
        except Exception as error:
            console.say(f"no report ({error}); once mended: gainakt report {folder.shell_name}")
