"""The benchmarks: what they measure with, and that the reference computes what our model does."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
from pathlib import Path

import guarantees
import measuring
import numpy as np
import peers
import pytest
import students
import torch
from measuring import Instant, Table, TrainerWatch, Watched, apart, whole_pass
from peers import THEIRS, to_target
from peers_pykt import MODELS
from reference_gainakt2exp import Reference, padded_batch

from gainakt.config import GainAKT2ExpParameters
from gainakt.data.batches import make_batch
from gainakt.data.interactions import load_dataset
from gainakt.models import build_model
from gainakt.objectives.schedule import ScheduleState, epoch_weights
from gainakt.objectives.total import BatchWeights, total_loss
from tests.helpers import random_students, sequences_of, small_config, vocabulary_of

SCRIPTS = (
    "peers",
    "reference",
    "hotspots",
    "layouts",
    "scale",
    "gpu",
    "kill_resume",
    "guarantees",
    "certainty",
)


def instants(*seconds: float) -> list[Instant]:
    return [Instant(wall=second, cpu=2 * second) for second in seconds]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_says_what_it_measures(
    script: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [script, "--help"])
    module = importlib.import_module(script)
    with pytest.raises(SystemExit) as leaving:
        module.main()
    assert leaving.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert " ".join((module.__doc__ or "nothing").split())[:200] in said


class TestReference:
    """Same weights, same students: same numbers, whatever the shape of the computation."""

    lengths = (5, 12, 3, 9)

    def outputs(self):
        config = small_config("gainakt2exp", seq_len=12, lag_max_lag=3)
        assert isinstance(config.model, GainAKT2ExpParameters)
        sequences = sequences_of(*random_students(self.lengths, n_skills=4))
        torch.manual_seed(3)
        ours = build_model(config, vocabulary_of(4))
        reference = Reference(4, config.model)
        reference.load_state_dict(ours.state_dict())
        index = np.arange(len(self.lengths))
        batches = make_batch(sequences, index), padded_batch(sequences, index, 12)
        models = ours.train(), reference.train()
        return config, models, batches, [m(b) for m, b in zip(models, batches, strict=True)]

    def test_logits_mastery_and_gains_are_ours(self) -> None:
        _, _, batches, outputs = self.outputs()
        for name in ("logits", "mastery", "gains"):
            columns = []
            for batch, output in zip(batches, outputs, strict=True):
                place = batch.sequence[batch.valid] * 100 + batch.position[batch.valid]
                columns.append(getattr(output, name)[batch.valid][place.argsort()])
            assert len(columns[0]) == sum(self.lengths)
            torch.testing.assert_close(columns[0], columns[1], rtol=0, atol=1e-5)

    def test_every_loss_term_and_gradient_is_ours(self) -> None:
        config, models, batches, outputs = self.outputs()
        state = dataclasses.replace(ScheduleState.start(config), peak=0.9)
        weights = epoch_weights(config, state, epoch=10)
        terms, gradients = [], []
        for model, batch, output in zip(models, batches, outputs, strict=True):
            moving = BatchWeights.start(0.2, torch.device("cpu"))
            losses, _ = total_loss(output, batch, config, weights, moving)
            losses.total.backward()
            terms.append(losses.terms())
            gradients.append({name: p.grad for name, p in model.named_parameters()})
        assert (terms[0] != 0).all()  # main, constraint, alignment, lag, retention
        torch.testing.assert_close(terms[0], terms[1], rtol=0, atol=1e-5)
        torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-5)


def test_a_whole_pass_is_from_the_first_to_the_last_instant() -> None:
    assert whole_pass(instants(1.0, 4.0, 6.0)) == {"wall": 5.0, "cpu": 10.0}


def test_some_steps_are_scaled_without_the_warm_up() -> None:
    # after the first step, of 3 s, two steps take 2 s and 4 s: 3 s each, hence 30 s for ten
    assert whole_pass(instants(1.0, 4.0, 6.0, 10.0), 10) == {"wall": 30.0, "cpu": 60.0}


def test_a_watched_loader_notes_when_each_batch_is_asked_for() -> None:
    watched = Watched([1, 2, 3], limit=2)
    assert list(watched) == [1, 2]
    assert len(watched.instants) == 3
    assert list(watched) == [1, 2]
    assert len(watched.instants) == 3
    assert list(Watched([1, 2, 3])) == [1, 2, 3]


def test_the_validation_of_a_sample_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter(instants(0.0, 1.0, 2.0, 5.0, 6.0))
    monkeypatch.setattr(Instant, "now", lambda: next(moments))
    watch = TrainerWatch(scale=10)
    watch.on_step(1, 1, 2, 0.7)
    watch.on_step(1, 2, 2, 0.7)
    history = argparse.Namespace(rows=[{"val_auc": 0.71}])
    watch.on_epoch(argparse.Namespace(history=history), True)
    (epoch,) = watch.epochs
    assert epoch["training"] == {"wall": 2.0, "cpu": 4.0}
    assert epoch["validation"] == {"wall": 30.0, "cpu": 60.0}
    assert watch.instants == instants(6.0)


def test_a_process_of_its_own_answers_with_its_own_memory() -> None:
    answer = apart("json", "loads", s='{"a": 1}')
    assert answer["a"] == 1
    # this process has torch in it, the other one nothing
    assert 0 < answer["peak_memory"] < measuring.peak_memory() / 2


def test_a_process_that_fails_ends_the_benchmark_with_its_reason() -> None:
    with pytest.raises(SystemExit, match=r"json\.loads failed(.|\n)*JSONDecodeError"):
        apart("json", "loads", s="{")


def test_a_table_shows_rounded_cells_and_its_json_all_digits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = Table("Title", ["system", "CPU s"], {"commit": "abc"}, notes=["a note"])
    table.add(system="ours", CPU_s=1.23456)
    table.add(system="theirs")
    table.print(as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "Title",
        "  commit: abc",
        "| system | CPU s |",
        "|--------|-------|",
        "| ours   |  1.23 |",
        "| theirs |       |",
        "- a note",
    ]
    table.print(as_json=True)
    assert json.loads(capsys.readouterr().out)["rows"][0] == {"system": "ours", "CPU_s": 1.23456}


def test_the_time_to_an_auc_includes_the_validation_passes() -> None:
    def epoch(auc: float) -> dict[str, object]:
        return {"training": {"cpu": 10.0}, "validation": {"cpu": 1.0}, "val_auc": auc}

    assert to_target([epoch(0.70), epoch(0.73), epoch(0.74)], 0.72) == (2, 22.0)
    assert to_target([epoch(0.70)], 0.72) is None


def test_without_pykt_the_comparison_says_why_it_is_skipped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(peers, "BENCH", tmp_path / "bench")
    monkeypatch.setattr(peers.venv, "create", lambda folder, **rest: None)
    monkeypatch.setattr(
        peers.subprocess, "run", lambda *rest, **more: argparse.Namespace(returncode=1)
    )
    monkeypatch.setattr("sys.argv", ["peers"])
    peers.main()
    assert "skipped, pip could not install" in capsys.readouterr().out


def test_the_models_of_pykt_that_can_be_chosen_are_those_with_settings() -> None:
    assert set(THEIRS) == set(MODELS)


def test_simulated_students_are_the_same_through_pykts_files(tmp_path: Path) -> None:
    given = argparse.Namespace(data=None, students=60)
    data = load_dataset(students.prepared(students.csv_folder(given, tmp_path), tmp_path))
    simulated = load_dataset(tmp_path / "simulated")
    assert len(data.student_ids) == 60
    place = {name: at for at, name in enumerate(data.student_ids)}
    for at in range(60):
        there = place[str(at)]
        assert data.folds[there] == simulated.folds[at]
        rows, before = (slice(*s.offsets[i : i + 2]) for s, i in ((data, there), (simulated, at)))
        assert data.rows.response[rows].tolist() == simulated.rows.response[before].tolist()
        names = [int(data.skill_ids[code]) for code in data.rows.skill[rows]]
        assert names == simulated.rows.skill[before].tolist()


def test_operations_and_bytes_of_an_operator_are_counted() -> None:
    from hotspots import count

    a, b = torch.ones(3, 5), torch.ones(5, 7)
    found = count(lambda: torch.mm(a, b).relu())
    assert found["aten::mm"] == (2 * 3 * 5 * 7, 4 * (15 + 35 + 21), 1)
    assert found["aten::relu"] == (0, 4 * (21 + 21), 1)


@pytest.mark.parametrize("guarantee", guarantees.GUARANTEES, ids=lambda g: g.name)
def test_a_guarantee_holds_in_some_trials(guarantee: guarantees.Guarantee) -> None:
    errors = torch.cat(list(guarantees.tried(guarantee, 1000, seed=1)))
    assert len(errors) == 1000 and float(errors.max()) <= guarantee.allowed


def test_a_guarantee_that_does_not_hold_is_found_broken() -> None:
    """A model that reads answers may fall with a right one."""
    rising = next(g for g in guarantees.GUARANTEES if g.weights == ("skills_only",))
    broken = dataclasses.replace(rising, weights=("in_context",))
    errors = torch.cat(list(guarantees.tried(broken, 3000, seed=1)))
    assert float((errors > broken.allowed).float().mean()) > 0.01
