"""docs/commands.md: every verb has its example, and the examples run, one after the other."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from gainakt.cli.main import app
from tests.conftest import TINY, Outcome

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))

# The page's models are small already; a test needs no more than a few units.
FEWER = {"--students 400": "--students 40", "--epochs 6": "--epochs 1", "--folds 0 1": "--folds 0"}
SMALLER = {**TINY, "jobs": 1, "teachers": 0}
NOT_OF_GAINSUM = ("num_encoder_blocks", "epochs", "monitor_freq")
# Two seeds differ, and the page says so.
FAILING = "gainakt compare RUN OTHER_RUN"


def examples(section: str) -> list[str]:
    """The commands in a section's code blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_every_verb_has_its_example() -> None:
    verbs = {name for name in app if not name.startswith("-")}
    assert set(SECTIONS) == verbs
    for verb, section in SECTIONS.items():
        assert f"\n    gainakt {verb} " in section, f"{verb} has no synopsis"
        lines = examples(section)
        assert lines and all(line.startswith(f"gainakt {verb} ") for line in lines), verb


def made_small(command: str) -> list[str]:
    """The words of a command after `gainakt`, for fewer students and a smaller model."""
    for much, few in FEWER.items():
        command = command.replace(much, few)
    words = shlex.split(command)[1:]
    if words[0] in ("train", "crossval"):
        words += [
            f"--{name}={value}"
            for name, value in SMALLER.items()
            if name not in NOT_OF_GAINSUM and (name != "jobs" or words[0] == "crossval")
        ]
    return words


def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gainakt: Callable[..., Outcome]
) -> None:
    monkeypatch.chdir(tmp_path)
    answers = [
        f"student {i},{'fractions' if i % 2 else 'ratios'},{right}"
        for i in range(12)
        for right in (0, 1, 1)
    ]
    Path("answers.csv").write_text("user,topic,right\n" + "\n".join(answers) + "\n")
    runs: list[str] = []
    for section in SECTIONS.values():
        for command in examples(section):
            if command.startswith("gainakt serve") or (  # it runs until it is stopped
                command.startswith("gainakt keys") and not find_spec("sqlalchemy")
            ):
                continue
            named = {"RUN": runs[-1], "OTHER_RUN": runs[-2]} if len(runs) > 1 else {}
            done = gainakt(*(named.get(word, word) for word in made_small(command)))
            said = f"{command}\n{done.out}{done.err}"
            if command.startswith("gainakt check"):
                # an uninstalled copy of the code need not be in a git repository
                assert re.fullmatch(
                    r"(✅ .*\n|❌ Git commit & branch recorded: .*\n){10}", done.out
                )
            else:
                assert done.code == (1 if command == FAILING else 0), said
            if command.startswith("gainakt train"):
                runs.append(done.out.strip())
    assert Path("explained.svg").exists()
