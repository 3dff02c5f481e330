"""Where a result comes from: machine, versions, code, seeds, data."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from gainakt import _version
from gainakt.config import Config
from gainakt.data.interactions import Dataset
from gainakt.record.commands import from_folder


def environment(config: Config, device: torch.device) -> dict[str, Any]:
    """Describe the machine, its software and the code's version, for environment.json."""
    on_gpu = device.type == "cuda"
    package = Path(_version.__file__).resolve().parent
    return {
        "gainakt": _version.__version__,
        "python": sys.version,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "deterministic": config.runtime.deterministic,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        "packages": packages(),
        "code": code_state(package),
        "git": git_state(package),
        "working_directory": working_directory(package),
    }


def packages() -> dict[str, str]:
    """Return every installed package and its version."""
    found = {d.metadata["Name"]: d.version for d in metadata.distributions() if d.metadata["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def code_state(package: Path) -> dict[str, str]:
    """Return the version of the package and a hash over the files that ran.

    Args:
        package: the folder that the running code was imported from.
    """
    digest = hashlib.sha256()
    kinds = {".py", ".jinja", ".css", ".js", ".json"}
    for path in sorted(p for p in package.rglob("*") if p.suffix in kinds and p.is_file()):
        digest.update(f"{path.relative_to(package).as_posix()}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return {"version": _version.__version__, "sha256": digest.hexdigest()}


def git_state(package: Path) -> dict[str, Any]:
    """Return commit, branch and uncommitted changes of the checkout that holds the package.

    For an installed package every value is None and `reason` says so: the repository that one
    happens to stand in is not the code (see `working_directory`).

    Args:
        package: the folder that the running code was imported from.
    """
    commit = None
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None:
        commit = _git(package, "rev-parse", "HEAD")
    if commit is None:
        reason = "the package is installed, not a checkout; its version and hash say what ran"
        return {"commit": None, "branch": None, "dirty": None, "reason": reason}
    root = (_git(package, "rev-parse", "--show-toplevel") or str(package)).rstrip("\n")
    state = _changes(Path(root), commit)
    return state | {"diff": (_git(Path(root), "diff", "HEAD") or "") if state["dirty"] else ""}


def working_directory(package: Path) -> dict[str, Any] | None:
    """Return commit and branch of the repository of the working directory, if it is another one.

    What was changed there is recorded as file names only, never as a diff: it may be anybody's.
    """
    commit = _git(Path.cwd(), "rev-parse", "HEAD")
    if commit is None or _git(package, "rev-parse", "HEAD") == commit:
        return None
    return _changes(Path.cwd(), commit)


def _changes(where: Path, commit: str) -> dict[str, Any]:
    changes = _git(where, "status", "--porcelain") or ""
    branch = _git(where, "symbolic-ref", "--short", "-q", "HEAD")
    return {
        "commit": commit.strip(),
        # a detached head (a clone at a tag, a CI checkout) has no branch of its own
        "branch": (branch or "(detached)").strip(),
        "dirty": bool(changes),
        "changes": changes.splitlines(),
    }


def _git(where: Path, *arguments: str) -> str | None:
    """Return git's answer, None when it has none or git is not there."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(where), *arguments],
            capture_output=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    # not stripped: a diff without its last line end cannot be applied
    return answer.stdout.decode(errors="backslashreplace")


def processor() -> str:
    """Return the processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def data_record(dataset: Dataset, run: Path) -> dict[str, Any]:
    """Describe the data that the run in folder `run` learnt from, for data.json."""
    path = dataset.path.resolve()
    return {
        "path": str(path),
        "path_from_run": from_folder(run, path),
        "manifest": dataset.manifest,
    }
