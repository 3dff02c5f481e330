"""docs/tree.md names every folder and file with its purpose; run as a script, this renews it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tree.md"

BESIDE = {
    "README.md": "what it is and how to begin",
    "CONTRIBUTING.md": "how to work on the code",
    "CHANGELOG.md": "what a user notices, by version",
    "CITATION.cff": "how to cite",
    "LICENSE": "MIT",
    "Makefile": "demo, test, lint, format, bench, docs, clean; each sets itself up",
    "pyproject.toml": "package, dependencies, tools",
    "constraints.txt": "the versions it is tested with",
    "mkdocs.yml": "the documentation as a site",
    "configs/": "named configurations",
    "bench/": "what is measured; each script says what and prints a table",
    "docs/": "this documentation; LOG.md: results and decisions by date, negative ones too",
    "tests/": "a folder for each room of gainakt/; golden/ keeps what must not move",
}
HEAD = """# The tree

Folders are rooms with one purpose; a file has one job, which its first line says. Imports point one
way, in the order that `tests/project/test_imports.py` keeps. This page is made from the files
themselves: `python tests/project/test_tree.py`.

"""


def purpose(module: Path) -> str:
    """The first line of a module's docstring."""
    said = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    assert said, f"{module.relative_to(ROOT)} does not say what it is for"
    return said.splitlines()[0].rstrip(".")


def listed(folder: Path, depth: int) -> Iterator[tuple[str, str]]:
    """The files of a package and then its folders, each with its purpose."""
    indent = "  " * depth
    for path in sorted(folder.glob("*.py")):
        if path.stem != "__init__":
            yield f"{indent}{path.name}", purpose(path)
    for path in sorted(p.parent for p in folder.glob("*/__init__.py")):
        yield f"{indent}{path.name}/", purpose(path / "__init__.py")
        yield from listed(path, depth + 1)


def page() -> str:
    """What docs/tree.md must say."""
    lines = [("gainakt/", purpose(ROOT / "gainakt" / "__init__.py"))]
    lines += listed(ROOT / "gainakt", 1)
    lines += BESIDE.items()
    width = max(len(name) for name, _ in lines) + 2
    block = "\n".join(f"{name:{width}}{said}" for name, said in lines)
    return f"{HEAD}```text\n{block}\n```\n"


def test_the_page_is_what_the_files_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "docs/tree.md is out of date; renew it with: python tests/project/test_tree.py"
    )


def test_everything_beside_the_package_is_named() -> None:
    for name in BESIDE:
        assert (ROOT / name).exists(), name


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
