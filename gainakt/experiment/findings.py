"""Measures of interpretability for a reader: as a table, and as a paragraph."""

from __future__ import annotations

from gainakt.evaluation.bootstrap import Estimate
from gainakt.evaluation.interpretability import MEASURES, Interpretability

TITLES = {
    "model": "model [95% interval]",
    "untrained": "untrained",
    "bkt": "BKT",
    "success_rate": "success",
    "step_number": "step",
    "attempts": "attempts",
}
NOT_GIVEN = "not given"


def table(found: Interpretability) -> str:
    """Return all figures as lines of text; `*` marks what holds by construction."""
    columns = list(TITLES)
    rows = [["", "measure", *TITLES.values()]]
    for key, (number, label) in MEASURES.items():
        cells = [_cell(found.columns[column].get(key), column) for column in columns]
        if key in found.by_construction:
            cells[0] += " *"
        rows.append([str(number), label, *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join([*lines, "* by construction: the model's structure fixes this, not training"])


def _cell(estimate: Estimate | None, column: str) -> str:
    if estimate is None or estimate.value is None:
        return NOT_GIVEN if column == "model" else "-"
    text = _number(estimate.value)
    if column == "model" and estimate.low is not None and estimate.high is not None:
        text += f" [{_number(estimate.low)}, {_number(estimate.high)}]"
    return text


def _number(value: float) -> str:
    small = value != 0 and abs(value) < 5e-4
    return f"{value:.1e}" if small else f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"


def summary(found: Interpretability, name: str) -> str:
    """Say in plain words what the figures of a model mean."""
    sentences = (_mastery, _direction, _explanation, _stability, _calibration, _time)
    said = [sentence for sentence in (make(found) for make in sentences) if sentence]
    return f"{name} on {found.answers:,} answers of {found.students:,} students. " + " ".join(said)


def _value(found: Interpretability, key: str, column: str = "model") -> float | None:
    estimate = found.columns[column].get(key)
    return None if estimate is None else estimate.value


def _mastery(found: Interpretability) -> str:
    auc, own = _value(found, "mastery_auc"), _value(found, "prediction_auc")
    if auc is None or own is None:
        return "The model states no mastery."
    bkt = _value(found, "mastery_auc", "bkt")
    clock = max(_value(found, "mastery_auc", c) or 0.0 for c in ("step_number", "attempts"))
    if "mastery_gap" in found.by_construction:
        carries = f"Its mastery is its prediction, by construction (AUC {auc:.4f})."
    else:
        gap = found.columns["model"]["mastery_gap"]
        behind = gap.low is not None and gap.low > 0
        carries = (
            f"Its mastery tells right from wrong answers with AUC {auc:.4f}, its prediction with "
            f"{own:.4f}: "
            + ("the prediction knows more than mastery shows." if behind else "they are level.")
        )
    return carries + f" BKT's mastery reaches {bkt:.4f}, a clock {clock:.4f} (0.5 is chance)."


def _direction(found: Interpretability) -> str:
    soon, later = _value(found, "falls_next"), _value(found, "falls_later")
    if soon is None or later is None:
        return ""
    fixed = ", by construction" if "falls_later" in found.by_construction else ""
    return (
        f"Turning one wrong answer into a right one, {found.flips:,} times, lowers {soon:.1%} of "
        f"the next predictions and {later:.1%} of all later ones{fixed}."
    )


def _explanation(found: Interpretability) -> str:
    error, signs = _value(found, "decomposition_error"), _value(found, "right_signs")
    ratio = found.columns["model"].get("deletion_over_random")
    said = "It does not take its predictions apart."
    if error is not None and signs is not None:
        said = (
            f"Prior and contributions add up to every prediction within {error:.0e} of log-odds, "
            f"and {signs:.2%} of the contributions have the sign of their answer."
        )
    if ratio is None or ratio.value is None or ratio.low is None:
        return said
    what = "largest contributions" if error is not None else "largest gains"
    matters = "more than" if ratio.low > 1 else "no more than"
    return said + (
        f" Removing the answers of the {what} moves predictions {ratio.value:.2f} times as much as "
        f"removing random ones: they matter {matters} chance."
    )


def _stability(found: Interpretability) -> str:
    rho = _value(found, "stability")
    return "" if rho is None else f"Mastery agrees with the other run's at Spearman {rho:.3f}."


def _calibration(found: Interpretability) -> str:
    error = _value(found, "calibration_error")
    return "" if error is None else f"Stated probabilities are off by {error:.3f} on average."


def _time(found: Interpretability) -> str:
    own = found.columns["model"].get("mastery_correlation")
    more = found.columns["model"].get("mastery_minus_clock")
    clock = found.columns["step_number"].get("mastery_correlation")
    if own is None or own.value is None or clock is None or clock.value is None:
        return ""
    if more is None or more.low is None:
        return ""
    beyond = "more than" if more.low > 0 else "no more than"
    return (
        f"Within students, mean mastery goes with the next answer at correlation {own.value:+.3f}, "
        f"a bare clock at {clock.value:+.3f}: mastery says {beyond} the passing of time."
    )
