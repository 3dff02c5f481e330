"""A run that cannot begin or end says so in one message and leaves nothing that looks whole."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from gainakt.experiment.console import RunConsole
from gainakt.record.checkpoint import load_checkpoint, load_state
from gainakt.record.folder import RunFolder
from gainakt.training.progress import Figures
from gainakt.training.steps import PlainSteps
from tests.conftest import Outcome, tiny_command

Train = Callable[..., Outcome]
METRICS = "Per-epoch metrics CSV present"
WEIGHTS = "Best + last checkpoints saved"
CORRELATIONS = "Correlation / interpretability metrics logged"


def message(outcome: Outcome) -> str:
    """The one message of a command that did not succeed."""
    assert outcome.code not in (0, None)
    assert "Traceback" not in outcome.out + outcome.err
    told = [line for line in outcome.err.splitlines() if line.startswith("gainakt: ")]
    assert len(told) == 1, outcome.err
    return told[0]


def only_run(out: Path) -> Path:
    (folder,) = out.iterdir()
    assert not list(folder.glob("*.writing")), "a half-written file was left"
    return folder


def results(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return content


def readme(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def failed_checks(gainakt: Callable[..., Outcome], folder: Path) -> dict[str, str]:
    outcome = gainakt("check", folder, "--json")
    failed = {c["title"]: c["reason"] for c in json.loads(outcome.out) if not c["passed"]}
    assert outcome.code == (1 if failed else 0)
    return failed


# ------------------------------------------------------------------ stopped by a signal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_mid_epoch_ends_a_run_cleanly(
    number: signal.Signals, gainakt: Callable[..., Outcome], tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "gainakt", *tiny_command(tiny_data, out, epochs=100_000)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told = []
    for line in process.stderr:
        told.append(line)
        if line.startswith("epoch 2/100000  batch 1/"):
            process.send_signal(number)
            break
    rest, err = process.communicate(timeout=60)
    outcome = Outcome(process.returncode, rest, "".join(told) + err)

    assert outcome.code == 130
    assert "Traceback" not in outcome.err
    assert "stopping after this batch; once more to stop at once" in outcome.err
    assert "interrupted: the last checkpoint is saved and the run can be resumed" in outcome.err
    folder = only_run(out)
    assert f"next: gainakt resume {folder}" in outcome.err
    assert results(folder)["status"] == "interrupted"
    assert "- Status: interrupted after " in readme(folder)
    assert load_checkpoint(folder / "model_last.safetensors").epoch == results(folder)["epochs"]
    assert load_state(folder / "state_last.pt")["progress"]["steps"] > 0
    failed = failed_checks(gainakt, folder)
    assert list(failed) == [CORRELATIONS]
    assert "the run is interrupted" in failed[CORRELATIONS]


def interrupt_at(monkeypatch: pytest.MonkeyPatch, epoch: int, times: int = 1) -> None:
    """Send this process Ctrl-C at the second batch of an epoch."""
    real = RunConsole.step

    def step(self: RunConsole, at: int, epochs: int, batch: int, *rest: Any) -> None:
        real(self, at, epochs, batch, *rest)
        if (at, batch) == (epoch, 2):
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(RunConsole, "step", step)


def test_a_run_stopped_in_its_first_epoch_keeps_what_it_learnt(
    gainakt: Callable[..., Outcome],
    train_tiny: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupt_at(monkeypatch, epoch=1)
    handler = signal.getsignal(signal.SIGINT)
    outcome = train_tiny()
    assert signal.getsignal(signal.SIGINT) is handler
    assert outcome.code == 130
    folder = only_run(tmp_path / "out")
    assert load_state(folder / "state_last.pt")["progress"]["steps"] == 2
    assert results(folder)["status"] == "interrupted"
    assert "| best_epoch | no epoch was finished |" in readme(folder)
    assert list(failed_checks(gainakt, folder)) == [WEIGHTS, METRICS, CORRELATIONS]


def test_a_second_interrupt_stops_at_once_and_is_recorded(
    gainakt: Callable[..., Outcome],
    train_tiny: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupt_at(monkeypatch, epoch=2, times=2)
    outcome = train_tiny()
    assert outcome.code == 130
    assert "Traceback" not in outcome.err
    folder = only_run(tmp_path / "out")
    assert f"interrupted: stopped at once; next: gainakt resume {folder}" in outcome.err
    assert results(folder)["status"] == "interrupted"
    assert "- Status: interrupted after 1 epochs: stopped at once" in readme(folder)
    assert load_checkpoint(folder / "model_last.safetensors").epoch == 1
    assert load_state(folder / "state_last.pt")["epoch"] == 1
    assert list(failed_checks(gainakt, folder)) == [CORRELATIONS]


# ------------------------------------------------------------------ losses that are not finite


def test_a_loss_that_is_not_finite_stops_the_run(
    gainakt: Callable[..., Outcome], train_tiny: Train, tmp_path: Path
) -> None:
    outcome = train_tiny(learning_rate=1e9)
    assert outcome.code == 1
    told = message(outcome)
    assert "epoch 1, step 2: loss or gradient is not finite (main nan" in told
    assert "Try a smaller learning_rate" in told
    folder = only_run(tmp_path / "out")
    assert results(folder)["status"] == "failed"
    assert results(folder)["reason"] in told
    assert "- Status: failed after 0 epochs: epoch 1, step 2: loss" in readme(folder)
    assert "failed: epoch 1, step 2" in (folder / "stdout.log").read_text(encoding="utf-8")
    failed = failed_checks(gainakt, folder)
    assert "the run is failed (epoch 1, step 2: loss or gradient" in failed[CORRELATIONS]


def test_weights_that_break_in_a_later_epoch_leave_the_checkpoint_before(
    gainakt: Callable[..., Outcome],
    train_tiny: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = PlainSteps.take

    def take(self: PlainSteps, number: int) -> Figures:
        if self.epoch == 2:
            with torch.no_grad():
                next(self.step.model.parameters()).fill_(torch.inf)
        return real(self, number)

    monkeypatch.setattr(PlainSteps, "take", take)
    assert "epoch 2, step 1: loss or gradient is not finite" in message(train_tiny())
    folder = only_run(tmp_path / "out")
    assert results(folder)["status"] == "failed"
    assert results(folder)["epochs"] == 1
    for name in ("model_best.safetensors", "model_last.safetensors"):
        checkpoint = load_checkpoint(folder / name)
        assert checkpoint.epoch == 1
        assert all(w.isfinite().all() for w in checkpoint.weights.values())
    assert load_state(folder / "state_last.pt")["epoch"] == 1
    assert list(failed_checks(gainakt, folder)) == [CORRELATIONS]


def test_weights_that_break_on_the_last_step_of_an_epoch_are_never_saved(
    gainakt: Callable[..., Outcome],
    train_tiny: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = PlainSteps.take

    def take(self: PlainSteps, number: int) -> Figures:
        figures = real(self, number)
        if self.epoch == 2 and number == self.per_epoch - 1:
            with torch.no_grad():
                next(self.step.model.parameters()).fill_(torch.inf)
        return figures

    monkeypatch.setattr(PlainSteps, "take", take)
    assert "epoch 2: 1 weights are not finite any more" in message(train_tiny())
    folder = only_run(tmp_path / "out")
    assert results(folder)["status"] == "failed"
    for name in ("model_best.safetensors", "model_last.safetensors"):
        assert load_checkpoint(folder / name).epoch == 1
        load_checkpoint(folder / name).model()


# ------------------------------------------------------------------ disks that refuse


class FullDisk:
    """From the given write of a file on, that file or every file takes no more bytes."""

    def __init__(self, file: str, write: int, all_files: bool = False) -> None:
        self.file, self.left, self.all_files = file, write, all_files
        self.full = False

    def open(self, path: Path, mode: str) -> io.IOBase:
        handle = open(path, mode)  # noqa: SIM115 - the caller closes it
        if mode != "wb":
            return handle
        if path.name.startswith(f"{self.file}.") and path.suffix == ".writing":
            self.left -= 1
            self.full = self.full or self.left <= 0
            if self.full:
                return Refusing(handle)
        return Refusing(handle) if self.full and self.all_files else handle  # type: ignore[return-value]


class Refusing(io.RawIOBase):
    """A file that takes the first half of what is written and then finds the disk full."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, content: Any) -> int:
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        self.file.close()


