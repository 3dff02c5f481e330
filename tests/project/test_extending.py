"""The examples of docs/extending.md, put into a copy of the package word for word, work."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TINY, Outcome

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str, str]] = re.findall(
    r'^```(\w+) title="([^"]+)"\n(.*?)^```', PAGE, re.MULTILINE | re.DOTALL
)
COMMANDS: list[str] = re.findall(r"^gainakt .*", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with everything that the page adds."""
    folder = tmp_path_factory.mktemp("house")
    for name in ("gainakt", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for language, title, text in BLOCKS:
        path = folder / title
        if language == "diff":
            path.write_text(changed(path.read_text(encoding="utf-8"), text), encoding="utf-8")
        else:
            assert not path.exists(), f"{title} is to be a new file"
            path.write_text(text, encoding="utf-8")
    return folder


def changed(text: str, difference: str) -> str:
    """`text` with the lines that begin with + in the place of those that begin with -."""
    lines = difference.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] in " -")
    after = "".join(line[1:] for line in lines if line[0] in " +")
    assert text.count(before) == 1, f"the page shows lines that are not there:\n{before}"
    return text.replace(before, after)


# One process for all commands: what takes time is importing torch.
DRIVER = """
import contextlib, io, json, sys
from gainakt.cli import main
folder = ""
for words in json.load(sys.stdin):
    words = [folder if word == "RUN" else word for word in words]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as end:
            code = end.code
    if words[0] == "train":
        folder = out.getvalue().strip()
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""


def run(house: Path, *commands: str) -> list[Outcome]:
    """Run commands in the copy, RUN being what was trained last; what each left."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps([shlex.split(command)[1:] for command in commands]),
        cwd=house,
        env={**os.environ, "PYTHONPATH": str(house), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Outcome(*json.loads(line)) for line in done.stdout.splitlines()]


def command_with(part: str) -> str:
    (found,) = [command for command in COMMANDS if part in command]
    return found


def tiny(command: str, data: Path, *without: str) -> str:
    """The command for the data set, with a model so small that it trains at once."""
    chosen = {**TINY, "epochs": 1}
    flags = [f"--{name}={value}" for name, value in chosen.items() if name not in without]
    return " ".join([command.replace("DIR", str(data)), *flags, "--quiet"])


def results(outcome: Outcome, name: str) -> Path:
    """A file of the run that a command trained."""
    assert outcome.code == 0, outcome.err
    return Path(outcome.out.strip()) / name


def test_the_model_trains_and_is_evaluated(house: Path, tiny_data: Path) -> None:
    own = ("d_model", "n_heads", "num_encoder_blocks", "d_ff")
    trained, checked, evaluated = run(
        house,
        tiny(command_with("--model log_counts"), tiny_data, *own),
        "gainakt check RUN",
        "gainakt evaluate RUN --quiet",
    )
    config = json.loads(results(trained, "config.json").read_text(encoding="utf-8"))
    assert config["experiment"]["model"] == "log_counts"
    assert evaluated.out.startswith("test AUC"), evaluated.err
    assert re.fullmatch(r"(✅ .*\n){10}", checked.out)


def test_the_learner_without_gradients_is_a_run(house: Path, tiny_data: Path) -> None:
    own = ("d_model", "n_heads", "num_encoder_blocks", "d_ff")
    trained, checked, evaluated, explained = run(
        house,
        tiny(command_with("--model recent_rate"), tiny_data, *own),
        "gainakt check RUN",
        "gainakt evaluate RUN --quiet",
        "gainakt explain RUN --student s00003",
    )
    assert json.loads(results(trained, "results.json").read_text())["best"]["val_auc"] > 0.5
    assert re.fullmatch(r"(✅ .*\n){10}", checked.out)
    assert evaluated.out.startswith("test AUC"), evaluated.err
    assert "mastery" in explained.out


COLUMN = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from gainakt.data.batches import make_batch
from gainakt.data.interactions import load_dataset
from gainakt.data.sequences import chunk_sequences
data = load_dataset("data/hints")
batch = make_batch(chunk_sequences(data, np.arange(1), 10), np.arange(1))
print(data.rows.hints.tolist(), batch.hints.tolist(), batch.next_hints.tolist()[:-1])
"""


def test_the_column_comes_from_the_file_to_the_batch(house: Path) -> None:
    rows = [("ada", f"k{n % 2}", n % 2, n * n) for n in range(4)]
    with (house / "hints.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("user", "topic", "right", "hints"), *rows])
    (prepared,) = run(house, command_with("--hints"))
    assert prepared.code == 0, prepared.err
    done = subprocess.run(
        [sys.executable, "-c", COLUMN, str(house)],
        cwd=house,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[0, 1, 4, 9] [0, 1, 4, 9] [1, 4, 9]"


def test_what_each_addition_touches() -> None:
    """One file and one entry; a column at most five files."""
    touched: dict[str, set[str]] = {}
    for part in PAGE.split("\n## ")[1:]:
        titles = re.findall(r'^```(?:python|diff) title="([^"]+)"', part, re.MULTILINE)
        touched[part.splitlines()[0]] = set(titles)
    for name in ("A model", "A learner without gradients", "A reader"):
        assert len(touched[name]) == 2, name
    assert len(touched["A column of the data"]) <= 5


def test_the_reader_reads_and_says_which_line_is_wrong(house: Path) -> None:
    (house / "broken.jsonl").write_text('{"who": "ada", "topic": "x", "right": 1}\n[]\n')
    listed, read, refused = run(
        house,
        "gainakt prepare --list",
        command_with("prepare jsonl"),
        "gainakt prepare jsonl broken.jsonl --out data/broken",
    )
    assert "\njsonl " in "\n" + listed.out
    assert "1 student, 3 interactions, 2 skills" in read.out
    assert refused.code == 1
    assert "broken.jsonl, row 2: not a JSON object with who, topic, right" in refused.err


def test_the_objective_counts(house: Path, tiny_data: Path) -> None:
    command = tiny(command_with("steadiness"), tiny_data)
    without = command.replace("0.5", "0") + " --short_title=without"
    losses = []
    for outcome in run(house, command, without):
        text = results(outcome, "metrics_epoch.csv").read_text(encoding="utf-8")
        (row,) = csv.DictReader(text.splitlines())
        losses.append(float(row["constraint_loss"]))
    assert losses[0] > losses[1]


def test_every_block_is_used() -> None:
    assert [language for language, _, _ in BLOCKS].count("diff") == 14
    assert len(COMMANDS) == 5
