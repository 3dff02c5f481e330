"""`gainakt leaderboard` and `gainakt benchmark`: one table of many trainings."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from gainakt.evaluation.significance import holm, summarise_runs
from gainakt.experiment.formats import as_latex, latex
from gainakt.experiment.leaderboard import Row
from gainakt.record.folder import read_json, write_json
from tests.conftest import EVIL, TINY

GRID = ("--models", "success_rate", "skill_mean", "bkt", "--folds", "0", "1")
SETTINGS = ("--threads=1", "--devices=cpu", "--seq_len=20", "--bootstrap_samples=100")
QUICK = ("--samples", "100")


@pytest.fixture(scope="module")
def grid(tmp_path_factory, tiny_data):
    """A benchmark of three models and two folds; not to be changed. Its table, and its folder."""
    from gainakt.cli import main

    out = tmp_path_factory.mktemp("grid") / "benchmark"
    with pytest.raises(SystemExit) as leaving:
        main(
            ["benchmark", f"--data={tiny_data}", *GRID, f"--out={out}", *SETTINGS, *QUICK, "-q"]
            if False
            else [
                "benchmark",
                f"--data={tiny_data}",
                *GRID,
                f"--out={out}",
                *SETTINGS,
                *QUICK,
                "--quiet",
            ]
        )
    assert not leaving.value.code
    return out


def table(gainakt, *folders):
    return json.loads(gainakt("leaderboard", *folders, "--json", *QUICK, "--quiet").out)


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 times 3 2 1 gives .03 .04 .03, and none is smaller than the one before
    assert holm([0.02, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_row_a_model_with_the_figures_of_its_runs(grid, gainakt) -> None:
    rows = table(gainakt, grid)
    assert sorted(row["model"] for row in rows) == ["bkt", "skill_mean", "success_rate"]
    assert [row["auc"] for row in rows] == sorted((row["auc"] for row in rows), reverse=True)
    for row in rows:
        found = [read_json(Path(f) / "evaluation_test.json") for f in row["folders"]]
        assert len(found) == row["trainings"] == row["folds"] == 2
        summary = summarise_runs([metrics["auc"] for metrics in found])
        assert (row["auc"], row["auc_std"]) == (summary.mean, summary.std)
        assert row["auc_interval_low"] < row["auc"] < row["auc_interval_high"]
        for name in ("accuracy", "log_loss"):
            assert row[name] == pytest.approx(np.mean([metrics[name] for metrics in found]))
        within = [metrics["within"]["student_skill"]["auc"] for metrics in found]
        assert row["within_student_skill"] == pytest.approx(np.mean(within))
    assert "question_auc" not in rows[0], "a column that nobody has is left out"


def test_differences_are_those_of_compare_and_corrected(grid, gainakt) -> None:
    best, *others = table(gainakt, grid)
    assert best["best"] and best["difference"] is None
    parents = [Path(row["folders"][0]).parent for row in (best, *others)]
    against = json.loads(gainakt("compare", *parents, "--json").out)["test_auc_against_first"]
    for row, compared in zip(others, against, strict=True):
        assert row["difference"] == pytest.approx(compared["difference"])
        assert row["difference"] == pytest.approx(row["auc"] - best["auc"])
        assert row["difference_interval_low"] <= row["difference"]
    # two comparisons of at least 2 / 101 each: the smaller one is doubled
    assert min(row["p"] for row in others) >= 4 / 101 - 1e-12


def test_run_again_it_trains_nothing_and_says_the_same(grid, tiny_data, gainakt) -> None:
    before = {p: p.stat().st_mtime_ns for p in grid.glob("*/*/model_best.safetensors")}
    words = ("benchmark", f"--data={tiny_data}", *GRID, f"--out={grid}", *SETTINGS, *QUICK)
    again = gainakt(*words, "--json")
    assert again.code == 0
    assert "6 finished already" in again.err
    assert json.loads(again.out) == table(gainakt, grid)
    assert {p: p.stat().st_mtime_ns for p in grid.glob("*/*/model_best.safetensors")} == before


def test_a_cell_that_fails_is_in_the_table_with_its_reason_and_the_rest_goes_on(
    tiny_data, tmp_path, gainakt
) -> None:
    words = ["benchmark", f"--data={tiny_data}", "--models", "gainakt2exp", "skill_mean"]
    tiny = {n: v for n, v in TINY.items() if n not in ("threads", "devices", "bootstrap_samples")}
    words += ["--folds", "0", f"--out={tmp_path / 'b'}", *SETTINGS, *QUICK]
    words += [f"--{name}={value}" for name, value in tiny.items() if name != "seq_len"]
    failed = gainakt(*words, "--learning_rate=1e9", "--json", "--quiet")
    assert failed.code == 1
    rows = {row["model"]: row for row in json.loads(failed.out)}
    assert rows["skill_mean"]["trainings"] == 1 and not rows["skill_mean"]["remarks"]
    assert rows["gainakt2exp"]["auc"] is None
    assert "failed" in rows["gainakt2exp"]["remarks"]
    assert "finite" in rows["gainakt2exp"]["remarks"]
    said = gainakt("leaderboard", tmp_path / "b", "--format", "latex", *QUICK, "--quiet").out
    assert "% left out: gainakt2exp" in said
    html = gainakt("leaderboard", tmp_path / "b", "--format", "html", "--out", tmp_path / "b.html")
    assert html.code == 0
    page = (tmp_path / "b.html").read_text()
    assert (
        "finite" in page
        and "sortable" in page
        and "http://" not in page.replace("http://www.w3.org", "")
    )


def test_runs_that_lack_something_stay_with_the_reason(grid, tmp_path, gainakt) -> None:
    copy = shutil.copytree(grid, tmp_path / "copy")
    of_bkt = sorted(copy.glob("crossval_bkt*/*/results.json"))
    (of_bkt[0].parent / "evaluation_test.json").unlink()
    write_json(of_bkt[1], read_json(of_bkt[1]) | {"status": "interrupted"})
    (row,) = [row for row in table(gainakt, copy) if row["model"] == "bkt"]
    assert row["auc"] is None and row["trainings"] is None
    assert "1 not evaluated on test students" in row["remarks"]
    assert "1 interrupted" in row["remarks"]
    shutil.rmtree(of_bkt[1].parent)
    (row,) = [row for row in table(gainakt, copy) if row["model"] == "bkt"]
    assert "1 not begun" in row["remarks"]


def test_a_repetition_is_no_further_training(grid, tmp_path, gainakt) -> None:
    copy = shutil.copytree(grid, tmp_path / "copy")
    run = next(copy.glob("crossval_bkt*/*/results.json")).parent
    shutil.copytree(run, run.with_name(run.name + "_repro"))
    assert [r["trainings"] for r in table(gainakt, copy)] == [2, 2, 2]


def test_what_tells_models_of_one_name_apart_is_said(
    grid, gainakt, train_tiny, tmp_path, tiny_data
) -> None:
    words = {name: None for name in TINY if name not in ("threads", "devices", "seq_len")}
    trained = train_tiny(**words, model="bkt", seq_len=10)
    assert gainakt("evaluate", trained.out.strip(), "--quiet").code == 0
    rows = [r for r in table(gainakt, grid, tmp_path / "out") if r["model"] == "bkt"]
    assert {row["settings"] for row in rows} == {"seq_len 20", "seq_len 10"}


def test_formats_agree(grid, gainakt) -> None:
    rows = table(gainakt, grid)
    say = lambda form: gainakt("leaderboard", grid, "--format", form, *QUICK, "--quiet").out  # noqa: E731
    as_csv = list(csv.DictReader(io.StringIO(say("csv"))))
    assert [float(row["auc"]) for row in as_csv] == [row["auc"] for row in rows]
    shown = f"{rows[0]['auc']:.4f}"
    assert shown in say("text") and f"**{shown}**" in say("markdown")
    assert rf"\textbf{{{shown}}}" in say("latex")


def test_latex_compiles(grid, gainakt, tmp_path) -> None:
    pdflatex = shutil.which("pdflatex")
    if pdflatex is None:
        pytest.skip("there is no pdflatex; Debian has it in texlive-latex-base")
    found = subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False)
    if found.returncode:
        pytest.skip("there is no booktabs; Debian has it in texlive-latex-recommended")
    said = gainakt("leaderboard", grid, "--format", "latex", *QUICK, "--quiet").out
    strange = latex(EVIL + r"100% & a_b #1 $x$ {y} ~^\ ± ")
    page = "\n".join(
        [
            r"\documentclass{article}\usepackage[utf8]{inputenc}\usepackage{booktabs}",
            r"\usepackage[T1]{fontenc}",
            r"\begin{document}",
            said,
            strange,
            r"\end{document}",
        ]
    )
    (tmp_path / "paper.tex").write_text(page, encoding="utf-8")
    words = [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 1000


def test_latex_without_anything_evaluated() -> None:
    assert "no model" in as_latex([Row("d", "m", "", (), None, {})])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing to train"),
        (("--models", "bkt", "bkt"), "named twice"),
        (("--models", "bkt", "--model", "dkt"), "--models"),
        (("--models", "bkt", "--d_model", "8"), "none of the models has a parameter 'd_model'"),
        (("--models", "bkt", "--folds", "9"), "fold 9 is not in data set"),
        (("--models", "nothing"), "nothing"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_before_anything_is_trained(
    words, said, tiny_data, tmp_path, gainakt
) -> None:
    outcome = gainakt("benchmark", f"--data={tiny_data}", f"--out={tmp_path / 'b'}", *words)
    assert outcome.code == 1
    assert said in outcome.err
    assert not list(tmp_path.rglob("config.json"))


def test_a_folder_without_runs(tmp_path, gainakt) -> None:
    assert "no experiment folders" in gainakt("leaderboard", tmp_path).err
    assert "no folder" in gainakt("leaderboard", tmp_path / "none").err
