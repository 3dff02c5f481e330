"""The state of the code that ran, as git knows it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gainakt.record.folder import write_json
from gainakt.record.provenance import code_state, git_state, working_directory
from tests.conftest import Outcome

GIT_ROW = "Git commit & branch recorded"


def git(where: Path, *words: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "core.autocrlf=false")
    answer = subprocess.run(
        ["git", "-C", where, *identity, *words], capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory in no repository, with git's own settings shut out."""
    # else a repository around the temporary folder would be found
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "nowhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def package(nowhere: Path, tmp_path: Path) -> Path:
    """A package in a repository of its own, everything committed on branch `work`."""
    package = tmp_path / "checkout" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("version = 1\n", encoding="utf-8")
    (package / "other.py").write_text("first\nlast\n", encoding="utf-8")
    git(package, "init", "-q", "-b", "work", str(package.parent))
    git(package, "add", ".")
    git(package, "commit", "-q", "-m", "first")
    return package


def test_a_clean_checkout(package: Path) -> None:
    assert git_state(package) == {
        "commit": git(package, "rev-parse", "HEAD"),
        "branch": "work",
        "dirty": False,
        "changes": [],
        "diff": "",
    }


def test_a_dirty_checkout_records_every_change(package: Path) -> None:
    (package / "__init__.py").write_text("version = 2\n", encoding="utf-8")
    (package / "new.py").touch()
    state = git_state(package)
    assert state["dirty"] is True
    assert state["changes"] == [" M package/__init__.py", "?? package/new.py"]
    assert "-version = 1\n+version = 2\n" in state["diff"]


def test_the_recorded_diff_brings_the_changes_back(package: Path) -> None:
    (package / "other.py").write_text("first\nchanged\n\n", encoding="utf-8")
    changed = (package / "other.py").read_bytes()
    diff = git_state(package)["diff"]
    git(package, "checkout", "-q", ".")
    assert git_state(package)["dirty"] is False
    patch = package.parent.parent / "recorded.diff"
    patch.write_text(diff, encoding="utf-8")
    git(package.parent, "apply", str(patch))
    assert (package / "other.py").read_bytes() == changed


def test_changes_that_are_not_text_are_recorded_all_the_same(package: Path, tmp_path: Path) -> None:
    (package / "other.py").write_bytes(b"first\n\xe9\xff\n")
    state = git_state(package)
    assert state["dirty"] is True
    assert "first" in state["diff"]
    write_json(tmp_path / "state.json", state)


def test_a_detached_checkout_has_a_commit_and_no_branch_of_its_own(package: Path) -> None:
    git(package, "checkout", "-q", "--detach")
    state = git_state(package)
    assert state["commit"] == git(package, "rev-parse", "HEAD")
    assert state["branch"] == "(detached)"
    assert state["dirty"] is False


def test_the_repository_one_stands_in_is_not_the_code(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages" / "package"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    (package / "secret.py").write_text("a thesis\n", encoding="utf-8")
    (package / "other.py").write_text("more of it\n", encoding="utf-8")
    monkeypatch.chdir(package.parent)
    state = git_state(installed)
    assert (state["commit"], state["branch"]) == (None, None) and "diff" not in state
    beside = working_directory(installed)
    assert beside is not None and beside["commit"] == git(package, "rev-parse", "HEAD")
    assert beside["dirty"] and "diff" not in beside
    assert working_directory(package) is None


def test_the_hash_of_the_code_is_of_its_contents(package: Path, tmp_path: Path) -> None:
    first = code_state(package)["sha256"]
    shutil.copytree(package, tmp_path / "elsewhere")
    assert code_state(tmp_path / "elsewhere")["sha256"] == first
    (package / "other.py").write_text("changed\n", encoding="utf-8")
    assert code_state(package)["sha256"] != first


def test_a_package_that_its_repository_ignores_is_not_of_it(package: Path) -> None:
    """An environment inside a checkout holds other code than the checkout's commit."""
    installed = package.parent / ".venv" / "package"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    (package.parent / ".gitignore").write_text(".venv\n", encoding="utf-8")
    assert git_state(installed)["commit"] is None


@pytest.mark.parametrize("begun", [False, True], ids=["no repository", "no commit yet"])
def test_outside_any_repository_there_is_a_reason(nowhere: Path, begun: bool) -> None:
    if begun:
        git(nowhere, "init", "-q")
    state = git_state(nowhere)
    assert (state["commit"], state["branch"], state["dirty"]) == (None, None, None)
    assert "installed, not a checkout" in state["reason"]


def test_a_machine_without_git_is_no_failure(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(nowhere))
    assert git_state(nowhere)["commit"] is None


def states() -> dict[str, Any]:
    commit = {"commit": "a" * 40, "diff": ""}
    return {
        "clean": commit | {"branch": "main", "dirty": False, "changes": []},
        "detached": commit | {"branch": "(detached)", "dirty": False, "changes": []},
        "dirty": commit | {"branch": "main", "dirty": True, "changes": [" M a.py"]},
    }


@pytest.mark.parametrize("state", states().values(), ids=states())
def test_a_run_from_a_repository_passes_the_check(
    state: dict[str, Any],
    train_tiny: Callable[..., Outcome],
    gainakt: Callable[..., Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gainakt.record.provenance.git_state", lambda package: state)
    assert train_tiny("--quiet", epochs=1).code == 0
    (folder,) = (tmp_path / "out").iterdir()
    outcome = gainakt("check", folder)
    assert f"✅ {GIT_ROW}\n" in outcome.out
    assert outcome.code == 0


def test_a_run_outside_any_repository_passes_by_the_hash_of_its_code(
    nowhere: Path,
    train_tiny: Callable[..., Outcome],
    gainakt: Callable[..., Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gainakt.record.provenance.git_state", lambda package: git_state(nowhere))
    outcome = train_tiny(epochs=1)
    assert outcome.code == 0
    (folder,) = (tmp_path / "out").iterdir()
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["git"]["commit"] is None and len(environment["code"]["sha256"]) == 64
    assert f"| ✅ | {GIT_ROW} |" in (folder / "README.md").read_text("utf-8")
    assert gainakt("check", folder).code == 0
