"""How figures look: one theme, and what becomes of a picture on a page."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

# altair's own types do not follow its method chains
Figure = Any

# Each colour of the theme with its name in the page's style sheet, where dark mode changes it. The
# hues are those of Okabe and Ito, told apart by colour-blind readers, and darkened where 3:1
# against white asks for it.
PAPER, INK, MUTED, GRID = "#ffffff", "#1c2128", "#59636e", "#dfe3e8"
BLUE, VERMILLION, GREEN = "#0072b2", "#d55e00", "#00875f"
PURPLE, AMBER, GREY = "#b0568a", "#a87400", "#6e7781"
NAMES = {
    PAPER: "paper",
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    BLUE: "blue",
    VERMILLION: "vermillion",
    GREEN: "green",
    PURPLE: "purple",
    AMBER: "amber",
    GREY: "grey",
}
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, AMBER, GREY)
DASHES = ([1, 0], [6, 3], [2, 2])

# A figure of this width keeps its letters readable on a phone.
WIDTH, HEIGHT = 300, 190

_TEXT = {"labelColor": MUTED, "titleColor": MUTED, "labelFontSize": 11, "titleFontSize": 11}
THEME: dict[str, Any] = {
    "background": PAPER,
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "padding": 6,
    "view": {"stroke": None},
    "axis": {
        **_TEXT,
        "aria": False,
        "titleFontWeight": "normal",
        "gridColor": GRID,
        "domainColor": MUTED,
        "tickColor": MUTED,
        "labelLimit": 120,
        "titleLimit": 260,
        "titlePadding": 6,
        # a page's letters may be wider than those that figures are laid out with
        "labelOverlap": True,
        "labelSeparation": 8,
    },
    "axisY": {"domain": False, "ticks": False},
    "axisX": {"grid": False},
    "legend": {
        **_TEXT,
        "aria": False,
        "orient": "top",
        "offset": 4,
        "titleFontWeight": "normal",
        "labelLimit": 140,
        "columnPadding": 24,
    },
    "title": {
        "aria": False,
        "anchor": "start",
        "color": INK,
        "subtitleColor": MUTED,
        "fontSize": 12,
        "subtitleFontSize": 11,
    },
    "text": {"color": INK, "fontSize": 11},
    "line": {"strokeWidth": 2},
}

_SVG = "http://www.w3.org/2000/svg"
_COLOURED = ("fill", "stroke")
_PLACES = {"d", "transform", "x", "y", "x2", "y2", "width", "height"}


def specification(figure: Figure) -> dict[str, Any]:
    """Return what to draw, with the theme.

    What each mark says to a pointer is its `description`.
    """
    # our own figures need no validation, which takes as long as drawing them
    content: dict[str, Any] = figure.to_dict(validate=False)
    return content | {"config": THEME}


def for_page(svg: str, label: str) -> str:
    """Return a picture for a page: its style sheet has the colours, and marks have tips.

    Args:
        svg: of a picture in the light scheme.
        label: what the picture shows, for those who cannot see it.
    """
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        says = element.attrib.pop("aria-label", "")
        for name in [n for n in element.attrib if n.startswith("aria-") or n in ("role", "class")]:
            del element.attrib[name]
        for name in _COLOURED:
            if (colour := NAMES.get(element.get(name, "").lower())) is not None:
                element.set(name, f"var(--{colour})")
        element.attrib.pop("font-family", None)
        for name in _PLACES & element.attrib.keys():
            element.set(name, _rounded(element.attrib[name]))
        if says:
            ElementTree.SubElement(element, f"{{{_SVG}}}title").text = says
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", label)
    return ElementTree.tostring(root, encoding="unicode")


def natural_width(svg: str) -> int:
    """Return the width in pixels of a picture."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ', svg)
    assert found is not None
    return round(float(found[1]))


def _rounded(places: str) -> str:
    """Round coordinates to a hundredth: most of a picture's bytes are digits nobody sees."""
    return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", places)
