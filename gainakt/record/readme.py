"""The README of an experiment folder."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gainakt.config import FILLED_BY_RUN, GROUPS, Config, dump_config
from gainakt.files import write_atomically
from gainakt.record.checklist import Check
from gainakt.record.commands import EVALUATE, REPRODUCE
from gainakt.record.folder import RunFolder


def write_readme(
    folder: RunFolder, config: Config, results: dict[str, Any], checks: list[Check]
) -> None:
    """Write README.md from the run's configuration, results and the outcome of its checks."""
    # the output is Markdown for people, built from our own values: nothing to escape
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    text = environment.get_template("readme.md.jinja").render(
        config=config,
        dumped=dump_config(config),
        groups=list(GROUPS),
        filled=FILLED_BY_RUN,
        evaluate=EVALUATE,
        reproduce=REPRODUCE,
        results=results,
        consistency=results.get("consistency"),
        checks=checks,
        failed=any(not check.passed for check in checks),
        spell=_spell,
        plain=plain,
        number=_number,
        correlation=partial(_correlation, results.get("consistency")),
        interval=_interval,
    )
    write_atomically(folder.readme, text.encode())


def _spell(value: object) -> str:
    """Spell a value in a cell of a table."""
    return plain(json.dumps(value, ensure_ascii=False)).replace("|", "\\|")


def plain(text: str) -> str:
    """Return text that is but text in Markdown: none of it is taken for HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _number(value: float | None) -> str:
    return "not given by this model" if value is None else f"{value:.5f}"


UNDEFINED = "undefined: no student's answers and values both vary over three steps in a piece"
# What says that a series was measured, where its correlation has no value.
_MEASURED = {
    "mastery": "monotonicity_violation_rate",
    "gain": "negative_gain_rate",
    "clock": "students",
}


def _correlation(consistency: dict[str, Any] | None, value: float | None, of: str) -> str:
    """Tell a correlation that no student has from one of what the model does not give."""
    if value is None and consistency is not None and consistency.get(_MEASURED[of]) is not None:
        return UNDEFINED
    return _number(value)


def _interval(value: tuple[float, float] | None) -> str:
    return "" if value is None else f"{value[0]:.5f} to {value[1]:.5f}"
