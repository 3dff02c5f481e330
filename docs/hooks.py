"""What `make docs` does to the pages besides: mkdocs calls these functions, see mkdocs.yml.

Pages stay plain Markdown that reads well where it lies. The site gets links from the names of
functions to their docstrings, figures that follow its light and dark, the notebook with what it
shows, and the two pages that lie beside the code.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, Literal

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

DOCS = Path(__file__).parent
NOTEBOOK = "notebooks/from_data_to_explanation.ipynb"
BESIDE_THE_CODE = ("CONTRIBUTING.md", "CHANGELOG.md")

_FENCE = re.compile(r"^(?:```|~~~).*?^(?:```|~~~)$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"(?<!\[)`(gainakt\.[\w.]+)`")
_FIGURE = re.compile(r"^!\[(?P<words>[^\]]+)\]\((?P<path>figures/\w+\.svg)\)$", re.MULTILINE)

# what a browser fetches by itself: not the links that a reader may follow
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*?\bsrc=["']?(?:https?:)?//[^"' >]+"""
    r"""|<link\b(?![^>]*\brel=["']?canonical)[^>]*?\bhref=["']?(?:https?:)?//[^"' >]+"""
    r"""|(?:@import|url\()\s*["']?(?:https?:)?//[^"')]+"""
)

_command = "build"


def on_startup(*, command: Literal["build", "gh-deploy", "serve"], **_: Any) -> None:
    """Remember whether pages are only looked at while they are written."""
    global _command
    _command = command


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are not Markdown, or not in this folder."""
    folder = Path(NOTEBOOK).parent
    for name, content in _notebook().items():
        files.append(File.generated(config, str(folder / name), content=content))
    for name in BESIDE_THE_CODE:
        text = (DOCS.parent / name).read_text(encoding="utf-8")
        text = re.sub(r"\[([^\]]+)\]\(README\.md\)", r"\1", text)
        files.append(File.generated(config, name.lower(), content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Turn what is plain in Markdown into what the site has for it."""
    return _outside_code(lambda text: _with_figures(_with_links(text)), markdown)


def on_post_build(*, config: MkDocsConfig) -> None:
    """Refuse a site that would fetch anything from elsewhere: it must be whole without a network.

    Raises:
        PluginError: it would.
    """
    pages = [p for p in Path(config.site_dir).rglob("*") if p.suffix in (".html", ".css")]
    found = {hit for page in pages for hit in _FETCHED.findall(page.read_text(encoding="utf-8"))}
    if found:
        raise PluginError("the site would fetch from elsewhere:\n" + "\n".join(sorted(found)))


def _outside_code(change: Callable[[str], str], markdown: str) -> str:
    blocks = _FENCE.findall(markdown)
    parts = [change(part) for part in _FENCE.split(markdown)]
    return "".join(part + block for part, block in zip(parts, [*blocks, ""], strict=True))


def _with_links(text: str) -> str:
    text = text.replace(f"({NOTEBOOK})", f"({_page(NOTEBOOK)})")
    for name in BESIDE_THE_CODE:
        text = text.replace(f"(../{name})", f"({name.lower()})")
    return _NAME.sub(r"[`\1`][]", text)


def _with_figures(text: str) -> str:
    """A figure that is an image follows the system's colours; in the page it follows the page's."""

    def drawn(found: re.Match[str]) -> str:
        svg = (DOCS / found["path"]).read_text(encoding="utf-8")
        svg = re.sub(
            r"@media \(prefers-color-scheme: dark\) \{ svg\.figure (\{.*?\}) \}",
            r'[data-md-color-scheme="slate"] svg.figure \1',
            svg,
            flags=re.DOTALL,
        )
        words = escape(found["words"])
        svg = svg.replace("<svg ", f'<svg role="img" aria-label="{words}" ', 1)
        return f'<div class="figure-box">\n{svg}</div>'

    return _FIGURE.sub(drawn, text)


def _page(notebook: str) -> str:
    return str(Path(notebook).with_suffix(".md"))


def _notebook() -> dict[str, str | bytes]:
    """The notebook as Markdown, and its pictures, by their names.

    It is run, unless pages are only looked at while they are written.
    """
    import nbformat
    from nbconvert import MarkdownExporter

    book = nbformat.read(DOCS / NOTEBOOK, as_version=4)
    if _command != "serve":
        execute(book)
    text, resources = MarkdownExporter().from_notebook_node(book)
    heading, _, rest = text.partition("\n\n")
    file = Path(NOTEBOOK)
    download = f"[This notebook as a file]({file.name}), to run it yourself."
    page = f"{heading}\n\n{download}\n\n{_plain_tables(rest)}"
    return {file.with_suffix(".md").name: page, **resources["outputs"]}


def execute(book: Any) -> None:
    """Run a notebook from top to bottom; its outputs are then in it.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    from nbclient import NotebookClient

    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            book,
            timeout=600,
            coalesce_streams=True,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": folder}},
        ).execute(env={**os.environ, "PATH": programs, "TMPDIR": folder})


def _plain_tables(text: str) -> str:
    """Let tables of a notebook look as all tables of the site do."""
    text = re.sub(r"<style>.*?</style>\n?", "", text, flags=re.DOTALL)
    text = re.sub(r"<small>.*?</small>", "", text)
    return text.replace('<table border="1" class="dataframe">', "<table>")
