"""Figures become pictures, in a process of its own: one that cannot be drawn takes nothing along.

The library that draws runs a JavaScript engine, which ends its process where memory is short or a
text is more than it can take.
"""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PNG_SCALE = 2.5


@dataclass(frozen=True)
class Picture:
    """A figure drawn in the light scheme: as SVG, a file of its own, and as PNG."""

    svg: str
    png: bytes


@dataclass(frozen=True)
class NotDrawn:
    """Why a figure could not be drawn."""

    reason: str


def draw(specifications: Sequence[dict[str, Any]]) -> list[Picture | NotDrawn]:
    """Draw figures, each whole or not at all.

    Args:
        specifications: of Vega-Lite, their theme included.
    """
    drawn: list[Picture | NotDrawn] = []
    while len(drawn) < len(specifications):
        waiting = json.dumps(list(specifications[len(drawn) :])).encode()
        artist = subprocess.run(
            [sys.executable, "-P", __file__], input=waiting, capture_output=True, check=False
        )
        lines = artist.stdout.split(b"\n")[:-1]  # what was cut off is no line
        drawn += map(_picture, lines)
        if len(drawn) < len(specifications):
            drawn.append(NotDrawn(_why(artist.returncode, artist.stderr)))
    return drawn


def _picture(line: bytes) -> Picture | NotDrawn:
    answer = json.loads(line)
    if "reason" in answer:
        return NotDrawn(answer["reason"])
    return Picture(answer["svg"], base64.b64decode(answer["png"]))


def _why(code: int, said: bytes) -> str:
    if code < 0:
        return f"the drawing process was ended by {signal.Signals(-code).name}"
    last = said.decode(errors="replace").strip().rpartition("\n")[2]
    return last or f"the drawing process ended with exit code {code}"


def _work() -> None:
    """Draw what comes in on standard input, and hand each picture on as soon as it is there."""
    import vl_convert

    for specification in json.load(sys.stdin):
        answer: dict[str, str]
        try:
            svg = str(vl_convert.vegalite_to_svg(specification))
            png = bytes(vl_convert.svg_to_png(svg, scale=PNG_SCALE))
            answer = {"svg": svg, "png": base64.b64encode(png).decode()}
        except ValueError as error:
            answer = {"reason": (str(error).splitlines() or ["unknown reason"])[0]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _work()
