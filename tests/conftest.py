"""Helpers that several test files share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

_DEFAULT_DATA = Path(__file__).parents[1] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """The folder of a real data set by name; skips the test where it is not at hand."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("GAINAKT_DATA", _DEFAULT_DATA)).resolve() / name
        if not folder.is_dir():
            pytest.skip(f"real data {name!r} is not at hand; set GAINAKT_DATA to its parent folder")
        return folder

    return find


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Compute on one thread: tiny tensors gain nothing from more, and results repeat to the bit."""
    import torch

    torch.set_num_threads(1)


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str


@pytest.fixture
def gainakt(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Run the command line in this process: `gainakt("check", folder)`."""
    from gainakt.cli import main

    def run(*words: object) -> Outcome:
        arguments = [str(word) for word in words]
        monkeypatch.setattr("sys.argv", ["gainakt", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main()
        return Outcome(int(leaving.value.code or 0), *capsys.readouterr())

    return run


# A model and a run so small that training takes a fraction of a second.
TINY: Mapping[str, object] = {
    "epochs": 2,
    "batch_size": 16,
    "seq_len": 20,
    "d_model": 8,
    "n_heads": 2,
    "num_encoder_blocks": 1,
    "d_ff": 16,
    "monitor_freq": 1,
    "threads": 1,
    "devices": "cpu",
    "bootstrap_samples": 100,
}


def tiny_command(data: Path, out: Path, **parameters: object) -> list[str]:
    """The words after `gainakt` that train a tiny model; `parameters` come on top, None drops."""
    chosen = {name: value for name, value in (TINY | parameters).items() if value is not None}
    flags = [f"--{name}={value}" for name, value in chosen.items()]
    # most tests look at the run, and drawing it takes longer than training it
    return ["train", f"--data={data}", f"--out={out}", *flags, "--no-report"]


@pytest.fixture
def train_tiny(
    gainakt: Callable[..., Outcome], tiny_data: Path, tmp_path: Path
) -> Callable[..., Outcome]:
    """Train a tiny model into `tmp_path / "out"`: `train_tiny(epochs=1)`."""

    def train(*words: str, data: Path = tiny_data, out: Path | None = None, **parameters: object):
        return gainakt(*tiny_command(data, out or tmp_path / "out", **parameters), *words)

    return train


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set of 60 simulated students and 4 skills; not to be changed."""
    from gainakt.data.simulate import simulate

    return simulate(tmp_path_factory.mktemp("tiny") / "data", students=60, skills=4, seed=1).path


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """The folder of a finished run of two epochs; not to be changed (see `run_copy`).

    The state of the code is made up, so that the run is the same outside a git repository.
    """
    return _trained(tmp_path_factory, tiny_data)


@pytest.fixture(scope="session")
def gainsum_run(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """The folder of a finished run of GainSum; not to be changed."""
    return _trained(tmp_path_factory, tiny_data, config="gainsum", num_encoder_blocks=None)


def _trained(factory: pytest.TempPathFactory, data: Path, **parameters: object) -> Path:
    from gainakt.cli import main

    git = {"commit": "0123456789" * 4, "branch": "main", "dirty": False, "changes": [], "diff": ""}
    out = factory.mktemp("finished") / "experiments"
    command = [*tiny_command(data, out, **parameters), "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gainakt.record.provenance.git_state", lambda package: git)
        patch.setattr("sys.argv", ["gainakt", *command])
        with pytest.raises(SystemExit) as leaving:
            main()
    assert not leaving.value.code
    (folder,) = out.iterdir()
    return folder


EVIL = "<script>alert(1)</script>"
LONG = "fractions of " * 40 + "a whole"


@pytest.fixture(scope="session")
def strange_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One epoch of GainSum on skills and students of strange names."""
    import numpy as np
    import pyarrow as pa

    from gainakt.cli import main
    from gainakt.data.writing import write_dataset

    skills = [EVIL, LONG, "Brüche · 分数 \N{THUMBS UP SIGN}", "a\"b'&c", "=1+1"]
    rng = np.random.default_rng(0)
    rows = [
        (f"s{student}<b>", order, skills[int(rng.integers(5))], int(rng.integers(2)), student % 3)
        for student in range(30)
        for order in range(15)
    ]
    names = ("student_id", "order", "skill_id", "correct", "fold")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    out = tmp_path_factory.mktemp("strange")
    data = write_dataset(
        out / "data",
        [pa.table(columns)],
        name="<i>strange</i>",
        reader="test",
        split_method="by hand",
        sources=[],
        filters=[],
        options={},
    )
    command = tiny_command(
        data.path, out / "runs", config="gainsum", epochs=1, num_encoder_blocks=None
    )
    with pytest.raises(SystemExit) as leaving:
        main([*command, "--quiet"])
    assert not leaving.value.code
    (folder,) = (out / "runs").iterdir()
    return folder


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run in another place, to be damaged."""
    return shutil.copytree(finished_run, tmp_path / "elsewhere" / finished_run.name)


Students = Mapping[str, tuple[int, Sequence[tuple[str, int]]]]


@pytest.fixture
def write_students(tmp_path: Path) -> Callable[..., Path]:
    """Write a prepared data set of given students: name -> (fold, [(skill, answer), ...])."""
    import pyarrow as pa

    from gainakt.data.writing import write_dataset

    def write(students: Students, name: str = "handmade") -> Path:
        rows = [
            (student, order, skill, answer, fold)
            for student, (fold, steps) in students.items()
            for order, (skill, answer) in enumerate(steps)
        ]
        columns = ("student_id", "order", "skill_id", "correct", "fold")
        table = pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))
        return write_dataset(
            tmp_path / name,
            [table],
            name=name,
            reader="test",
            split_method="by hand",
            sources=[],
            filters=[],
            options={},
        ).path

    return write
