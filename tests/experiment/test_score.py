"""Predictions part by part: the same whatever the parts, for any data set, whole or not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gainakt.evaluation.protocol as protocol
from gainakt.config import Data
from gainakt.data.batches import Batch, bounded_ranges
from gainakt.data.interactions import load_dataset
from gainakt.data.simulate import simulate
from gainakt.evaluation.predictor import Predictor
from gainakt.evaluation.protocol import PREDICTIONS, evaluate_split, predict
from gainakt.models import KnowledgeTracer, ModelOutput
from gainakt.record.checkpoint import load_checkpoint
from tests.conftest import TINY, Outcome
from tests.helpers import dataset_of, predictor_of

CPU = torch.device("cpu")
SEQ_LEN = int(str(TINY["seq_len"]))


class Counting(KnowledgeTracer):
    """Says how much it has read: no sum over a batch, so the batch cannot move a bit."""

    def forward(self, batch: Batch) -> ModelOutput:
        """Logits from position and next skill; mastery from the position."""
        logits = (batch.position % 7 - 3 + batch.next_skill / 8).float()
        mastery = (batch.position[:, None] % 5 + torch.arange(3)).float() / 8
        return ModelOutput(logits, mastery)


def counting(dataset: Any, seq_len: int = 8, stride: int = 3) -> Predictor:
    """`Counting` as a predictor of a data set's skills."""
    model = Counting()
    model.vocabulary = dataset.vocabulary
    return predictor_of(model, seq_len, stride)


def parts_of(dataset: Any, students: np.ndarray, size: int, seq_len: int = 8) -> list[pa.Table]:
    found = predict(counting(dataset, seq_len), dataset, students, size=size)
    return [table for _, table in found]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(3, 40), min_size=1, max_size=7), st.integers(1, 120))
def test_any_size_of_part_gives_the_same_predictions(lengths: list[int], size: int) -> None:
    dataset = dataset_of(lengths)
    students = np.arange(len(lengths))
    whole = pa.concat_tables(parts_of(dataset, students, 10**6)).combine_chunks()
    assert whole["student"].to_pylist() == [
        str(student) for student, n in enumerate(lengths) for _ in range(n - 1)
    ]
    assert whole["position"].to_pylist() == [p for n in lengths for p in range(1, n)]
    parts = parts_of(dataset, students, size)
    # a part holds as much as is allowed, or one student's one window
    assert max(map(len, parts)) < max(size, 8)
    assert pa.concat_tables(parts).combine_chunks().equals(whole)


@pytest.mark.parametrize("size", [1, 10, 25, 200])
def test_any_size_of_part_gives_the_same_metrics(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = dataset_of([9, 30, 3, 17, 12])
    tables: list[pa.Table] = []

    def metrics() -> dict[str, Any]:
        return evaluate_split(counting(dataset), dataset, "valid", Data(), tables.append)

    whole = metrics()
    assert len(tables) == 1
    monkeypatch.setattr(protocol, "predict", partial(predict, size=size))
    parts = metrics()
    assert (len(tables) > 2) == (size < 200)
    assert parts.keys() == whole.keys() and parts["targets"] == whole["targets"] == 66
    for name in ("auc", "accuracy", "log_loss", "brier"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-12)


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 20))
def test_ranges_are_as_long_as_they_may_be(sizes: list[int], limit: int) -> None:
    array = np.array(sizes, dtype=np.int64)
    ranges = list(bounded_ranges(array, limit))
    assert [n for begin, end in ranges for n in range(begin, end)] == list(range(len(sizes)))
    for begin, end in ranges:
        assert sum(sizes[begin:end]) <= limit or end == begin + 1
        assert end == len(sizes) or sum(sizes[begin : end + 1]) > limit


def scored(outcome: Outcome) -> dict[str, Any]:
    assert outcome.code == 0, outcome.err
    values: dict[str, Any] = json.loads(outcome.out)
    return values


