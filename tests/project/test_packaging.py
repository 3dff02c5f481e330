"""The wheel holds what the package needs, and the named configurations are complete."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import gainakt
from gainakt.config import (
    GROUPS,
    load_config,
    model_fields,
    named_configs,
)

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONFIGS = sorted((ROOT / "configs").glob("*.json"))
PINNED = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that nothing is left in the tree."""
    if find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed, and building may not download it")
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("gainakt", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    built = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
        + ["--quiet", "--wheel-dir", str(built), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (found,) = built.glob("gainakt-*.whl")
    return found


def test_the_wheel_holds_code_configurations_and_templates(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "gainakt").rglob("*.py"):
        assert str(path.relative_to(ROOT)) in names
    assert {f"gainakt/configs/{path.name}" for path in CONFIGS} <= names
    assert {"gainakt/py.typed", "gainakt/record/readme.md.jinja"} <= names
    for path in (ROOT / "gainakt" / "report").iterdir():
        assert path.is_dir() or str(path.relative_to(ROOT)) in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "docs", "bench"))]


def test_a_named_configuration_loads_from_the_installed_package(
    wheel: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import gainakt.config as c\n"
        "print(c.__file__)\n"
        "print(c.named_configs()['quickstart'])\n"
        "print(c.load_config('quickstart').experiment.short_title)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    module, config, title = done.stdout.splitlines()
    assert Path(module).is_relative_to(site)
    assert Path(config).is_relative_to(site)
    assert title == "quickstart"


def test_there_are_named_configurations() -> None:
    assert {"quickstart", "tolerance_test", "assist2015"} <= set(named_configs())
    assert {path.stem for path in CONFIGS} == set(named_configs())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_named_configuration_is_in_canonical_order(path: Path) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    values.pop("base", None)
    config = load_config(path)
    assert list(values) == [group for group in GROUPS if group in values]
    for group, content in values.items():
        fields = (
            model_fields(config.experiment.model)
            if group == "model"
            else GROUPS[group].model_fields
        )
        assert list(content) == [name for name in fields if name in content], group


def test_the_tolerance_test_overrides_only_what_it_must() -> None:
    from gainakt.config import overridden

    assert overridden(load_config("tolerance_test")) == {
        "epochs": 1,
        "batch_size": 32,
        "short_title": "tolerance_test",
        "purpose": load_config("tolerance_test").experiment.purpose,
        "dataset": "assist2015",
    }


def test_the_version_is_one() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert PROJECT["project"]["version"] == gainakt.__version__
    assert f"version: {gainakt.__version__}\n" in citation


def test_every_package_is_shipped() -> None:
    here = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for path in (ROOT / "gainakt").rglob("*.py")
    }
    assert here | {"gainakt.configs"} == set(PROJECT["tool"]["setuptools"]["packages"])


def test_every_dependency_is_pinned_and_in_range() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pinned = {canonicalize_name(name): version for name, version in PINNED.items()}
    project = PROJECT["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        version = pinned[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, requirement.name
    assert pinned["torch"] == "2.13.0"
    assert all(re.fullmatch(r"\d[\w.]*", version) for version in pinned.values())


def test_every_import_is_declared() -> None:
    import ast

    declared = {
        re.split(r"[<>=\[]", line)[0].replace("-", "_")
        for lines in (
            PROJECT["project"]["dependencies"],
            PROJECT["project"]["optional-dependencies"]["track"],
            PROJECT["project"]["optional-dependencies"]["sklearn"],
            PROJECT["project"]["optional-dependencies"]["serve"],
        )
        for line in lines
    } | {"mlflow", "sklearn", "vl_convert"}
    imported = set()
    for path in (ROOT / "gainakt").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    unknown = imported - declared - set(sys.stdlib_module_names) - {"gainakt"}
    # what a declared package brings with it and is made of
    assert unknown <= {"pydantic_core", "annotated_types"}


def test_nothing_names_a_place_to_download_from() -> None:
    for name in ("Makefile", "constraints.txt", "pyproject.toml", ".ci/run"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text
        assert not re.search(r"index-url|find-links|pypi", text)


def test_a_python_that_is_too_old_is_told_so(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(
        ["make", "PYTHON=", "setup"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr
    assert not (tmp_path / ".venv").exists()
