"""Files are written whole, by one at a time, and nobody else's file is touched."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gainakt.errors import ExperimentError
from gainakt.files import only_one, replacing, write_atomically
from gainakt.words import printable


def test_two_writers_of_one_file_leave_one_of_the_two_whole(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    texts = [bytes([48 + number]) * 200_000 for number in range(8)]
    writers = [threading.Thread(target=write_atomically, args=(target, text)) for text in texts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert target.read_bytes() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_link_that_lies_in_the_way_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "thesis.txt"
    victim.write_text("years of work")
    for name in ("p.parquet.writing", ".p.parquet.writing"):
        (tmp_path / name).symlink_to(victim)
    write_atomically(tmp_path / "p.parquet", b"new")
    assert victim.read_text() == "years of work" and (tmp_path / "p.parquet").read_bytes() == b"new"


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.write_text("old")
    with pytest.raises(ValueError), replacing(target) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert target.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


HOLD = """
import sys
from pathlib import Path
from gainakt.files import only_one
with only_one(Path(sys.argv[1]), "training"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_of_a_folder_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with (
        pytest.raises(ExperimentError, match=r"being written by another process.*evaluating"),
        only_one(tmp_path, "evaluating"),
    ):
        pytest.fail("the folder is held")
    holder.kill()
    holder.communicate()
    with only_one(tmp_path, "evaluating"):
        assert list(tmp_path.iterdir()) == []


def test_what_is_shown_commands_no_terminal() -> None:
    assert printable("a\x1b[31mb\x07\n\tc\x9bd\ud800") == "a\\x1b[31mb\\x07\n\tc\\x9bd\\ud800"
    assert printable("Brüche · 分数") == "Brüche · 分数"