def test_it_predicts_every_student_as_evaluate_does(
    run_copy: Path, gainakt: Callable[..., Outcome], tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "all.parquet"
    values = scored(gainakt("score", run_copy, "--data", tiny_data, "--out", out, "--json"))
    data = load_dataset(tiny_data)
    table = pq.read_table(out)
    assert table.schema == PREDICTIONS
    assert values["predictions"] == str(out)
    assert values["students"] == 60 == len(set(table["student"].to_pylist()))
    assert values["interactions"] == len(data.rows.skill)
    assert values["targets"] == len(data.rows.skill) - 60 == len(table)
    assert values["interactions_per_second"] > 0
    assert values["same_data_as_training"] is True
    gainakt("evaluate", run_copy, "--split", "test")
    expected = pq.read_table(run_copy / "predictions_test.parquet").to_pandas()
    keys = ["student", "position"]
    found = table.to_pandas().merge(expected, on=keys, suffixes=("", "_of_evaluate"))
    assert len(found) == len(expected)
    for name in ("skill", "answer"):
        assert (found[name] == found[f"{name}_of_evaluate"]).all()
    for name in ("probability", "mastery"):
        np.testing.assert_allclose(found[name], found[f"{name}_of_evaluate"], atol=1e-6)


def test_parts_of_a_real_model_agree(gainsum_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(gainsum_run / "model_best.safetensors")
    data = load_dataset(tiny_data)

    def table(size: int) -> pa.Table:
        predictor = predictor_of(checkpoint.model(), SEQ_LEN, 5)
        parts = predict(predictor, data, np.arange(60), size=size)
        return pa.concat_tables([part for _, part in parts])

    whole, small = table(10**6), table(50)
    assert small.drop(["probability", "mastery"]).equals(whole.drop(["probability", "mastery"]))
    for name in ("probability", "mastery"):
        # which sequences share a batch moves the last bits
        np.testing.assert_allclose(small[name].to_numpy(), whole[name].to_numpy(), atol=2e-6)


def test_other_data_are_coded_by_name(
    run_copy: Path, gainakt: Callable[..., Outcome], write_students: Callable[..., Path]
) -> None:
    data = write_students({"s": (0, [("k04", 1), ("k02", 0), ("k04", 1)])})
    out = data.parent / "p.parquet"
    values = scored(gainakt("score", run_copy, "--data", data, "--out", out, "--json"))
    assert values["same_data_as_training"] is False and values["targets"] == 2
    assert pq.read_table(out)["skill"].to_pylist() == ["k02", "k04"]


def refused(outcome: Outcome, out: Path) -> str:
    assert outcome.code == 1 and outcome.out == ""
    assert list(out.parent.glob(f"{out.name}*")) == []
    (told,) = outcome.err.splitlines()
    return told


def test_mistakes_are_named_and_leave_nothing(
    run_copy: Path, gainakt: Callable[..., Outcome], tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "p.parquet"
    simulate(tmp_path / "more", students=40, skills=5, seed=7)
    told = refused(gainakt("score", run_copy, "--data", tmp_path / "more", "--out", out), out)
    assert "has 1 skills that the model was not trained on, the first is 'k05'" in told
    gone = tmp_path / "gone"
    told = refused(gainakt("score", run_copy, "--data", gone, "--out", out), out)
    assert f"no prepared data set at {gone}" in told
    inside = tiny_data / "manifest.json" / "p.parquet"
    outcome = gainakt("score", run_copy, "--data", tiny_data, "--out", inside)
    assert outcome.code == 1 and "cannot write" in outcome.err


def test_an_existing_file_is_never_overwritten(
    run_copy: Path, gainakt: Callable[..., Outcome], tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "p.parquet"
    out.write_text("mine")
    outcome = gainakt("score", run_copy, "--data", tiny_data, "--out", out)
    assert outcome.code == 1 and "exists already" in outcome.err
    assert out.read_text() == "mine"


def test_scoring_that_fails_half_way_leaves_no_file(
    run_copy: Path,
    gainakt: Callable[..., Outcome],
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import gainakt.experiment.score as module

    def stops(*arguments: Any, **more: Any) -> Any:
        yield from predict(*arguments, **more, size=100)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "predict", stops)
    out = tmp_path / "p.parquet"
    outcome = gainakt("score", run_copy, "--data", tiny_data, "--out", out)
    assert outcome.code == 130
    assert list(tmp_path.glob("p.parquet*")) == []


def test_progress_says_how_far_it_is(
    run_copy: Path,
    gainakt: Callable[..., Outcome],
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import gainakt.experiment.score as module

    monkeypatch.setattr(module, "REPORT_EVERY", -1.0)
    out = tmp_path / "p.parquet"
    outcome = gainakt("score", run_copy, "--data", tiny_data, "--out", out)
    total = f"{len(load_dataset(tiny_data).rows) - 60:,}"
    assert f"{total} of {total} predictions, 0 s left" in outcome.err
    assert outcome.out.startswith(f"{total} predictions for 60 students in {out} (")


# Scores with a model that costs nothing, so that only what is held takes memory.
MEMORY = """
import resource, sys
import numpy as np, torch
sys.path.insert(0, sys.argv[2])
from tests.experiment.test_score import counting
from gainakt.data.interactions import load_dataset
from gainakt.evaluation.metrics import RunningMetrics
from gainakt.evaluation.protocol import predict
from gainakt.experiment.evaluate import predictions_file
from pathlib import Path
data, running = load_dataset(sys.argv[1]), RunningMetrics()
running.auc.limit = 20_000
students = np.arange(len(data.folds))
with predictions_file(Path(sys.argv[1]) / "p.parquet") as keep:
    for scored, table in predict(counting(data, 64, 20), data, students, size=1 << 14):
        running.add(scored.next_answer, scored.logit, scored.probability)
        keep(table)
status = open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
print(running.targets, status)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own account")
def test_memory_does_not_grow_with_the_students(tmp_path: Path) -> None:
    """Eight times the interactions within 15 MiB: holding their predictions would take 30."""
    peaks = {}
    for students in (1_000, 8_000):
        data = simulate(tmp_path / str(students), students=students, skills=3, true_mastery=False)
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(data.path), str(Path(__file__).parents[2])],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            cwd=Path(protocol.__file__).parents[2],
        )
        targets, peak = map(int, done.stdout.split())
        assert targets == len(data.rows.skill) - students
        peaks[students] = peak / 1024
    assert peaks[8_000] - peaks[1_000] < 15, peaks