def fill_disk(monkeypatch: pytest.MonkeyPatch, disk: FullDisk) -> None:
    monkeypatch.setattr("gainakt.files.open", disk.open, raising=False)


@pytest.mark.parametrize(
    "file",
    [
        "model_best.safetensors",
        "model_last.safetensors",
        "metrics_epoch.csv",
        "trajectory.json",
        "results.json",
        "state_last.pt",
    ],
)
def test_a_disk_that_fills_up_leaves_the_files_before(
    file: str,
    gainakt: Callable[..., Outcome],
    train_tiny: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill_disk(monkeypatch, FullDisk(file, write=2, all_files=True))
    # long enough for a second best epoch
    outcome = train_tiny(epochs=10, learning_rate=0.001)
    told = message(outcome)
    assert outcome.code == 1
    folder = only_run(tmp_path / "out")
    assert told == f"gainakt: cannot write {folder / file}: No space left on device"
    assert results(folder)["status"] == "running"
    assert not (folder / "README.md").exists()
    saved = load_state(folder / "state_last.pt")["epoch"]
    assert saved >= 1
    for name in ("model_best.safetensors", "model_last.safetensors"):
        assert 1 <= load_checkpoint(folder / name).epoch <= saved + 1
    assert "it still trains, or was killed" in failed_checks(gainakt, folder)[CORRELATIONS]


def test_one_file_that_cannot_be_written_is_recorded_as_the_reason(
    gainakt: Callable[..., Outcome],
    train_tiny: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill_disk(monkeypatch, FullDisk("state_last.pt", write=2))
    message(train_tiny())
    folder = only_run(tmp_path / "out")
    assert results(folder)["status"] == "failed"
    assert results(folder)["reason"].endswith("state_last.pt: No space left on device")
    assert "No space left on device" in readme(folder)
    assert "No space left on device" in failed_checks(gainakt, folder)[CORRELATIONS]


@pytest.mark.parametrize(
    "file", ["config.json", "run.sh", "SEEDS.md", "environment.json", "data.json"]
)
def test_a_disk_full_from_the_start_leaves_no_folder(
    file: str, train_tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, FullDisk(file, write=1))
    told = message(train_tiny())
    assert f"{file}: No space left on device" in told
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_log_that_takes_no_more_ends_the_run(
    train_tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunFolder, "log", Path("/dev/full"))
    told = message(train_tiny())
    assert told == "gainakt: cannot write /dev/full: No space left on device"
    assert list((tmp_path / "out").iterdir()) == []


def private_mounts() -> list[str]:
    """The command that runs another with mounts of its own; skips where that is not allowed."""
    command = ["unshare", "--user", "--map-root-user", "--mount"]
    unshare = shutil.which("unshare")
    trial = [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if unshare is None or subprocess.run(trial, capture_output=True).returncode:
        pytest.skip("this system gives no mounts of one's own, so no small disk can be made")
    return command


@pytest.mark.parametrize(
    ("options", "reason"),
    [("size=120k", "No space left on device"), ("ro", "Read-only file system")],
)
def test_a_real_disk_that_is_full_or_read_only(
    options: str, reason: str, tiny_data: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o "$0" tmpfs "$1"; shift; "$@"; echo "exit $?"; cd "$disk"; head */*'
    answer = subprocess.run(
        [
            *(*private_mounts(), "sh", "-c", script, options, disk, sys.executable),
            *("-m", "gainakt", *tiny_command(tiny_data, disk)),
        ],
        env={**os.environ, "disk": str(disk)},
        capture_output=True,
        text=True,
        errors="replace",
    )
    told, _, left = answer.stdout.partition("exit 1\n")
    assert told == ""
    assert f": {reason}" in message(Outcome(1, left, answer.stderr))
    assert "completed" not in left
    assert ".writing" not in left


def test_an_out_that_is_a_file(train_tiny: Train, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content", encoding="utf-8")
    told = message(train_tiny(out=tmp_path / "file"))
    assert f"{tmp_path / 'file'} is a file, must be a folder" in told
    assert (tmp_path / "file").read_text(encoding="utf-8") == "content"


def test_an_out_under_a_file(train_tiny: Train, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Not a directory" in message(train_tiny(out=tmp_path / "file" / "out"))


def test_a_folder_of_the_same_second_is_never_overwritten(
    train_tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Stopped:
            return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr("gainakt.cli.training.datetime", Stopped)
    kept = tmp_path / "out" / "20260102_030405_gainakt2exp_run" / "config.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine", encoding="utf-8")
    assert train_tiny("--quiet", epochs=1).code == 0
    assert (tmp_path / "out" / f"{kept.parent.name}-2" / "README.md").is_file()
    assert [path.name for path in kept.parent.iterdir()] == ["config.json"]
    assert kept.read_text(encoding="utf-8") == "mine"
    assert train_tiny("--quiet", short_title="other", epochs=1).code == 0


# ------------------------------------------------------------------ data and settings


def expect_refusal(outcome: Outcome, out: Path, *words: str) -> None:
    """One message that holds the words, and nothing left on the disk."""
    told = message(outcome)
    for word in words:
        assert word in told
    assert outcome.out == ""
    assert not out.exists()


def test_a_gpu_that_is_not_there(train_tiny: Train, tmp_path: Path) -> None:
    outcome = train_tiny(devices="cuda:99")
    expect_refusal(
        outcome, tmp_path / "out", "hardware.devices = 'cuda:99'", "this machine has", "'cpu'"
    )


@pytest.mark.parametrize(("slowdown", "told"), [(2.7, True), (0.3, False)])
def test_bf16_that_makes_a_processor_slower_is_said(
    slowdown: float, told: bool, train_tiny: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gainakt.experiment.run.bf16_slowdown", lambda device: slowdown)
    outcome = train_tiny(epochs=1, use_amp=True)
    assert outcome.code == 0
    assert ("this processor takes 2.7 times longer in bf16" in outcome.err) is told


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"epochs": 1}, True), ({"epochs": 1, "model": "bkt"}, False)],
    ids=["few steps", "fitted at once"],
)
def test_settings_that_leave_few_steps_are_said(
    settings: dict[str, object], told: bool, train_tiny: Train
) -> None:
    if "model" in settings:
        settings |= dict.fromkeys(("d_model", "n_heads", "num_encoder_blocks", "d_ff"))
    outcome = train_tiny(**settings)
    assert outcome.code == 0
    assert ("in all, however long it takes" in outcome.err) is told
    assert not told or "try a smaller batch_size (now 16) or more epochs" in outcome.err


def test_a_data_set_that_is_not_there(train_tiny: Train, tmp_path: Path) -> None:
    outcome = train_tiny(data=tmp_path / "nowhere")
    expect_refusal(outcome, tmp_path / "out", f"no prepared data set at {tmp_path / 'nowhere'}")


def damaged_table(folder: Path) -> None:
    path = folder / "interactions.parquet"
    path.write_bytes(path.read_bytes()[:-200])


def tampered_counts(folder: Path) -> None:
    tampered(folder, lambda manifest: manifest["counts"].update(students=59))


def tampered_hash(folder: Path) -> None:
    tampered(folder, lambda manifest: manifest.update(interactions_sha256="0" * 64))


def tampered_skills(folder: Path) -> None:
    tampered(folder, lambda manifest: manifest["skills"].reverse())


def tampered(folder: Path, edit: Callable[[Any], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    edit(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damaged_table, "interactions.parquet is damaged"),
        (tampered_counts, "counts 59 students"),
        (tampered_hash, "does not match the hash in manifest.json"),
        (tampered_skills, "does not list the skills"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "cannot be read as JSON"),
    ],
)
def test_a_damaged_data_set(
    train_tiny: Train, tiny_data: Path, tmp_path: Path, damage: Callable[[Path], Any], words: str
) -> None:
    data = shutil.copytree(tiny_data, tmp_path / "data")
    damage(data)
    expect_refusal(train_tiny(data=data), tmp_path / "out", words)


RIGHT, WRONG = ("a", 1), ("b", 0)


@pytest.mark.parametrize(
    ("training", "validation", "words"),
    [
        ([RIGHT] * 5, [RIGHT, WRONG] * 3, "every answer of the train students of fold 0 is 1"),
        ([RIGHT, WRONG] * 3, [WRONG] * 5, "every answer of the valid students of fold 0 is 0"),
        ([RIGHT, WRONG], [RIGHT, WRONG] * 3, "train students of fold 0 have fewer than 3"),
        ([RIGHT, WRONG] * 3, [RIGHT, WRONG], "valid students of fold 0 have fewer than 3"),
    ],
)
def test_students_that_nothing_can_be_learnt_from(
    train_tiny: Train,
    write_students: Callable[..., Path],
    tmp_path: Path,
    training: list[tuple[str, int]],
    validation: list[tuple[str, int]],
    words: str,
) -> None:
    data = write_students({"t1": (1, training), "t2": (2, training), "v": (0, validation)})
    expect_refusal(train_tiny(data=data), tmp_path / "out", words)


def test_data_without_training_students(
    train_tiny: Train, write_students: Callable[..., Path], tmp_path: Path
) -> None:
    data = write_students({"v": (0, [RIGHT, WRONG] * 3)})
    expect_refusal(train_tiny(data=data), tmp_path / "out", "has no train students")


def test_a_fold_that_is_not_there(train_tiny: Train, tmp_path: Path) -> None:
    outcome = train_tiny(fold=9)
    expect_refusal(outcome, tmp_path / "out", "has no fold 9; its folds are 0, 1, 2, 3, 4")


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--n_heads=3", "n_heads = 3 must divide d_model = 8"),
        ("--epochs=0", "training.epochs = 0: Input should be greater than or equal to 1"),
        ("--epochs=two", "epochs"),
        ("--alignment_weight=-1", "alignment.alignment_weight = -1"),
        ("--learning_rate=nan", "training.learning_rate = nan"),
        ("--dropout=1", "model.dropout = 1"),
        ("--devices=tpu", "hardware.devices = 'tpu'"),
        ("--model=lstm", "'lstm' is not a model"),
        ("--short_title=../up", "experiment.short_title = '../up'"),
        ("--use_gain_head=false", "use_mastery_head = true needs use_gain_head = true"),
        ("--retention_wieght=1", "--retention_weight"),
        ("--config=quikstart", "did you mean 'quickstart'?"),
    ],
)
def test_an_impossible_setting(
    gainakt: Callable[..., Outcome], tiny_data: Path, tmp_path: Path, flag: str, words: str
) -> None:
    name = flag.partition("=")[0]
    command = [w for w in tiny_command(tiny_data, tmp_path / "out") if not w.startswith(name + "=")]
    expect_refusal(gainakt(*command, flag), tmp_path / "out", words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"training": {"epoch": 3}}', "unknown parameter training.epoch; did you mean 'epochs'?"),
        ('{"trainin": {}}', "unknown group 'trainin'; did you mean 'training'?"),
        ('{"training": {"epochs": "3"}}', "training.epochs = '3'"),
        ('{"training": 3}', "group 'training' must hold parameters by name"),
        ('{"training": ', "cannot be read as JSON"),
        ("[]", "must hold groups of parameters"),
    ],
)
def test_a_configuration_file_with_a_mistake(
    gainakt: Callable[..., Outcome], tiny_data: Path, tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "mine.json").write_text(content, encoding="utf-8")
    outcome = gainakt(
        *("train", "--config", tmp_path / "mine.json", "--data", tiny_data),
        *("--out", tmp_path / "out"),
    )
    expect_refusal(outcome, tmp_path / "out", words)
