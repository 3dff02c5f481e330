"""The ten checks: each damage turns exactly its row, with a reason that names the problem."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gainakt.record.checklist import CHECKS
from tests.conftest import Outcome

NAME, CONFIG, SCRIPT, WEIGHTS, METRICS, LOG, GIT, SEEDS, MACHINE, CORRELATIONS = CHECKS

Damage = Callable[[Path], Path | None]


def renamed(name: str) -> Damage:
    return lambda folder: folder.rename(folder.with_name(name))


def replaced(file: str, old: str, new: str) -> Damage:
    """Exchange a piece of text in a file for another; the file must hold it."""

    def damage(folder: Path) -> None:
        text = (folder / file).read_text(encoding="utf-8")
        assert old in text, f"{file} does not hold {old!r}"
        (folder / file).write_text(text.replace(old, new), encoding="utf-8")

    return damage


def written(file: str, content: bytes) -> Damage:
    return lambda folder: (folder / file).write_bytes(content) and None


def removed(file: str) -> Damage:
    return lambda folder: (folder / file).unlink()


def edited(file: str, edit: Callable[[Any], object]) -> Damage:
    """Change the content of a JSON file in place."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / file).read_text(encoding="utf-8"))
        edit(content)
        (folder / file).write_text(json.dumps(content, indent=2), encoding="utf-8")

    return damage


