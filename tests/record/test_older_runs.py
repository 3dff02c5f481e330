"""Run folders of the first version still open, and say what they said then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome

FIRST = Path(__file__).parents[1] / "golden" / "runs_of_27b0881"
RUNS = sorted(path.name for path in FIRST.iterdir() if path.name != "data")

Command = Callable[..., Outcome]


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a run, with its data beside it as they are recorded nowhere any more."""
    shutil.copytree(FIRST / "data", tmp_path / "data")
    return shutil.copytree(FIRST / request.param, tmp_path / "runs" / request.param)


def test_it_evaluates_to_the_same_digits(run: Path, gainakt: Command) -> None:
    then = json.loads((run / "evaluation_test.json").read_text())
    outcome = gainakt(
        "evaluate", run, "--split", "test", "--data", run.parents[1] / "data", "--json"
    )
    now = json.loads(outcome.out)
    assert now["targets"] == then["targets"] and now["epoch"] == then["epoch"]
    for name in ("auc", "accuracy", "log_loss", "brier"):
        # probabilities were stored with fewer digits, and logits differ between processors
        assert now[name] == pytest.approx(then[name], abs=2e-6), name


def test_it_explains_itself(run: Path, gainakt: Command) -> None:
    data = run.parents[1] / "data"
    outcome = gainakt("explain", run, "--student", "s00003", "--data", data)
    assert outcome.code == 0 and "probability" in outcome.out


def test_it_is_checked_by_today_s_rules(run: Path, gainakt: Command) -> None:
    lines = gainakt("check", run).out.splitlines()
    red = [line for line in lines if not line.startswith("✅")]
    assert len(lines) == 10 and red == []


def test_it_is_reported(run: Path, gainakt: Command) -> None:
    recorded = json.loads((run / "data.json").read_text())
    recorded["path"] = str(run.parents[1] / "data")
    (run / "data.json").write_text(json.dumps(recorded))
    assert gainakt("report", run).code == 0
    assert run.name in (run / "report.html").read_text(encoding="utf-8")


def test_it_is_finished(run: Path, gainakt: Command) -> None:
    assert "nothing to resume" in gainakt("resume", run, "--data", run.parents[1] / "data").err
