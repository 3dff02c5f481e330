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


def environment(config: Config, device: torch.device) -> dict[str, Any]:
    """Describe the machine, its software and the code's version, for environment.json."""
    on_gpu = device.type == "cuda"
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
        "git": git_state(Path(_version.__file__).resolve().parent),
    }


def packages() -> dict[str, str]:
    """Return every installed package and its version."""
    found = {d.metadata["Name"]: d.version for d in metadata.distributions() if d.metadata["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def git_state(package: Path) -> dict[str, Any]:
    """Return commit, branch and uncommitted changes of the code that ran.

    That is the checkout holding the package; for an installed package, the repository of the
    working directory. Without either, every value is None and `reason` says so.

    Args:
        package: the folder that the running code was imported from.
    """
    tracked = _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None
    where = package if tracked else Path.cwd()
    commit = _git(where, "rev-parse", "HEAD")
    if commit is None:
        return {
            "commit": None,
            "branch": None,
            "dirty": None,
            "reason": "neither the package nor the working directory is in a git repository "
            "with a commit",
        }
    changes = _git(where, "status", "--porcelain") or ""
    branch = _git(where, "symbolic-ref", "--short", "-q", "HEAD")
    return {
        "commit": commit.strip(),
        # a detached head (a clone at a tag, a CI checkout) has no branch of its own
        "branch": (branch or "(detached)").strip(),
        "dirty": bool(changes),
        "changes": changes.splitlines(),
        "diff": (_git(where, "diff", "HEAD") or "") if changes else "",
        "of": "package" if tracked else "working directory",
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


def data_record(dataset: Dataset) -> dict[str, Any]:
    """Describe the data that the run learnt from, for data.json."""
    return {"path": str(dataset.path.resolve()), "manifest": dataset.manifest}


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