def without(file: str, *keys: str) -> Damage:
    """Remove one key of a JSON file, given the keys that lead to it."""

    def edit(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return edited(file, edit)


def having(file: str, value: object, *keys: str) -> Damage:
    """Set one key of a JSON file, given the keys that lead to it."""

    def edit(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        assert content[keys[-1]] != value
        content[keys[-1]] = value

    return edited(file, edit)


def lines(file: str, edit: Callable[[list[str]], object]) -> Damage:
    """Change the lines of a text file in place."""

    def damage(folder: Path) -> None:
        found = (folder / file).read_text(encoding="utf-8").splitlines()
        edit(found)
        (folder / file).write_text("\n".join(found) + "\n", encoding="utf-8")

    return damage


def ending_before(start: str) -> Callable[[list[str]], None]:
    def edit(found: list[str]) -> None:
        del found[next(i for i, line in enumerate(found) if line.startswith(start)) :]

    return edit


def cell(column: str, value: str) -> Damage:
    """Set the value of a column in the last row of the metrics."""

    def edit(found: list[str]) -> None:
        values = found[-1].split(",")
        values[found[0].split(",").index(column)] = value
        found[-1] = ",".join(values)

    return lines("metrics_epoch.csv", edit)


def without_column(column: str) -> Damage:
    def edit(found: list[str]) -> None:
        place = found[0].split(",").index(column)
        for i, line in enumerate(found):
            values = line.split(",")
            found[i] = ",".join(values[:place] + values[place + 1 :])

    return lines("metrics_epoch.csv", edit)


def truncated(file: str, share: float = 0.5) -> Damage:
    def damage(folder: Path) -> None:
        whole = (folder / file).read_bytes()
        (folder / file).write_bytes(whole[: int(len(whole) * share)])

    return damage


def swapped_checkpoint(folder: Path) -> None:
    other = folder / "model_other.safetensors"
    best, last = folder / "model_best.safetensors", folder / "model_last.safetensors"
    # the run's own weights with one number changed: readable, but not what the run wrote
    from gainakt.record.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(last)
    next(iter(checkpoint.weights.values())).view(-1)[0] += 1
    save_checkpoint(other, checkpoint)
    other.replace(best)


def flipped_bit(folder: Path) -> None:
    path = folder / "model_last.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def reordered_groups(folder: Path) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({"data": content.pop("data"), **content}), encoding="utf-8")


def commented_out(folder: Path) -> None:
    replaced("run.sh", "    gainakt train ", "    # gainakt train ")(folder)


def not_executable(folder: Path) -> None:
    (folder / "run.sh").chmod(0o644)


CSV, RESULTS = "metrics_epoch.csv", "results.json"
BEST, LAST = "model_best.safetensors", "model_last.safetensors"

# row, damage, words that the reason must hold
DAMAGES: dict[str, tuple[str, Damage, str]] = {
    "name without a time": (NAME, renamed("my_run"), "'my_run' is not YYYYMMDD_HHMMSS_model"),
    "name with an impossible time": (
        NAME,
        renamed("20261332_250000_gainakt2exp_run"),
        "20261332_250000 is not a date",
    ),
    "name with an unknown model": (NAME, renamed("20260101_120000_lstm_run"), "known model"),
    "name without a title": (NAME, renamed("20260101_120000_gainakt2exp_"), "short_title"),
    "config parameter removed": (
        CONFIG,
        without("config.json", "alignment", "alignment_weight"),
        "parameter alignment.alignment_weight is missing",
    ),
    "config model parameter removed": (
        CONFIG,
        without("config.json", "model", "dropout"),
        "parameter model.dropout is missing",
    ),
    "config parameter changed": (
        CONFIG,
        having("config.json", 0.5, "training", "learning_rate"),
        "config.json was changed",
    ),
    "config parameter changed that the hash leaves out": (
        CONFIG,
        having("config.json", 500, "evaluation", "bootstrap_samples"),
        "override_applied is",
    ),
    "config parameter impossible": (
        CONFIG,
        having("config.json", 3, "model", "n_heads"),
        "n_heads = 3 must divide d_model = 8",
    ),
    "config parameter unknown": (
        CONFIG,
        edited("config.json", lambda c: c["training"].update(learning_rat=1.0)),
        "unknown parameter training.learning_rat; did you mean 'learning_rate'?",
    ),
    "config group removed": (CONFIG, without("config.json", "refinement"), "groups are ["),
    "config groups in another order": (CONFIG, reordered_groups, "in this order"),
    "config overrides removed": (
        CONFIG,
        without("config.json", "override_applied"),
        "override_applied is None",
    ),
    "config command emptied": (
        CONFIG,
        having("config.json", "", "runtime", "command"),
        "runtime.command is empty",
    ),
    "script parameter changed": (
        SCRIPT,
        replaced("run.sh", "--epochs=2", "--epochs=3"),
        "builds configuration",
    ),
    "script parameter removed": (
        SCRIPT,
        replaced("run.sh", " --retention_delta=0.005", ""),
        "does not spell out retention_delta",
    ),
    "script parameter misspelt": (
        SCRIPT,
        replaced("run.sh", "--epochs=2", "--epoch=2"),
        "unknown parameter 'epoch'",
    ),
    "script parameter of another type": (
        SCRIPT,
        replaced("run.sh", "--epochs=2", "--epochs=two"),
        "epochs = 'two'",
    ),
    "script not executable": (SCRIPT, not_executable, "run.sh is not executable"),
    "script without training": (SCRIPT, commented_out, "holds 0 commands `gainakt train`"),
    "script without evaluation": (
        SCRIPT,
        replaced("run.sh", "gainakt evaluate", "true"),
        "holds 0 commands `gainakt evaluate`",
    ),
    "script cut off": (
        SCRIPT,
        replaced("run.sh", "step $step;", 'step $step; "'),
        "not a whole shell script",
    ),
    "script emptied": (SCRIPT, replaced("run.sh", "gainakt", ""), "holds 0 commands"),
    "script removed": (SCRIPT, removed("run.sh"), "run.sh is missing"),
    "best checkpoint truncated": (WEIGHTS, truncated(BEST), "not a readable checkpoint"),
    "best checkpoint without its last byte": (
        WEIGHTS,
        lambda folder: truncated(BEST, 1 - 1 / (folder / BEST).stat().st_size)(folder),
        "not a readable checkpoint",
    ),
    "best checkpoint swapped": (WEIGHTS, swapped_checkpoint, f"{BEST} is not the file that"),
    "last checkpoint with a bit flipped": (WEIGHTS, flipped_bit, f"{LAST} is not the file that"),
    "last checkpoint removed": (WEIGHTS, removed(LAST), f"{LAST}: no such checkpoint"),
    "last checkpoint of another kind": (
        WEIGHTS,
        written(LAST, b"\x80\x04not safetensors"),
        f"{LAST}: not a readable checkpoint",
    ),
    "metrics row removed": (METRICS, lines(CSV, lambda ls: ls.pop()), "1 rows for 2 epochs"),
    "metrics row repeated": (METRICS, lines(CSV, lambda ls: ls.append(ls[-1])), "3 rows for 2"),
    "metrics rows swapped": (
        METRICS,
        lines(CSV, lambda ls: ls.insert(1, ls.pop())),
        "row 1 is epoch '2'",
    ),
    "metrics value blanked": (METRICS, cell("val_auc", ""), "epoch 2: val_auc has no value"),
    "metrics value not finite": (METRICS, cell("train_loss", "nan"), "train_loss = 'nan' is not"),
    "metrics value not a number": (METRICS, cell("val_loss", "low"), "val_loss = 'low' is not"),
    "metrics correlation blanked": (
        METRICS,
        cell("mastery_correlation", ""),
        "mastery_correlation has no value",
    ),
    "metrics cut within a row": (
        METRICS,
        lines(CSV, lambda ls: ls.append(ls.pop().rsplit(",", 8)[0])),
        "epoch 2: alignment_loss_share has no value",
    ),
    "metrics column removed": (
        METRICS,
        without_column("lag_loss_share"),
        "lacks the column lag_loss_share",
    ),
    "metrics emptied": (METRICS, written(CSV, b""), "lacks the column epoch"),
    "metrics not text": (METRICS, written(CSV, b"\xff\xfe\x00"), "cannot be read"),
    "metrics removed": (METRICS, removed(CSV), f"{CSV} is missing"),
    "log emptied": (LOG, written("stdout.log", b"\n"), "stdout.log is empty"),
    "log cut off": (
        LOG,
        lines("stdout.log", ending_before("epoch 2/2 done")),
        "does not report the end of epoch 2",
    ),
    "log not text": (LOG, written("stdout.log", b"\xff\xfe"), "stdout.log cannot be read"),
    "log removed": (LOG, removed("stdout.log"), "stdout.log is missing"),
    "commit missing": (
        GIT,
        having("environment.json", None, "git", "commit"),
        "git commit None is not a commit id",
    ),
    "commit not an id": (GIT, having("environment.json", "HEAD", "git", "commit"), "'HEAD'"),
    "branch missing": (GIT, having("environment.json", "", "git", "branch"), "no git branch"),
    "uncommitted changes missing": (
        GIT,
        having("environment.json", True, "git", "dirty"),
        "uncommitted changes are not recorded",
    ),
    "dirty flag missing": (
        GIT,
        without("environment.json", "git", "dirty"),
        "whether there were uncommitted changes",
    ),
    "git state missing": (GIT, without("environment.json", "git"), "does not record git"),
    "another primary seed": (
        SEEDS,
        replaced("SEEDS.md", "- primary: 42", "- primary: 43"),
        "does not say 'primary: 42'",
    ),
    "other seeds": (SEEDS, replaced("SEEDS.md", "all: 42", "all: 42, 43"), "'all: 42'"),
    "seeds emptied": (SEEDS, written("SEEDS.md", b"# Seeds\n"), "'primary: 42'"),
    "seeds removed": (SEEDS, removed("SEEDS.md"), "SEEDS.md is missing"),
    "torch version missing": (
        MACHINE,
        without("environment.json", "packages", "torch"),
        "version of package torch is not recorded",
    ),
    "packages missing": (MACHINE, without("environment.json", "packages"), "of package torch"),
    "python version missing": (
        MACHINE,
        having("environment.json", "", "python"),
        "does not record python",
    ),
    "threads missing": (
        MACHINE,
        without("environment.json", "threads"),
        "does not record threads",
    ),
    "mastery_corr None": (
        CORRELATIONS,
        having(RESULTS, None, "mastery_corr"),
        "mastery_corr is None, but consistency.mastery_correlation is",
    ),
    "gain_corr not finite": (
        CORRELATIONS,
        having(RESULTS, float("nan"), "gain_corr"),
        "gain_corr is nan, not a number",
    ),
    "gain_corr missing": (CORRELATIONS, without(RESULTS, "gain_corr"), "gain_corr is missing"),
    "violation rate missing": (
        CORRELATIONS,
        without(RESULTS, "consistency", "negative_gain_rate"),
        "negative_gain_rate is missing",
    ),
    "clock missing": (
        CORRELATIONS,
        without(RESULTS, "consistency", "clock_correlation"),
        "clock_correlation is missing",
    ),
    "still running": (CORRELATIONS, having(RESULTS, "running", "status"), "was killed and can be"),
    "interrupted": (
        CORRELATIONS,
        having(RESULTS, "interrupted", "status"),
        "the run is interrupted (it can be resumed)",
    ),
    "failed": (
        CORRELATIONS,
        edited(RESULTS, lambda r: r.update(status="failed", reason="disk full")),
        "the run is failed (disk full)",
    ),
    "trajectory entry removed": (
        CORRELATIONS,
        edited("trajectory.json", lambda entries: entries.pop()),
        "trajectory.json has 1 entries for 2 epochs",
    ),
    "trajectory without global correlations": (
        CORRELATIONS,
        edited("trajectory.json", lambda entries: entries[1].pop("global")),
        "trajectory.json, epoch 2: global is missing",
    ),
    "trajectory not JSON": (
        CORRELATIONS,
        truncated("trajectory.json"),
        "trajectory.json cannot be read as JSON",
    ),
    "trajectory removed": (
        CORRELATIONS,
        removed("trajectory.json"),
        "trajectory.json is missing",
    ),
}


def checks_of(outcome: Outcome) -> dict[str, dict[str, Any]]:
    return {check["title"]: check for check in json.loads(outcome.out)}


def test_every_check_has_a_damage() -> None:
    assert {row for row, _, _ in DAMAGES.values()} == set(CHECKS)
    assert len(CHECKS) == 10


@pytest.mark.parametrize(("row", "damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_a_damage_turns_exactly_its_row(
    run_copy: Path, gainakt: Callable[..., Outcome], row: str, damage: Damage, words: str
) -> None:
    folder = damage(run_copy) or run_copy
    outcome = gainakt("check", folder, "--json")
    failed = [title for title, check in checks_of(outcome).items() if not check["passed"]]
    assert failed == [row]
    assert words in checks_of(outcome)[row]["reason"]
    assert outcome.code == 1
    assert outcome.err == ""


def test_a_whole_copy_elsewhere_passes_ten_times(
    run_copy: Path, gainakt: Callable[..., Outcome]
) -> None:
    outcome = gainakt("check", run_copy)
    assert outcome.out.splitlines() == [f"✅ {title}" for title in CHECKS]
    assert outcome.code == 0


def test_the_printed_list_gives_mark_and_reason(
    run_copy: Path, gainakt: Callable[..., Outcome]
) -> None:
    (run_copy / "SEEDS.md").unlink()
    printed = gainakt("check", run_copy).out.splitlines()
    assert len(printed) == 10
    assert printed.count("❌ Seeds documented: SEEDS.md is missing") == 1
    assert sum(line.startswith("✅") for line in printed) == 9


def test_a_run_is_found_by_the_start_of_its_name(
    run_copy: Path,
    gainakt: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    run_copy.parent.rename(tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)
    assert gainakt("check", run_copy.name[:12]).code == 0
    shutil.copytree(
        tmp_path / "experiments" / run_copy.name,
        tmp_path / "experiments" / f"{run_copy.name}_too",
    )
    outcome = gainakt("check", run_copy.name[:12])
    assert outcome.code == 1
    assert "is the start of several runs" in outcome.err


@pytest.mark.parametrize("run", ["nowhere", "/nowhere/at/all", "**", "nowhere/"])
def test_no_such_run_is_said_plainly(
    gainakt: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = gainakt("check", run)
    assert outcome.code == 1
    assert outcome.err.startswith(f"gainakt: no experiment folder {run!r}")
    assert outcome.out == ""


def test_an_empty_folder_fails_every_check(gainakt: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = gainakt("check", tmp_path / "empty", "--json")
    assert outcome.code == 1
    assert [check["passed"] for check in checks_of(outcome).values()] == [False] * 10
    assert all(check["reason"] for check in checks_of(outcome).values())


@pytest.mark.parametrize("content", ["[]", "{}", "null", "7", "not json", ""])
@pytest.mark.parametrize("file", ["config.json", "results.json", "environment.json"])
def test_a_file_of_another_shape_fails_checks_and_nothing_else(
    run_copy: Path, gainakt: Callable[..., Outcome], file: str, content: str
) -> None:
    (run_copy / file).write_text(content, encoding="utf-8")
    outcome = gainakt("check", run_copy, "--json")
    assert outcome.code == 1
    assert outcome.err == ""
    own = {"config.json": CONFIG, "results.json": CORRELATIONS, "environment.json": MACHINE}[file]
    assert checks_of(outcome)[own]["reason"]
    assert checks_of(outcome)[NAME]["passed"]


def test_checking_changes_nothing(run_copy: Path, gainakt: Callable[..., Outcome]) -> None:
    before = {path.name: path.read_bytes() for path in run_copy.iterdir()}
    gainakt("check", run_copy)
    assert {path.name: path.read_bytes() for path in run_copy.iterdir()} == before
