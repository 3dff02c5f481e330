"""Draw the figures of the documentation: python docs/figures/draw.py writes them beside this file.

Colours are variables with a light and a dark value, so a figure can be read on both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
WIDTH = 720

STYLE = """\
svg.figure { --ink: #1f2328; --soft: #59636e; --line: #818b98; --panel: #f3f5f8;
  --for: #2166ac; --for-panel: #dbe9f6; --against: #b2182b; --against-panel: #fbe3e1; }
@media (prefers-color-scheme: dark) { svg.figure { --ink: #e8ebf0; --soft: #a9b2bd;
  --line: #7d8794; --panel: #2a2f39; --for: #7db5ea; --for-panel: #1f3a57;
  --against: #f08c84; --against-panel: #54272a; } }
svg.figure text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: var(--ink); }
svg.figure text.soft { fill: var(--soft); font-size: 12px; }
svg.figure text.strong { font-weight: 600; }
svg.figure text.for { fill: var(--for); }
svg.figure text.against { fill: var(--against); }
svg.figure .panel { fill: var(--panel); stroke: var(--line); }
svg.figure .for-panel { fill: var(--for-panel); stroke: var(--for); }
svg.figure .against-panel { fill: var(--against-panel); stroke: var(--against); }
svg.figure .empty { fill: none; stroke: var(--line); stroke-dasharray: 3 3; }
svg.figure .for-bar { fill: var(--for); }
svg.figure .against-bar { fill: var(--against); }
svg.figure .soft-bar { fill: var(--line); }
svg.figure path { fill: none; stroke: var(--line); stroke-width: 1.5; }
svg.figure path.for { stroke: var(--for); stroke-width: 2; }
svg.figure path.against { stroke: var(--against); stroke-width: 2; }
svg.figure path.dashed { stroke-dasharray: 3 3; stroke-width: 1; }
svg.figure path.head { fill: var(--line); stroke: none; }
"""


class Drawing:
    """Shapes on a canvas of `WIDTH` by `height` pixels."""

    def __init__(self, height: int) -> None:
        self.height = height
        self.parts: list[str] = []

    def text(self, x: float, y: float, words: str, look: str = "", anchor: str = "middle") -> None:
        """Words with their baseline at `y`."""
        kind = f' class="{look}"' if look else ""
        place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
        self.parts.append(f"<text {place}{kind}>{escape(words)}</text>")

    def box(
        self, x: float, y: float, width: float, height: float, *lines: str, look: str = "panel"
    ) -> None:
        """A rounded box with lines of text in its middle; the first is strong if there are more."""
        self.bar(x, y, width, height, look, round_by=6)
        first = y + height / 2 + 4.5 - 9 * (len(lines) - 1)
        for index, line in enumerate(lines):
            strong = "strong" if index == 0 and len(lines) > 1 else ""
            self.text(x + width / 2, first + 18 * index, line, strong or ("soft" * (index > 0)))

    def bar(
        self, x: float, y: float, width: float, height: float, look: str, round_by: float = 0
    ) -> None:
        """A plain rectangle."""
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round_by:g}"'
        self.parts.append(f'<rect {place} class="{look}"/>')

    def line(self, *points: tuple[float, float], look: str = "") -> None:
        """A line through points."""
        way = " L".join(f"{x:g} {y:g}" for x, y in points)
        kind = f' class="{look}"' if look else ""
        self.parts.append(f'<path d="M{way}"{kind}/>')

    def arrow(self, *points: tuple[float, float]) -> None:
        """A line through points with a head at its end."""
        (x0, y0), (x, y) = points[-2:]
        angle = math.atan2(y - y0, x - x0)
        self.line(*points[:-1], (x - 5 * math.cos(angle), y - 5 * math.sin(angle)))
        wings = [
            (x - 8 * math.cos(angle + turn), y - 8 * math.sin(angle + turn))
            for turn in (0.45, -0.45)
        ]
        corners = " L".join(f"{a:.1f} {b:.1f}" for a, b in [(x, y), *wings])
        self.parts.append(f'<path d="M{corners} Z" class="head"/>')

    def svg(self) -> str:
        """The file."""
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" '
            f'class="figure">\n<style>\n{STYLE}</style>\n{body}\n</svg>\n'
        )


def flow() -> Drawing:
    """From raw files to a folder that can be asked."""
    d = Drawing(214)
    d.box(10, 20, 160, 56, "Raw answers", "CSV, Parquet, pyKT, ...")
    d.box(10, 138, 160, 56, "Simulated students", "mastery is known")
    d.box(238, 79, 150, 56, "Prepared data", "one table, a manifest")
    d.box(456, 79, 160, 56, "Experiment folder", "weights, records", look="for-panel")
    d.arrow((170, 48), (204, 48), (204, 100), (238, 100))
    d.text(204, 40, "prepare", "soft")
    d.arrow((170, 166), (204, 166), (204, 114), (238, 114))
    d.text(204, 184, "simulate", "soft")
    d.arrow((388, 107), (456, 107))
    d.text(422, 99, "train", "soft")
    for y, verb in zip((24, 52, 80, 134, 162, 190), VERBS_OF_A_RUN, strict=True):
        d.line((616, 107), (630, 107), (630, y), (644, y))
        d.text(650, y + 4.5, verb, "soft", "start")
    return d


VERBS_OF_A_RUN = ("check", "evaluate", "explain", "report", "compare", "reproduce")


def shift() -> Drawing:
    """Which answer each step has to predict, and which steps count."""
    d = Drawing(330)
    steps = (("fractions", 1), ("fractions", 0), ("ratios", 1), ("ratios", 1), ("fractions", 1))
    shorter = (("ratios", 0), ("ratios", 1), ("fractions", 1), None, None)
    for column in range(5):
        d.text(178 + 116 * column, 20, f"step {column + 1}", "soft")
    _sequence(d, 34, "student A", steps)
    _sequence(d, 190, "student B", shorter)
    return d


def _sequence(d: Drawing, top: float, name: str, steps: Sequence[tuple[str, int] | None]) -> None:
    d.text(10, top + 25, name, "strong", "start")
    d.text(10, top + 72, "has to predict", "soft", "start")
    d.text(10, top + 112, "counts", "soft", "start")
    last = sum(step is not None for step in steps) - 1
    for column, step in enumerate(steps):
        x = 122 + 116 * column
        if step is None:
            d.box(x, top, 112, 40, "padding", look="empty")
        else:
            skill, right = step
            look = "for-panel" if right else "against-panel"
            d.box(x, top, 112, 40, f"{skill} {'right' if right else 'wrong'}", look=look)
        following = steps[column + 1] if column < last else None
        if following is not None:
            d.text(x + 56, top + 72, "right" if following[1] else "wrong", _look(following[1]))
            d.arrow((x + 114, top + 44), (x + 114, top + 56), (x + 82, top + 66))
            d.text(x + 56, top + 112, "yes")
        else:
            d.text(x + 56, top + 72, "nothing", "soft")
            d.text(x + 56, top + 112, "no", "soft")


def _look(right: int) -> str:
    return "for" if right else "against"


def gainakt2exp() -> Drawing:
    """Two streams, one attention, three heads."""
    d = Drawing(610)
    for index, (label, right) in enumerate(
        (("fractions right", 1), ("fractions wrong", 0), ("ratios right", 1))
    ):
        look = "for-panel" if right else "against-panel"
        d.box(120 + 125 * index, 10, 115, 30, label, look=look)
    d.text(10, 30, "answers", "soft", "start")
    d.arrow((302, 40), (302, 66))
    d.box(120, 66, 365, 30, "token x = q + K r: one of 2K")
    d.arrow((190, 96), (190, 126))
    d.arrow((415, 96), (415, 126))
    d.text(303, 117, "+ position", "soft")
    d.box(105, 126, 170, 46, "Context stream", "where are we?")
    d.box(330, 126, 170, 46, "Value stream", "what was learnt there?", look="for-panel")

    d.bar(40, 178, 525, 224, "empty", round_by=8)
    d.text(576, 215, "num_encoder_blocks", "soft", "start")
    d.text(576, 232, "times", "soft", "start")
    d.arrow((190, 172), (190, 214))
    d.arrow((415, 172), (415, 214))
    d.box(
        105,
        214,
        395,
        46,
        "Attention, backwards only",
        "queries, keys: context; values: value stream",
    )
    d.arrow((190, 260), (190, 288))
    d.arrow((415, 260), (415, 288))
    d.text(200, 279, "a", "soft", "start")
    d.text(425, 279, "a", "soft", "start")
    d.box(105, 288, 170, 30, "u = LN(context + a)")
    d.box(330, 288, 170, 30, "LN(value + a)", look="for-panel")
    d.arrow((190, 318), (190, 346))
    d.box(105, 346, 170, 46, "Feed-forward", "LN(u + FFN(u))")
    # what flows past the attention
    d.line((190, 186), (76, 186), (76, 303))
    d.arrow((76, 303), (105, 303))
    d.line((415, 186), (529, 186), (529, 303))
    d.arrow((529, 303), (500, 303))

    d.arrow((140, 392), (140, 456))
    d.line((415, 318), (415, 430))
    d.arrow((415, 430), (415, 456))
    d.line((415, 430), (195, 430))
    d.arrow((195, 430), (195, 456))
    d.box(
        40,
        456,
        230,
        64,
        "Prediction",
        "context, value, skill asked next:",
        "log-odds of a right answer",
    )
    d.box(
        330,
        456,
        170,
        64,
        "Gains, one a skill",
        "g = relu(W value),",
        "never negative",
        look="for-panel",
    )
    d.arrow((415, 520), (415, 546))
    d.box(325, 546, 180, 54, "Mastery, one a skill", "m = m + 0.1 g, at most 1", look="for-panel")
    d.arrow((240, 392), (240, 412), (290, 412), (290, 573), (325, 573))
    d.text(282, 566, "the first context", "soft", "end")
    d.text(282, 582, "gives the start", "soft", "end")
    d.text(520, 486, "gains and mastery stand", "soft", "start")
    d.text(520, 503, "beside the prediction", "soft", "start")
    d.text(520, 520, "and do not feed it", "soft", "start")
    return d


def mastery() -> Drawing:
    """How mastery of one skill sums a tenth of the gains."""
    d = Drawing(250)
    start, gains = 0.35, (0.0, 1.2, 0.3, 0.0, 2.1, 0.6)
    left, wide, base, high = 90, 95, 150, 120

    def level(m: float) -> float:
        return base - high * m

    for m in (0.0, 0.5, 1.0):
        d.text(left - 12, level(m) + 4.5, f"{m:g}", "soft", "end")
        d.line((left, level(m)), (left + wide * 6, level(m)), look="dashed")
    d.text(10, level(0.5) - 24, "mastery", "strong", "start")
    m, points = start, [(left, level(start))]
    for step, gain in enumerate(gains):
        x = left + wide * step
        m = min(1.0, m + 0.1 * gain)
        points += [(x, level(m)), (x + wide, level(m))]
        d.text(x + wide / 2, level(m) - 8, f"{m:.2f}", "for")
        if gain:
            d.bar(x + wide / 2 - 14, 230 - 20 * gain, 28, 20 * gain, "soft-bar")
            d.text(x + wide / 2 + 20, 228, f"{gain:g}", "soft", "start")
        else:
            d.text(x + wide / 2, 228, "start" if step == 0 else "0", "soft")
        d.text(x + wide / 2, 246, f"step {step + 1}", "soft")
    d.line(*points, look="for")
    d.text(10, 222, "gain", "strong", "start")
    return d


def gainsum() -> Drawing:
    """One prediction as a sum: the example of docs/interpretability.md, in order of time."""
    terms: tuple[tuple[str, float], ...] = (
        ("prior: what to expect of k02", 0.3996),
        ("step 0: k03 right", 0.1406),
        ("step 1: k03 right", 0.1481),
        ("step 2: k03 right", 0.1538),
        ("step 3: k02 wrong", -0.2324),
        ("step 4: k02 right", 0.2160),
    )
    d = Drawing(300)
    zero, unit, row = 225.0, 330.0, 36.0

    def at(value: float) -> float:
        return zero + unit * value

    d.line((zero, 14), (zero, 286), look="dashed")
    d.text(zero, 10, "log-odds 0", "soft")
    total = 0.0
    for index, (label, value) in enumerate(terms):
        y = 22 + row * index
        d.text(10, y + 17, label, "", "start")
        low, high = sorted((total, total + value))
        look = "soft-bar" if index == 0 else "for-bar" if value > 0 else "against-bar"
        d.bar(at(low), y, unit * (high - low), 24, look)
        name = "" if index == 0 else "for" if value > 0 else "against"
        d.text(at(high) + 8, y + 17, f"{value:+.2f}".replace("-", "\N{MINUS SIGN}"), name, "start")
        total += value
        d.line((at(total), y + 24), (at(total), y + row), look="dashed")
    y = 22 + row * len(terms)
    d.text(10, y + 17, "sum: k02 asked at step 5", "strong", "start")
    d.bar(zero, y, unit * total, 24, "for-panel")
    chance = 1 / (1 + math.exp(-total))
    d.text(at(total) + 8, y + 17, f"{total:+.2f}: probability {chance:.2f}", "strong", "start")
    return d


def gainsum_parts() -> Drawing:
    """Where the terms of the sum come from."""
    d = Drawing(400)
    d.box(10, 10, 170, 64, "Questions", "each skill asked, with", "features of its history")
    d.box(250, 10, 190, 64, "Block over questions", "each reads those before it", "and itself")
    d.arrow((180, 42), (250, 42))
    d.text(345, 100, "one state for each question", "soft")
    d.line((345, 74), (345, 86))
    d.line((345, 108), (345, 120))
    d.line((130, 120), (560, 120))
    d.arrow((130, 120), (130, 144))
    d.arrow((560, 120), (560, 144))
    d.box(
        10, 144, 240, 64, "Past answer i", "its key, and two sizes:", "one if right, one if wrong"
    )
    d.box(440, 144, 240, 64, "Skill k asked after step t", "its query, scale and prior")
    d.box(
        225,
        246,
        240,
        64,
        "Share of answer i",
        "softmax: query and key alike,",
        "recent, the same skill",
    )
    d.arrow((130, 208), (130, 278), (225, 278))
    d.arrow((560, 208), (560, 278), (465, 278))
    d.text(140, 270, "key", "soft", "start")
    d.text(550, 270, "query", "soft", "end")
    d.box(130, 346, 330, 44, "c = scale x share x sign x size", look="for-panel")
    d.arrow((345, 310), (345, 346))
    d.arrow((60, 208), (60, 368), (130, 368))
    d.text(70, 330, "size; sign: + right,", "soft", "start")
    d.text(70, 346, "\N{MINUS SIGN} wrong", "soft", "start")
    d.box(540, 346, 170, 44, "log-odds", "prior + sum of all c")
    d.arrow((460, 368), (540, 368))
    d.arrow((640, 208), (640, 346))
    d.text(650, 296, "prior", "soft", "start")
    return d


def dkt() -> Drawing:
    """A recurrent state read out for the skill asked next."""
    d = Drawing(250)
    answers = (("fractions right", 1), ("fractions wrong", 0), ("ratios right", 1))
    asked = ("fractions", "ratios", "fractions")
    for index, ((label, right), skill) in enumerate(zip(answers, asked, strict=True)):
        x = 120 + 190 * index
        d.box(x, 208, 130, 32, label, look="for-panel" if right else "against-panel")
        d.arrow((x + 65, 208), (x + 65, 164))
        d.box(x, 118, 130, 46, f"state {index + 1}", "LSTM")
        d.arrow((x + 65, 118), (x + 65, 74))
        d.box(x, 42, 130, 32, f"log-odds: {skill}")
        d.text(x + 65, 28, f"the skill asked at step {index + 2}", "soft")
        if index < 2:
            d.arrow((x + 130, 141), (x + 190, 141))
    d.text(10, 229, "answers", "soft", "start")
    d.text(10, 146, "what it keeps", "soft", "start")
    d.text(10, 63, "prediction", "soft", "start")
    return d


FIGURES: dict[str, Callable[[], Drawing]] = {
    function.__name__: function
    for function in (flow, shift, gainakt2exp, mastery, gainsum, gainsum_parts, dkt)
}


if __name__ == "__main__":
    for name, figure in FIGURES.items():
        (HERE / f"{name}.svg").write_text(figure().svg(), encoding="utf-8")
