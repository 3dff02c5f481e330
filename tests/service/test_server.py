"""The command `gainakt serve` as a process: killed, restarted, refused, and what it says."""

from __future__ import annotations

import json
import queue
import random
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from tests.conftest import TINY  # noqa: E402
from tests.service.client import BEGIN, answer, batch_prediction  # noqa: E402

# Each costs the start of a process.
KILLS = {True: 2, False: 3}


@contextmanager
def serving(run: Path, where: str, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service in a process of its own, and its address."""
    command = [sys.executable, "-m", "gainakt", "serve", str(run), "--database", where]
    process = subprocess.Popen(
        [*command, "--port", "0", "--device", "cpu", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("serving on "), process.stderr.read()
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.communicate()


def write_until_refused(address: str, number: int, sent: queue.Queue[Any], done: list[Any]) -> None:
    """Send answers one after the other until the service is gone; `done` has the acknowledged."""
    with httpx.Client(base_url=address, timeout=20) as client:
        while True:
            one = sent.get()
            try:
                reply = client.post("/v1/answers", json=one)
            except httpx.HTTPError:
                sent.put(one)  # whether it is stored is not known: it is sent again
                return
            assert reply.status_code == 200, reply.text
            done.append(one)


def test_killed_amid_writing_it_has_every_acknowledged_answer_once(
    gainsum_run: Path, where: str
) -> None:
    from gainakt.tracer import load

    tracer = load(gainsum_run, device="cpu")
    rng = random.Random(3)
    sent: queue.Queue[Any] = queue.Queue()
    for number in range(20_000):
        skill, right, time = rng.choice(tracer.skills), rng.random() < 0.5, rng.randrange(10**6)
        student = f"s{number % 5}"
        sent.put(answer(student, f"e{number}", skills=[skill], right=right, time=BEGIN + time))
    done: list[Any] = []
    kills = KILLS["://" in where]
    for kill in range(kills):
        before = len(done)
        with serving(gainsum_run, where, "--no-keys") as (process, address):
            writers = [
                threading.Thread(target=write_until_refused, args=(address, n, sent, done))
                for n in range(3)
            ]
            for writer in writers:
                writer.start()
            while len(done) < before + 15 + 7 * kill and any(w.is_alive() for w in writers):
                writers[0].join(0.01)
            process.send_signal(signal.SIGKILL)
            for writer in writers:
                writer.join()
        assert len(done) >= before + 15
    with serving(gainsum_run, where, "--no-keys") as (process, address):
        for n in range(5):
            student = f"s{n}"
            reply = httpx.get(f"{address}/v1/student", params={"student": student}, timeout=20)
            stored = reply.json()["answers"]
            events = [a["event"] for a in stored]
            assert len(events) == len(set(events))
            kept = {a["event"]: {**a, "student": student} for a in stored}
            for one in done:
                if one["student"] == student:
                    assert {k: kept[one["event"]][k] for k in one} == one
            # no more than what was on its way when the process was killed
            acknowledged = {a["event"] for a in done if a["student"] == student}
            assert len(set(events) - acknowledged) <= 3 * kills
            params = {"student": student, "skill": tracer.skills[0]}
            said = httpx.get(f"{address}/v1/prediction", params=params, timeout=20).json()
            expected = batch_prediction(tracer, stored, tracer.skills[0])
            assert said["probability"] == pytest.approx(expected, abs=1e-5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)


def test_keys_are_made_listed_and_removed_and_needed(
    gainsum_run: Path, gainakt: Callable[..., Any], tmp_path: Path
) -> None:
    where = str(tmp_path / "a.sqlite")
    refused = gainakt("serve", gainsum_run, "--database", where)
    assert refused.code == 1 and "gainakt keys add" in refused.err
    refused = gainakt("serve", gainsum_run, "--database", where, "--no-keys", "--host", "0.0.0.0")
    assert refused.code == 1 and "--no-keys on 0.0.0.0" in refused.err
    made = gainakt("keys", "add", "--scope", "write", "--note", "the tutor", "--database", where)
    key = made.out.strip()
    with serving(gainsum_run, where) as (_, address):
        for given, status in ((key, 200), (key + "x", 401)):
            headers = {"Authorization": f"Bearer {given}"}
            assert httpx.get(f"{address}/v1/skills", headers=headers).status_code == status
    listed = gainakt("keys", "list", "--database", where).out
    assert "the tutor" in listed and key not in listed
    number = listed.split()[0]
    assert gainakt("keys", "remove", number, "--database", where).code == 0
    assert gainakt("keys", "list", "--database", where).out == ""
    gone = gainakt("keys", "remove", number, "--database", where)
    assert gone.code == 1 and number in gone.err


@pytest.mark.parametrize("where", ["mysql://x/y", "sqlite://", "/no/such/folder/a"])
def test_a_database_that_cannot_be_used_is_said(where: str, gainakt: Callable[..., Any]) -> None:
    said = gainakt("keys", "list", "--database", where)
    assert said.code == 1 and said.err.startswith("gainakt: ") and "Traceback" not in said.err


def test_a_database_of_a_later_version_is_refused(
    gainakt: Callable[..., Any], tmp_path: Path
) -> None:
    from sqlalchemy import text

    from gainakt.service.database import Database

    where = str(tmp_path / "a.sqlite")
    database = Database(where)
    with database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    said = gainakt("keys", "list", "--database", where)
    assert said.code == 1 and "version" in said.err


def test_tables_are_those_that_the_steps_make(open_database: Callable[[], Any]) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from gainakt.service.tables import Base

    with open_database().engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_without_the_extra_the_verb_says_what_to_install(
    gainakt: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gainakt.cli.serving.find_spec", lambda name: None)
    said = gainakt("keys", "list")
    assert said.code == 1 and "gainakt[serve]" in said.err


def test_the_pages_way_from_a_table_to_a_reply(
    gainakt: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = ["user,topic,right,item,when"]
    for number in range(240):
        student, item = number % 20, number % 7
        topic = ("fractions", "ratios")[item % 2]
        minute = number // 20
        rows.append(f"u{student},{topic},{number * 7 % 3 % 2},i{item},2026-11-30T14:{minute:02}:00")
    Path("answers.csv").write_text("\n".join(rows) + "\n")
    page = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)).splitlines()
    said: list[str] = []
    for line in (line for line in lines if line.startswith("gainakt ")):
        words = shlex.split(line)[1:]
        if words[0] == "serve":
            break
        if words[0] == "train":
            small = {n: v for n, v in TINY.items() if n != "num_encoder_blocks"} | {"epochs": 1}
            words += [f"--{name}={value}" for name, value in small.items()] + ["--no-report"]
        done = gainakt(*words)
        assert done.code == 0, done.err
        said.append(done.out.strip().splitlines()[-1])
    _, run, key = said
    curls = [line.replace("$KEY", key) for line in lines if line.startswith("curl ")]
    shown = [json.loads(line) for line in re.findall(r"^\{.*\}$", page, re.MULTILINE)]
    assert len(curls) == len(shown) == 2
    with serving(Path(run), "answers.sqlite") as (_, address):
        for curl, reply_shown in zip(curls, shown, strict=True):
            words = shlex.split(curl)
            url = next(word for word in words if word.startswith("http"))
            headers = dict(w.split(": ", 1) for w in words if re.match(r"[A-Z][\w-]+: ", w))
            reply = httpx.request(
                "POST" if "-d" in words else "GET",
                url.replace("http://127.0.0.1:8000", address),
                headers=headers,
                content=words[words.index("-d") + 1] if "-d" in words else None,
            )
            assert reply.status_code == 200, reply.text
            assert shape(reply.json()) == shape(reply_shown)


def shape(value: Any) -> Any:
    """A reply without its figures."""
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()}
    if isinstance(value, list):
        return [shape(part) for part in value]
    return "a figure" if isinstance(value, float) else value
