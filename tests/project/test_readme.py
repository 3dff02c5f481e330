"""The README keeps its word: its commands run, and its tree is the tree."""

from __future__ import annotations

import csv
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from gainakt.cli import main
from gainakt.data.interactions import Dataset
from gainakt.data.simulate import simulate

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

# The README's commands train the real thing; here a model of a few units for one epoch will do.
TINY = (
    "--epochs=1 --d_model=8 --n_heads=2 --num_encoder_blocks=1 --d_ff=8 --threads=1 "
    "--bootstrap_samples=100"
)


def blocks(language: str) -> list[str]:
    """The README's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def histories(dataset: Dataset) -> list[tuple[str, list[str], list[str], int]]:
    """Each student's id, skills, answers and fold."""
    return [
        (
            student,
            [dataset.skill_ids[code] for code in dataset.rows.skill[begin:end]],
            [str(answer) for answer in dataset.rows.response[begin:end]],
            int(dataset.folds[index]),
        )
        for index, (student, begin, end) in enumerate(
            zip(dataset.student_ids, dataset.offsets[:-1], dataset.offsets[1:], strict=True)
        )
    ]


def write_csv(path: Path, rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that the README's commands read, small, in the working directory."""
    monkeypatch.chdir(tmp_path)
    students = histories(simulate("simulated", students=60, skills=4, mean_length=10.0))
    answers: list[list[object]] = [["user", "topic", "right"]]
    answers += [
        [student, skill, answer]
        for student, skills, responses, _ in students
        for skill, answer in zip(skills, responses, strict=True)
    ]
    write_csv(Path("answers.csv"), answers)
    for name, wanted in (("train_valid.csv", (0, 1, 2, 3, 4)), ("test.csv", (-1,))):
        rows: list[list[object]] = [["fold", "uid", "concepts", "responses"]]
        rows += [
            [fold, student, ",".join(skills), ",".join(responses)]
            for student, skills, responses, fold in students
            if fold in wanted
        ]
        write_csv(Path("path/to/assist2015") / name, rows)


def run(words: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        main(words)
    code = end.value.code
    assert isinstance(code, int)
    return code


@pytest.mark.usefixtures("sources")
def test_every_command_runs_and_passes_its_checks(capsys: pytest.CaptureFixture[str]) -> None:
    folder = ""
    ran = []
    for line in "".join(blocks("sh")).splitlines():
        if not line.startswith("gainakt "):
            continue
        words = shlex.split(line, comments=True)[1:]
        if words[0] == "train":
            words += TINY.split()
        words = [folder if word == "RUN" else word for word in words]
        code = run(words)
        said = capsys.readouterr().out
        if words[0] == "check":
            # an uninstalled copy of the code need not be in a git repository
            assert re.fullmatch(r"(✅ .*\n|❌ Git commit & branch recorded: .*\n){10}", said)
        else:
            assert code == 0, line
        if words[0] == "train":
            folder = said.strip().splitlines()[-1]
        if words[0] == "evaluate":
            assert re.fullmatch(r"test AUC \(window, \d+ targets\): .*\n", said)
        ran.append(words[0])
    assert ran.count("train") == 2
    assert {"prepare", "train", "evaluate", "check"} <= set(ran)


def test_every_verb_is_in_the_table_of_commands() -> None:
    from gainakt.cli.main import app

    verbs = {name for name in app if not name.startswith("-")}
    assert set(re.findall(r"^\| `gainakt (\w+)", README, re.MULTILINE)) == verbs


def test_the_make_targets_exist() -> None:
    targets = re.findall(r"^make (\w+)", "".join(blocks("sh")), re.MULTILINE)
    assert targets == ["demo", "test"]
    for target in targets:
        # -n prints what would be done and does nothing
        done = subprocess.run(
            ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_the_first_screen_says_it_all() -> None:
    first = README.splitlines()[:30]
    assert first[2].startswith("**") and first[2].endswith(".**")
    assert any(line.startswith("make demo") for line in first)
    assert any(line.startswith("make test") for line in first)
