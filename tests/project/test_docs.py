"""The documentation says what the code does: its parameters, names, links and commands exist.

Run as a script, this file writes docs/configuration.md anew.
"""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

import annotated_types
import pytest
from pydantic.fields import FieldInfo

from gainakt.cli.main import app
from gainakt.cli.parameters import join_switches
from gainakt.config import FILLED_BY_RUN, GROUPS, MODELS, NOT_HASHED, named_configs
from gainakt.config.groups import AUTO
from gainakt.objectives.constraint import CONSTRAINTS
from gainakt.record.checklist import CHECKS
from gainakt.record.folder import RunFolder

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
CONFIGURATION = ROOT / "docs" / "configuration.md"

INTRODUCTION = """\
# Configuration

A configuration is complete: it holds every parameter, in the groups and the order of this page,
which is also the order of `config.json` and of `gainakt train --help`. Names are unique over all
groups, so a flag needs no group.

```
gainakt train --config tolerance_test --data data/assist2015 --epochs 2 --use_amp true
```

`--config` takes a JSON file, or one of the named configurations in `configs/`:
{named}.
A file may hold only some groups and parameters; the others have their defaults. Flags go on top,
each in two spellings (`--batch_size`, `--batch-size`); a switch may stand alone for true, or take
`true` or `false`. An unknown name, a wrong type or an impossible value is refused with the name,
the value and what is allowed.

`config.json` of a run adds `override_applied`, the parameters that are not at their default, and
`config_hash`, over the parameters that determine the result. Not part of the hash are those that
say where and how a run is watched, recorded and named:
{not_hashed}.

`seed` and `primary` are one value under two names: either given alone sets the other, and `all`
follows where it does not hold it.
"""


def configuration_page() -> str:
    """What docs/configuration.md must say."""
    named = ", ".join(f"`{name}`" for name in sorted(named_configs()))
    not_hashed = ", ".join(f"`{name}`" for names in NOT_HASHED.values() for name in sorted(names))
    parts = [INTRODUCTION.format(named=named, not_hashed=not_hashed)]
    for group, cls in GROUPS.items():
        if group == "model":
            parts += [
                _section(f"model (`{name}`)", spec.parameters) for name, spec in MODELS.items()
            ]
        else:
            parts.append(_section(group, cls))
    return "\n".join(parts)


def _section(title: str, cls: Any) -> str:
    rows = "".join(
        f"| `{name}` | {_default(name, field)} | {_allowed(field)} | {field.description} |\n"
        for name, field in cls.model_fields.items()
    )
    sentence = (cls.__doc__ or "").splitlines()[0]
    head = "| parameter | default | allowed | meaning |\n|---|---|---|---|\n"
    return f"## {title}\n\n{sentence}\n\n{head}{rows}"


def _default(name: str, field: FieldInfo) -> str:
    value = field.default
    if name in FILLED_BY_RUN:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{' '.join(str(v) for v in value)}`"
    return f"`{value}`" if value != "" else "empty"


def _allowed(field: FieldInfo) -> str:
    kind = field.annotation
    if kind is bool:
        return "true, false"
    if get_origin(kind) is Literal:
        return ", ".join(str(choice) for choice in get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(k.__name__ for k in get_args(kind))
    if get_origin(kind) is tuple:
        return "one or more whole numbers"
    if kind is str:
        return "text"
    bounds = [
        f"{sign} {_number(getattr(bound, side))}"
        for bound in field.metadata
        for side, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if isinstance(bound, annotated_types.BaseMetadata) and hasattr(bound, side)
    ]
    number = " ".join(["whole number" if kind is int else "number", ", ".join(bounds)]).strip()
    return f"{number}, or auto" if AUTO in field.metadata else number


def _number(value: float) -> str:
    return "2^32" if value == 2**32 else f"{value:g}"


def test_the_configuration_page_is_what_the_types_say() -> None:
    assert CONFIGURATION.read_text(encoding="utf-8") == configuration_page(), (
        "docs/configuration.md is out of date; renew it with: python tests/project/test_docs.py"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_of_the_package_exists(page: Path) -> None:
    for name in re.findall(r"`(gainakt\.[\w.]+)`", page.read_text(encoding="utf-8")):
        _resolve(name)


def _resolve(name: str) -> Any:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[end:]:
            found = getattr(found, attribute)
        return found
    raise AssertionError(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing
    paths = re.findall(r"`((?:gainakt|tests|docs|configs)/[\w./]*[\w/])`", text)
    assert not [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_heading_that_a_page_links_to_exists(page: Path) -> None:
    for path, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", _prose(page)):
        target = page if not path else page.parent / path
        assert anchor in _anchors(target), f"{path}#{anchor}"


def _prose(page: Path) -> str:
    """A page without its blocks of code."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", _prose(page), re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", h).strip().lower()) for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_addresses_elsewhere_have_the_form_of_one(page: Path) -> None:
    """Whether they answer cannot be looked at without a network."""
    for address in re.findall(r"\]\((\w+:[^)]*)\)", _prose(page)):
        parts = urlsplit(address)
        assert parts.scheme == "https" and "." in parts.netloc and " " not in address, address


def commands_of(text: str) -> list[list[str]]:
    """The gainakt commands in a page's code blocks, as words."""
    blocks = re.findall(r"^```(?:sh)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [
        words
        for line in lines
        # a synopsis has brackets, an example has not
        if line.startswith("gainakt ") and "[" not in line
        for words in [shlex.split(line, comments=True)[1:]]
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_one(page: Path) -> None:
    for words in commands_of(page.read_text(encoding="utf-8")):
        app.parse_args(join_switches(words), exit_on_error=False, print_error=False)


def test_the_examples_of_the_python_page_run(
    gainsum_run: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every block in order, as a reader would type them, on a run that is there."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(gainsum_run, tmp_path / "experiments" / "RUN")
    shutil.copytree(tiny_data, tmp_path / "data" / "mine")
    names: dict[str, Any] = {}
    for page in (ROOT / "docs" / "python.md", ROOT / "README.md"):
        text = page.read_text(encoding="utf-8").replace("fractions", "k01")
        blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        assert blocks
        for block in blocks:
            exec(compile(block, page.name, "exec"), names)
    assert len(names["run"].metrics) == 2
    assert names["predicted"].columns == ["student", "skill", "correct", "probability"]
    assert names["predicted"]["probability"].null_count() == 2
    assert len(names["mastery"]) == 2 * len(names["tracer"].skills)
    assert names["again"].predict(names["table"]).equals(names["predicted"])


def test_the_objectives_page_has_every_constraint() -> None:
    text = (ROOT / "docs" / "objectives.md").read_text(encoding="utf-8")
    for name, function in CONSTRAINTS.items():
        row = next(line for line in text.splitlines() if f"`{name}_loss_weight` |" in line)
        assert f"`{function.__module__}.{function.__name__}`" in row
        default = GROUPS["interpretability"].model_fields[f"{name}_loss_weight"].default
        assert f"| {default} |" in row


def test_the_experiment_folder_page_has_every_file_and_check() -> None:
    text = (ROOT / "docs" / "experiment-folder.md").read_text(encoding="utf-8")
    folder = RunFolder(Path("run"))
    files = [
        value.name
        for name, kind in vars(RunFolder).items()
        if isinstance(kind, property) and isinstance(value := getattr(folder, name), Path)
    ]
    assert len(files) > 10
    for file in files:
        assert f"| `{file}` |" in text, file
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines()]
    for title in CHECKS:
        assert title in rows, title


if __name__ == "__main__":
    CONFIGURATION.write_text(configuration_page(), encoding="utf-8")
