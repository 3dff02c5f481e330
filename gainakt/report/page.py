"""The report of one run: what it reached, whether that can be trusted, and what it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gainakt.config import dump_config
from gainakt.experiment import findings
from gainakt.objectives.total import TERMS
from gainakt.record.commands import EVALUATE, REPRODUCE
from gainakt.record.folder import RunFolder
from gainakt.record.readme import UNDEFINED
from gainakt.report import words
from gainakt.report.curves import Interval, Line, epoch_curves, intervals, loss_shares
from gainakt.report.figures import explanation_figure
from gainakt.report.layout import Panel, Section, Table, write_page
from gainakt.report.material import Material, Skill, Split, by_skill, read_run
from gainakt.report.quality import calibration_figure, reliability, roc, roc_figure
from gainakt.report.students import mastery_intervals, mastery_map, mastery_rows

# A page with more rows than this is slow to open; the CSV has them all.
SHOWN_SKILL_ROWS = 2000


def write_report(folder: RunFolder, path: Path | None = None, data: Path | None = None) -> Path:
    """Write a run's report: one HTML file that needs no network, its figures and numbers beside.

    Args:
        folder: the run.
        path: of the HTML file; report.html in the run's folder by default.
        data: a prepared data set in place of the recorded one.

    Raises:
        ExperimentError: the folder is damaged, no epoch was finished, or the place cannot be
            written.
    """
    m = read_run(folder, data)
    skills = [] if not m.splits else by_skill(m.splits[0])
    tables = [Table("skills", [asdict(skill) for skill in skills])] if skills else []
    sections = [_training(m), _predictions(m), _mastery(m), _students(m), _explanation(m)]
    values = {
        "m": m,
        "words": words,
        "evaluate": EVALUATE,
        "reproduce": REPRODUCE,
        "controls": findings.TITLES,
        "skills": skills[:SHOWN_SKILL_ROWS],
        "skill_caption": _skill_caption(skills, m.splits),
        "settings": dump_config(m.config)["override_applied"],
    }
    return write_page(path or folder.report, "page.html.jinja", sections, tables, values)


def _training(m: Material) -> Section:
    best = int(m.results["best_epoch"])
    return Section(
        "training", "How training went", [*_curves(m, best), *_shares(m)], note=_no_shares(m)
    )


def _curves(m: Material, best: int) -> Iterator[Panel]:
    epochs = m.epochs
    lines = [Line("validation", epochs, "val_auc"), Line("training", epochs, "train_auc")]
    yield Panel(
        "auc_by_epoch",
        "AUC by epoch",
        words.accuracy_curve(epochs, best),
        epoch_curves(lines, "AUC", best),
        _columns(epochs, "val_auc", "train_auc", "val_accuracy"),
    )
    lines = [Line("validation", epochs, "val_loss")]
    if all(row.get("main_loss") is not None for row in epochs):
        lines.append(Line("training", epochs, "main_loss"))
    yield Panel(
        "loss_by_epoch",
        "Prediction loss by epoch",
        words.loss_curve(epochs, softened=m.config.training.teachers > 0),
        epoch_curves(lines, "log loss", best),
        _columns(epochs, "val_loss", "main_loss", "train_loss"),
    )


def _shares(m: Material) -> Iterator[Panel]:
    if used := _terms(m):
        yield Panel(
            "loss_shares",
            "What the training loss is made of",
            words.loss_shares(m.epochs, used),
            loss_shares(m.epochs, used),
            _columns(m.epochs, *(f"{term}_loss_share" for term in used)),
        )


def _terms(m: Material) -> list[str]:
    """The terms that the loss is made of; none where it is the prediction alone."""
    used = [t for t in TERMS if any(row.get(f"{t}_loss_share") for row in m.epochs)]
    return used if len(used) > 1 else []


def _no_shares(m: Material) -> str:
    return (
        "" if _terms(m) else "The loss has no terms besides the prediction, so no shares to show."
    )


def _columns(epochs: Sequence[Any], *names: str) -> list[dict[str, Any]]:
    return [
        {"epoch": int(row["epoch"]), **{n: row[n] for n in names if n in row}} for row in epochs
    ]


def _predictions(m: Material) -> Section:
    title = "Do the probabilities mean what they say?"
    if not m.splits:
        return Section("predictions", title, note=f"There are no predictions: {m.not_predicted}.")
    named = [(words.OF_SPLIT[split.name], split) for split in m.splits]
    curves, corners = ([make(*pair) for pair in named] for make in (reliability, roc))
    panels = [
        Panel(
            "calibration",
            "Calibration",
            words.calibration(m.splits),
            calibration_figure(curves),
            [row for curve in curves for row in curve.rows()],
        ),
        Panel(
            "roc",
            "ROC curve",
            words.roc(m.splits),
            roc_figure(corners),
            [row for curve in corners for row in curve.rows()],
        ),
    ]
    return Section("predictions", title, panels, note=_not_tested(m))


def _not_tested(m: Material) -> str:
    if m.test is not None:
        return ""
    return (
        "All of this is about validation students, by whom the best epoch was chosen. Test "
        f"students have not been looked at; gainakt evaluate {m.folder.path.name} does."
    )


def _mastery(m: Material) -> Section:
    title = "Does mastery go with what students do?"
    consistency = m.results.get("consistency")
    if consistency is None:
        return Section("mastery", title, note="The final measures come with the end of the run.")
    named = [
        (
            name,
            consistency.get(f"{name}_correlation"),
            consistency.get(f"{name}_correlation_interval"),
        )
        for name in ("mastery", "gain", "clock")
    ]
    given = [
        Interval(name, value, *(bounds or (None, None)))
        for name, value, bounds in named
        if value is not None
    ]
    if not {"mastery", "gain"} & {value.name for value in given}:
        if consistency["monotonicity_violation_rate"] is not None:
            return Section("mastery", title, note=f"The correlation is {UNDEFINED}.")
        return Section(
            "mastery",
            title,
            note=f"{m.model} states neither mastery nor gains, so there is "
            "nothing to correlate with what students do.",
        )
    panels = [
        Panel(
            "correlations",
            "Correlation with the next answer, within students",
            words.correlations(consistency),
            intervals(given, "correlation, with its 95% interval", control="clock"),
            [asdict(value) for value in given],
        ),
        *_correlations_by_epoch(m),
    ]
    return Section("mastery", title, panels, text=words.violations(consistency))


def _correlations_by_epoch(m: Material) -> Iterator[Panel]:
    names = [
        name
        for name in ("mastery", "gain")
        if any(row[f"{name}_correlation"] is not None for row in m.epochs)
    ]
    if names and len(m.epochs) > 1:
        lines = [Line(name, m.epochs, f"{name}_correlation") for name in names]
        count = m.config.interpretability.max_semantic_students
        yield Panel(
            "correlations_by_epoch",
            "The same, epoch by epoch",
            f"Of up to {count} validation students, always the same; so few students make the "
            "lines rougher than the final figure.",
            epoch_curves(lines, "correlation", int(m.results["best_epoch"])),
            _columns(m.epochs, *(f"{name}_correlation" for name in names)),
        )


def _skill_caption(skills: Sequence[Skill], splits: Sequence[Split]) -> str:
    if not skills:
        return ""
    said = words.skills(skills, splits[0])
    if len(skills) > SHOWN_SKILL_ROWS:
        said += f" Shown are the {SHOWN_SKILL_ROWS:,} with the most answers; the CSV has all."
    return said


def _students(m: Material) -> Section:
    title = "Mastery of a few students, answer by answer"
    if m.students is None:
        return Section("students", title, note=f"The model could not be asked: {m.not_asked}.")
    traces = m.students.traces
    if not traces:
        return Section("students", title, note=f"{m.model} states no mastery to be drawn.")
    panels = [
        Panel(
            f"mastery_{number}",
            f"Student {trace.student}",
            words.trace(trace),
            mastery_map(trace),
            trace.rows(),
            wide=True,
        )
        for number, trace in enumerate(traces, start=1)
    ]
    mastered = m.students.mastered
    if mastered:
        panels.append(
            Panel(
                "mastery_now",
                f"Student {m.students.explained.student} after the last answer",
                words.mastered(mastered),
                mastery_intervals(mastered),
                mastery_rows(mastered),
            )
        )
    return Section("students", title, panels, text=words.students(m.students))


def _explanation(m: Material) -> Section:
    title = "One prediction taken apart"
    if m.students is None:
        return Section("explanation", title, note=f"The model could not be asked: {m.not_asked}.")
    e = m.students.explained
    if not e.is_sum and e.past[0].mastery is None:
        return Section(
            "explanation",
            title,
            note=f"{m.model} gives neither contributions nor mastery: its "
            "predictions cannot be taken apart.",
        )
    panel = Panel(
        "one_prediction",
        f"Student {e.student}, answer {e.step}",
        words.explanation(e),
        explanation_figure(e, titled=False),
        [asdict(answer) for answer in e.past],
        wide=True,
    )
    return Section("explanation", title, [panel])
