"""A run that was stopped goes on as if it never had been."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).parents[2] / "bench" / "kill_resume.py"


def test_runs_killed_at_random_moments_resume_to_the_same_bits():
    harness = subprocess.run(
        [sys.executable, str(HARNESS), "--kills", "2", "--seed", "5"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert harness.returncode == 0, harness.stdout + harness.stderr
    assert "2 of 2 resumed runs are bit-identical" in harness.stdout


def test_a_finished_run_says_so_and_stays_as_it_is(run_copy, gainakt):
    before = {p.name: p.read_bytes() for p in run_copy.iterdir()}
    outcome = gainakt("resume", run_copy)
    assert outcome.code == 0
    assert "is finished; there is nothing to resume" in outcome.err
    assert {p.name: p.read_bytes() for p in run_copy.iterdir()} == before


def test_a_run_that_another_process_still_trains_is_left_alone(run_copy, gainakt):
    _mark_unfinished(run_copy)
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(run_copy / "stdout.log")], stdout=subprocess.PIPE
    )
    try:
        holder.stdout.readline()
        outcome = gainakt("resume", run_copy)
    finally:
        holder.kill()
        holder.communicate()
    assert outcome.code == 1
    assert "is still being trained by another process" in outcome.err
    assert gainakt("resume", run_copy).code == 0, "the hold ended with its process"


_HOLD = """
import sys, time
from pathlib import Path
from gainakt.experiment.console import RunConsole
console = RunConsole(quiet=True)
console.log_to(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_resuming_with_other_data_is_refused(run_copy, gainakt, tmp_path):
    from gainakt.data.simulate import simulate

    _mark_unfinished(run_copy)
    other = simulate(tmp_path / "other", students=60, skills=4, seed=2).path
    outcome = gainakt("resume", run_copy, "--data", other)
    assert outcome.code == 1
    assert "cannot be resumed" in outcome.err
    assert "are not those of the run" in outcome.err


def test_resuming_a_tampered_configuration_is_refused(run_copy, gainakt):
    _mark_unfinished(run_copy)
    path = run_copy / "config.json"
    config = json.loads(path.read_text())
    config["training"]["learning_rate"] = 0.5
    path.write_text(json.dumps(config))
    outcome = gainakt("resume", run_copy)
    assert outcome.code == 1
    assert "config.json was changed" in outcome.err


def test_a_damaged_state_is_named(run_copy, gainakt):
    _mark_unfinished(run_copy)
    state = run_copy / "state_last.pt"
    state.write_bytes(state.read_bytes()[:500])
    outcome = gainakt("resume", run_copy)
    assert outcome.code == 1
    assert "state_last.pt" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_resumption_is_recorded(run_copy, gainakt):
    _mark_unfinished(run_copy)
    assert gainakt("resume", run_copy).code == 0
    (entry,) = json.loads((run_copy / "environment.json").read_text())["resumed"]
    assert entry["at"] == "epoch 3, batch 1"
    assert json.loads((run_copy / "results.json").read_text())["status"] == "completed"


def _mark_unfinished(run: Path) -> None:
    path = run / "results.json"
    results = json.loads(path.read_text())
    path.write_text(json.dumps({**results, "status": "running"}))


@pytest.mark.parametrize("last", ["config.json", "run.sh", "SEEDS.md", "environment.json"])
def test_a_run_killed_while_its_folder_was_made_says_so(run_copy, gainakt, last):
    """Of the files written before training, those up to `last` are there, and no other."""
    first = ["config.json", "run.sh", "SEEDS.md", "environment.json", "data.json"]
    kept = {"stdout.log", *first[: first.index(last) + 1]}
    for path in run_copy.iterdir():
        if path.name not in kept:
            path.unlink()
    outcome = gainakt("resume", run_copy)
    assert outcome.code == 1
    assert "was killed while its folder was made" in outcome.err
    assert "remove the folder and train anew" in outcome.err


def test_a_run_without_its_state_is_not_begun_anew_over_its_checkpoints(run_copy, gainakt):
    results = json.loads((run_copy / "results.json").read_text()) | {"status": "interrupted"}
    (run_copy / "results.json").write_text(json.dumps(results))
    (run_copy / "state_last.pt").unlink()
    before = {path.name: path.read_bytes() for path in run_copy.glob("model_*")}
    outcome = gainakt("resume", run_copy)
    assert outcome.code == 1
    assert "state_last.pt is missing, which says where training stood" in outcome.err
    assert {path.name: path.read_bytes() for path in run_copy.glob("model_*")} == before
