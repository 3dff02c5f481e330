"""`gainakt reproduce` repeats from the folder alone and refuses what does not match it."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def tampered(run_copy):
    """Change one value of a JSON file of a copied run."""

    def change(file: str, *keys: str, value: object) -> Path:
        path = run_copy / file
        content = json.loads(path.read_text())
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        path.write_text(json.dumps(content))
        return run_copy

    return change


def test_a_run_on_simulated_data_is_identical(run_copy, gainakt):
    outcome = gainakt("reproduce", run_copy)
    assert outcome.code == 0, outcome.err
    assert outcome.out.endswith("verdict: IDENTICAL\n")
    (repeated,) = [p for p in run_copy.parent.iterdir() if p != run_copy]
    assert repeated.name.endswith("_gainakt2exp_run_repro")
    assert json.loads((repeated / "comparison.json").read_text())["verdict"] == "IDENTICAL"
    assert (repeated / "metrics_epoch.csv").read_bytes() == (
        run_copy / "metrics_epoch.csv"
    ).read_bytes()


def test_what_was_evaluated_on_test_students_is_repeated_too(run_copy, gainakt):
    assert gainakt("evaluate", run_copy, "--split", "test").code == 0
    outcome = gainakt("reproduce", run_copy, "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert result["verdict"] == "IDENTICAL"
    assert "test_auc_window" in [value["metric"] for value in result["values"]]


def test_a_tampered_configuration_is_refused(tampered, gainakt):
    run = tampered("config.json", "training", "learning_rate", value=0.5)
    outcome = gainakt("reproduce", run)
    assert outcome.code == 1
    assert "config.json was changed" in outcome.err
    assert list(run.parent.iterdir()) == [run], "nothing was trained"


def test_force_goes_on_and_records_that_it_did(tampered, gainakt):
    run = tampered("config.json", "training", "learning_rate", value=0.01)
    outcome = gainakt("reproduce", run, "--force", "--json")
    assert outcome.code == 1, "the result differs from the original"
    result = json.loads(outcome.out)
    assert result["verdict"] == "DIFFERENT"
    repeated = Path(result["folder"])
    (reason,) = json.loads((repeated / "comparison.json").read_text())["forced"]
    assert "config.json was changed" in reason
    assert (
        "forced although"
        in json.loads((repeated / "config.json").read_text())["experiment"]["purpose"]
    )


def test_a_truncated_checkpoint_is_refused(run_copy, gainakt):
    best = run_copy / "model_best.safetensors"
    best.write_bytes(best.read_bytes()[:-8])
    outcome = gainakt("reproduce", run_copy)
    assert outcome.code == 1
    assert "model_best.safetensors is not the file that the run wrote" in outcome.err


def test_one_flipped_answer_in_the_data_is_refused(tampered, tiny_data, gainakt, tmp_path):
    run = tampered("data.json", "path", value=str(_with_flipped_answer(tiny_data, tmp_path)))
    outcome = gainakt("reproduce", run)
    assert outcome.code == 1
    assert "does not match the hash in manifest.json" in outcome.err


def test_data_prepared_anew_with_one_flipped_answer_are_refused(
    tampered, tiny_data, gainakt, tmp_path
):
    from gainakt.data.contents import ContentHash

    data = _with_flipped_answer(tiny_data, tmp_path)
    table = pq.read_table(data / "interactions.parquet")
    content = ContentHash({field.name: field.type for field in table.schema})
    content.update(table)
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["interactions_sha256"] = content.hexdigest()
    (data / "manifest.json").write_text(json.dumps(manifest))
    outcome = gainakt("reproduce", tampered("data.json", "path", value=str(data)))
    assert outcome.code == 1
    assert "are not those of the run" in outcome.err


def test_data_that_moved_are_found_by_flag(tampered, tiny_data, gainakt, tmp_path):
    moved = shutil.copytree(tiny_data, tmp_path / "moved")
    run = tampered("data.json", "path", value="/nowhere/data")
    refused = gainakt("reproduce", run)
    assert refused.code == 1
    assert "not at /nowhere/data any more; say where they are with --data DIR" in refused.err
    assert gainakt("reproduce", run, "--data", moved).code == 0


def test_an_unfinished_run_is_refused(tampered, gainakt):
    outcome = gainakt("reproduce", tampered("results.json", "status", value="interrupted"))
    assert outcome.code == 1
    assert "is interrupted; only a finished run can be reproduced" in outcome.err


def test_what_differs_from_the_original_is_said_beforehand(tampered, gainakt):
    run = tampered("environment.json", "torch", value="1.0.0")
    outcome = gainakt("reproduce", run)
    assert outcome.code == 0
    said = outcome.err.index("differs from the original: torch was 1.0.0")
    assert said < outcome.err.index("epoch 1/2 done")


def _with_flipped_answer(data: Path, tmp_path: Path) -> Path:
    copy = shutil.copytree(data, tmp_path / "flipped")
    table = pq.read_table(copy / "interactions.parquet")
    answers = table["correct"].to_numpy().copy()
    answers[7] = 1 - answers[7]
    column = table.schema.get_field_index("correct")
    table = table.set_column(column, table.schema.field(column), pa.array(answers))
    pq.write_table(table, copy / "interactions.parquet")
    return copy
