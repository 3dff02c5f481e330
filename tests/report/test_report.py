"""The report of a run: its numbers are those of the folder, and what data say is never code."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from gainakt.errors import ExperimentError
from gainakt.evaluation.metrics import roc_curve
from gainakt.record.folder import RunFolder
from gainakt.report import words
from gainakt.report.comparison import write_comparison
from gainakt.report.drawing import NAMES, PAPER
from gainakt.report.page import write_report
from tests.conftest import EVIL, LONG, Outcome, tiny_command


class Page(HTMLParser):
    """What a page is made of: its tags with attributes, and its visible text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._hidden = 0
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def content(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def reported(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    """A finished run with its report, and the page."""
    folder = shutil.copytree(finished_run, tmp_path_factory.mktemp("report") / finished_run.name)
    return folder, Page(write_report(RunFolder(folder)))


def test_the_headline_is_that_of_results_json(reported: tuple[Path, Page]) -> None:
    folder, page = reported
    best = content(folder / "results.json")["best"]
    assert f"Validation AUC {best['val_auc']:.4f} best epoch, {best['epoch']} of 2" in page.text
    assert f"Validation accuracy {best['val_accuracy']:.1%}" in page.text
    assert "Test not evaluated" in page.text
    assert "10 of 10 reproducibility checks pass" in page.text
    answers = pq.read_table(folder / "predictions_valid.parquet")["answer"].to_numpy()
    assert f"always expecting “right” would reach {answers.mean():.1%}" in page.text


def test_every_figure_lies_beside_the_page_as_picture_and_numbers(
    reported: tuple[Path, Page],
) -> None:
    folder, page = reported
    names = {f["id"] for f in page.named("figure")}
    assert {"auc_by_epoch", "loss_shares", "calibration", "roc", "correlations"} <= names
    assert {"mastery_1", "mastery_2", "mastery_3", "one_prediction"} <= names
    for name in names:
        assert (folder / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert table(folder / "report" / f"{name}.csv")
    assert len(page.named("figcaption")) == len(names)
    pictures = [svg for svg in page.named("svg") if svg.get("role") == "img"]
    assert len(pictures) == len(names) and all(svg["aria-label"] for svg in pictures)


def test_numbers_of_the_curves_are_those_of_metrics_epoch(reported: tuple[Path, Page]) -> None:
    folder, _ = reported
    recorded = table(folder / "metrics_epoch.csv")
    for name in ("auc_by_epoch", "loss_by_epoch", "loss_shares", "correlations_by_epoch"):
        rows = table(folder / "report" / f"{name}.csv")
        assert len(rows) == len(recorded)
        for row, whole in zip(rows, recorded, strict=True):
            for column, value in row.items():
                assert float(value) == float(whole[column]), (name, column)


def test_every_mark_tells_its_number(reported: tuple[Path, Page]) -> None:
    folder, page = reported
    for row in table(folder / "metrics_epoch.csv"):
        for name, column in (("validation", "val_auc"), ("training", "train_auc")):
            tip = f"{name}, epoch {row['epoch']}: {float(row[column]):.4f}"
            assert f"<title>{tip}</title>" in page.source


def test_numbers_of_the_skills_are_those_of_the_predictions(reported: tuple[Path, Page]) -> None:
    folder, page = reported
    predictions = pq.read_table(folder / "predictions_valid.parquet").to_pydict()
    skill = np.array(predictions["skill"])
    answer, p = np.array(predictions["answer"]), np.array(predictions["probability"])
    rows = table(folder / "report" / "skills.csv")
    assert {row["skill"] for row in rows} == set(skill)
    counts = [int(row["answers"]) for row in rows]
    assert counts == sorted(counts, reverse=True) and sum(counts) == len(skill)
    for row in rows:
        mine = skill == row["skill"]
        assert float(row["share_right"]) == pytest.approx(answer[mine].mean())
        assert float(row["predicted"]) == pytest.approx(p[mine].mean(), abs=1e-6)
        assert float(row["auc"]) == pytest.approx(roc_auc_score(answer[mine], p[mine]))
        assert row["skill"] in page.text


def test_numbers_of_calibration_and_roc_are_those_of_the_predictions(
    reported: tuple[Path, Page],
) -> None:
    folder, page = reported
    metrics = content(folder / "evaluation_valid.json")
    points = table(folder / "report" / "calibration.csv")
    assert sum(int(float(row["answers"])) for row in points) == metrics["targets"]
    corners = table(folder / "report" / "roc.csv")
    x, y = (
        [float(row[name]) for row in corners]
        for name in ("false_positive_rate", "true_positive_rate")
    )
    assert np.trapezoid(y, x) == pytest.approx(metrics["auc"], abs=0.002)
    assert f"AUC {metrics['auc']:.3f}" in page.text


def test_correlations_stand_beside_the_clock(reported: tuple[Path, Page]) -> None:
    folder, _ = reported
    consistency = content(folder / "results.json")["consistency"]
    rows = {row["name"]: row for row in table(folder / "report" / "correlations.csv")}
    assert set(rows) == {"mastery", "gain", "clock"}
    for name, row in rows.items():
        assert float(row["value"]) == consistency[f"{name}_correlation"]
        assert [float(row["low"]), float(row["high"])] == (
            consistency[f"{name}_correlation_interval"]
        )


def test_the_page_asks_for_nothing_and_is_built_for_every_reader(
    reported: tuple[Path, Page],
) -> None:
    _, page = reported
    assert page.source.startswith("<!doctype html>")
    assert len(page.source.encode()) < 3_000_000
    policy = next(m for m in page.named("meta") if "http-equiv" in m)
    assert (policy["content"] or "").startswith("default-src 'none'")
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:", "report/")), address
    assert "url(" not in page.source and "@import" not in page.source
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    assert all(th.get("scope") in ("col", "row") for th in page.named("th"))
    identities = [a["id"] for _, a in page.tags if "id" in a]
    assert len(identities) == len(set(identities))


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_told_from_the_paper_in_both_schemes() -> None:
    """WCAG 2.1: 4.5 for text, 3 for graphics."""
    css = (Path(words.__file__).parent / "report.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6});", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    )
    assert {name: light[name] for name in NAMES.values()} == {n: c for c, n in NAMES.items()}
    for scheme in (light, dark):
        for background in ("paper", "page"):
            for name in ("ink", "muted", "link", "good", "bad"):
                assert contrast(scheme[name], scheme[background]) >= 4.5, name
        for name in set(NAMES.values()) - {"paper", "grid"}:
            assert contrast(scheme[name], scheme["paper"]) >= 3, name
    assert light["paper"] == PAPER


def test_a_failed_check_is_said_at_the_top(run_copy: Path) -> None:
    results = content(run_copy / "results.json")
    results["mastery_corr"] = "high"
    (run_copy / "results.json").write_text(json.dumps(results))
    page = Page(write_report(RunFolder(run_copy)))
    text = page.text.partition("How training went")[0]
    assert "Do not rely on this run yet: 1 of 10 checks failed." in text
    assert "mastery_corr is high, not a number" in text
    assert "9 of 10" in text
    header = page.source.partition("</header>")[0]
    assert "mastery_corr is high" in header


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("results.json", None, "results.json is missing"),
        ("results.json", b'{"status": "comp', "results.json cannot be read as JSON"),
        ("results.json", b"[]", "damaged"),
        ("metrics_epoch.csv", None, "metrics_epoch.csv is missing"),
        ("data.json", b"{}", "damaged"),
        ("config.json", b"{", "config.json cannot be read as JSON"),
    ],
)
def test_a_damaged_folder_is_named(
    run_copy: Path,
    gainakt: Callable[..., Outcome],
    name: str,
    damage: bytes | None,
    message: str,
) -> None:
    if damage is None:
        (run_copy / name).unlink()
    else:
        (run_copy / name).write_bytes(damage)
    with pytest.raises(ExperimentError, match=message):
        write_report(RunFolder(run_copy))
    assert not (run_copy / "report.html").exists()
    told = gainakt("report", run_copy)
    # without its configuration it is no run at all
    assert told.code == 1 and "Traceback" not in told.err and told.out == ""


def test_a_cut_off_table_is_named_with_its_row(run_copy: Path) -> None:
    path = run_copy / "metrics_epoch.csv"
    path.write_text(path.read_text()[:-200])
    with pytest.raises(ExperimentError, match=r"metrics_epoch.csv, row 2: cut off"):
        write_report(RunFolder(run_copy))


def test_without_predictions_they_are_read_out(run_copy: Path) -> None:
    recorded = content(run_copy / "evaluation_valid.json")
    for name in ("evaluation_valid.json", "predictions_valid.parquet"):
        (run_copy / name).unlink()
    page = Page(write_report(RunFolder(run_copy)))
    assert f"AUC {recorded['auc']:.3f}" in page.text
    assert not (run_copy / "evaluation_valid.json").exists()


def test_without_data_and_predictions_the_rest_is_drawn_and_the_reason_said(
    run_copy: Path, tmp_path: Path
) -> None:
    data = content(run_copy / "data.json")
    data["path"] = str(tmp_path / "gone")
    (run_copy / "data.json").write_text(json.dumps(data))
    (run_copy / "predictions_valid.parquet").unlink()
    page = Page(write_report(RunFolder(run_copy)))
    names = {f["id"] for f in page.named("figure")}
    assert "auc_by_epoch" in names and "roc" not in names and "one_prediction" not in names
    assert "the data of this run are not at" in page.text
    assert "Which skills are hard?" not in page.text


def test_a_test_split_is_shown_only_once_it_was_evaluated(
    run_copy: Path, gainakt: Callable[..., Outcome]
) -> None:
    assert "Test students have not been looked at" in Page(write_report(RunFolder(run_copy))).text
    assert gainakt("evaluate", run_copy, "--split", "test", "--quiet").code == 0
    metrics = content(run_copy / "evaluation_test.json")
    page = Page(write_report(RunFolder(run_copy)))
    assert f"Test AUC {metrics['auc']:.4f}" in page.text
    assert f"{metrics['targets']:,} answers of {metrics['students']:,} students" in page.text
    assert "have not been looked at" not in page.text
    assert {row["of"] for row in table(run_copy / "report" / "roc.csv")} == {"validation", "test"}


def test_gainsum_has_an_explanation_that_sums_and_no_loss_shares(
    gainsum_run: Path, tmp_path: Path
) -> None:
    page = Page(write_report(RunFolder(gainsum_run), tmp_path / "page.html"))
    assert "so no shares to show" in page.text
    assert not (tmp_path / "page" / "loss_shares.csv").exists()
    said = re.search(r"In log-odds that is (\S+), exactly the sum of (\S+) to start", page.text)
    assert said is not None
    terms = [float(r["contribution"]) for r in table(tmp_path / "page" / "one_prediction.csv")]
    logit, prior = (float(text.replace("\N{MINUS SIGN}", "-")) for text in said.groups())
    assert prior + sum(terms) == pytest.approx(logit, abs=0.011)


def test_names_from_data_are_text_whatever_they_say(strange_run: Path, tmp_path: Path) -> None:
    page = Page(write_report(RunFolder(strange_run), tmp_path / "page.html"))
    assert EVIL not in page.source and "<i>strange" not in page.source
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.source
    assert len(page.named("script")) == 1 and not page.named("b") and not page.named("i")
    assert not [name for _, a in page.tags for name in a if name.startswith("on")]
    assert "Brüche · 分数 \N{THUMBS UP SIGN}" in page.text and LONG in page.text
    listed = {row["skill"] for row in table(tmp_path / "page" / "skills.csv")}
    assert {EVIL, LONG, "a\"b'&c"} <= listed


def test_a_run_of_one_epoch_has_no_curve_to_read(strange_run: Path, tmp_path: Path) -> None:
    page = Page(write_report(RunFolder(strange_run), tmp_path / "page.html"))
    assert "A single epoch: there is no curve to read yet." in page.text
    assert not (tmp_path / "page" / "correlations_by_epoch.csv").exists()


def test_training_leaves_a_report_unless_told_not_to(
    gainakt: Callable[..., Outcome], tiny_data: Path, tmp_path: Path
) -> None:
    command = tiny_command(tiny_data, tmp_path / "out", epochs=1)
    assert gainakt(*command).code == 0
    (folder,) = (tmp_path / "out").iterdir()
    assert not (folder / "report.html").exists() and not (folder / "report").exists()
    command = [word for word in command if word != "--no-report"]
    done = gainakt(*command, "--short_title=drawn")
    assert done.code == 0
    (drawn,) = (tmp_path / "out").glob("*_drawn")
    assert f"report: {drawn / 'report.html'}" in done.err
    assert f"report: {drawn / 'report.html'}" in (drawn / "stdout.log").read_text()
    assert Page(drawn / "report.html").named("figure")
    assert done.out.strip() == str(drawn)


def test_a_report_that_fails_does_not_fail_the_run(
    gainakt: Callable[..., Outcome],
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr("gainakt.report.page.write_report", fail)
    command = [
        word for word in tiny_command(tiny_data, tmp_path, epochs=1) if word != "--no-report"
    ]
    done = gainakt(*command)
    (folder,) = tmp_path.glob("*_run")
    assert done.code == 0 and done.out.strip() == str(folder)
    assert f"no report (no font); once mended: gainakt report {folder}" in done.err
    assert content(folder / "results.json")["status"] == "completed"


def test_two_runs_are_compared_on_one_page(
    finished_run: Path, gainsum_run: Path, gainakt: Callable[..., Outcome], tmp_path: Path
) -> None:
    path = tmp_path / "both.html"
    done = gainakt("report", finished_run, gainsum_run, "--out", path)
    assert (done.code, done.out.strip()) == (0, str(path))
    page = Page(path)
    rows = table(tmp_path / "both" / "runs.csv")
    for row, run in zip(rows, (finished_run, gainsum_run), strict=True):
        best = content(run / "results.json")["best"]
        assert (row["run"], float(row["val_auc"])) == (run.name, best["val_auc"])
        assert f"{best['val_auc']:.4f}" in page.text
    settings = {row["setting"]: row for row in table(tmp_path / "both" / "settings.csv")}
    assert (settings["model"]["A"], settings["model"]["B"]) == ("gainakt2exp", "gainsum")
    assert "seed" not in settings
    assert "Validation AUC of B minus that of A" in page.text
    assert "paired bootstrap over" in page.text
    assert {f["id"] for f in page.named("figure")} == {"val_auc", "val_loss", "calibration", "roc"}
    assert {row["of"] for row in table(tmp_path / "both" / "roc.csv")} == {"A", "B"}


def test_a_run_beside_itself_differs_in_nothing(finished_run: Path, tmp_path: Path) -> None:
    run = RunFolder(finished_run)
    page = Page(write_comparison([run, run], tmp_path / "twice.html"))
    assert "the runs have the same parameters and data" in page.text
    assert (
        "AUC of B minus that of A: +0.0000" in page.text and "no difference is shown" in page.text
    )


def test_a_folder_of_runs_is_a_page_of_its_own_and_groups_have_means(
    finished_run: Path, gainsum_run: Path, tmp_path: Path
) -> None:
    group = tmp_path / "group"
    for run in (finished_run, gainsum_run):
        shutil.copytree(run, group / run.name)
    page = write_comparison([RunFolder(group)])
    assert page == group / "report.html"
    assert [row["letter"] for row in table(group / "report" / "runs.csv")] == ["A", "B"]
    alone = Page(page).text
    assert "all runs Validation AUC 2" in alone and "minus that of A" not in alone
    both = Page(write_comparison([RunFolder(group), RunFolder(finished_run)], tmp_path / "c.html"))
    assert [row["letter"] for row in table(tmp_path / "c" / "runs.csv")] == ["A", "A", "B"]
    values = [
        content(run / "results.json")["best"]["val_auc"]
        for run in group.iterdir()
        if run.is_dir() and run.name != "report"
    ]
    assert f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" in both.text


@pytest.mark.parametrize(
    ("words_given", "message"),
    [
        (["report"], "report needs a run"),
        (["report", "nothing"], "no experiment folder"),
        (["report", "RUN", "RUN", "--data", "x"], "goes with the report of a single run"),
        (["report", "RUN", "--out", "RUN/results.json/page.html"], "cannot make"),
    ],
)
def test_mistakes_are_named(
    gainakt: Callable[..., Outcome], finished_run: Path, words_given: list[str], message: str
) -> None:
    done = gainakt(*(word.replace("RUN", str(finished_run)) for word in words_given))
    assert done.code == 1 and message in done.err and "Traceback" not in done.err


def test_the_roc_curve_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    answers, scores = rng.integers(2, size=300), rng.integers(40, size=300) / 40
    mine = np.array(roc_curve(answers, scores, points=1000))
    x, y, _ = sklearn_roc_curve(answers, scores, drop_intermediate=False)
    assert mine == pytest.approx(np.column_stack([x, y]))
    thinned = roc_curve(answers, scores, points=10)
    assert len(thinned) == 11 and thinned[0] == (0, 0) and thinned[-1] == (1, 1)


def epochs(*val_auc: float, train: float = 0.1) -> list[dict[str, float | None]]:
    return [
        {"epoch": float(n), "val_auc": value, "train_auc": 0.6 + train * n, "val_loss": 1 - value}
        for n, value in enumerate(val_auc, start=1)
    ]


def test_captions_say_what_the_numbers_say_and_no_more() -> None:
    assert words.accuracy_curve(epochs(0.6, 0.71, 0.706), 2) == (
        "Best after epoch 2; afterwards validation AUC falls by 0.004 while training AUC rises by "
        "0.100: the model begins to memorise its students."
    )
    assert "memorise" not in words.accuracy_curve(epochs(0.6, 0.71, 0.706, train=0.0), 2)
    assert "stays level" in words.accuracy_curve(epochs(0.6, 0.71, 0.7096), 2)
    assert "more epochs might still help" in words.accuracy_curve(epochs(0.6, 0.71), 2)


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((0.12, 0.15), "above the clock's +0.070"),
        ((0.05, 0.15), "no different from the clock's +0.070 within its interval"),
        ((0.01, 0.03), "below the clock's +0.070"),
    ],
)
def test_a_correlation_is_held_against_the_clock(interval: tuple[float, float], said: str) -> None:
    consistency = {
        "students": 10,
        "mastery_correlation": sum(interval) / 2,
        "mastery_correlation_interval": interval,
        "gain_correlation": None,
        "clock_correlation": 0.07,
    }
    assert said in words.correlations(consistency)
