"""The report in a real browser: nothing is asked for, cut, or laid over something else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gainakt.record.folder import RunFolder
from gainakt.report.comparison import write_comparison
from gainakt.report.page import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]

if CHROMIUM is None:
    pytest.skip(
        "no chromium is installed to look at pages with; on Debian and Ubuntu, as root: "
        "apt-get install chromium",
        allow_module_level=True,
    )

# width, color scheme, medium
VIEWS = {
    "light": (1280, "light", "screen"),
    "dark": (1280, "dark", "screen"),
    "phone": (375, "light", "screen"),
    "print": (720, "light", "print"),
}

# Boxes of text that stand beside one another, and text that leaves its picture.
FAULTS = """
() => {
  const faults = [];
  const box = (element) => element.getBoundingClientRect();
  const name = (element) => element.tagName + " " + element.textContent.trim().slice(0, 40);
  const shown = (r) => r.width > 1 && r.height > 1;
  const overlap = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
  for (const parent of document.querySelectorAll("body, body *:not(svg):not(svg *)")) {
    const blocks = [...parent.children].filter((child) => {
      const style = getComputedStyle(child);
      return child.textContent.trim() && shown(box(child)) && style.display !== "inline"
        && style.position !== "fixed" && style.position !== "absolute"
        && !["SCRIPT", "STYLE"].includes(child.tagName);
    });
    blocks.forEach((a, i) => blocks.slice(i + 1).forEach((b) => {
      // the head of a table stays in sight while its rows pass below it
      if (a.tagName !== "THEAD" && overlap(box(a), box(b))) faults.push(`${name(a)} | ${name(b)}`);
    }));
    if (!parent.closest(".scroll") && box(parent).right > innerWidth + 0.5 && shown(box(parent))) {
      faults.push(`cut at the right: ${name(parent)}`);
    }
  }
  for (const svg of document.querySelectorAll("svg")) {
    const frame = box(svg);
    const texts = [...svg.querySelectorAll("text")].filter((text) => shown(box(text)));
    for (const text of texts) {
      const r = box(text);
      if (r.left < frame.left - 1 || r.right > frame.right + 1
          || r.top < frame.top - 1 || r.bottom > frame.bottom + 1) {
        faults.push(`outside its picture: ${text.textContent}`);
      }
    }
    texts.forEach((a, i) => texts.slice(i + 1).forEach((b) => {
      if (overlap(box(a), box(b))) faults.push(`${a.textContent} over ${b.textContent}`);
    }));
  }
  return faults;
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(
    finished_run: Path,
    gainsum_run: Path,
    strange_run: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Pages of runs, one of them on data with strange names, and one that compares two."""
    place = tmp_path_factory.mktemp("pages")
    runs = RunFolder(finished_run), RunFolder(gainsum_run)
    return {
        "run": write_report(runs[0], place / "run.html"),
        "sums": write_report(runs[1], place / "sums.html"),
        "strange": write_report(RunFolder(strange_run), place / "strange.html"),
        "comparison": write_comparison(runs, place / "comparison.html"),
    }


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("which", ["run", "sums", "strange", "comparison"])
def test_a_page_is_whole(
    browser: Any, pages: dict[str, Path], tmp_path: Path, which: str, view: str
) -> None:
    width, scheme, medium = VIEWS[view]
    path = pages[which]
    assert path.stat().st_size < 3_000_000
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.emulate_media(media=medium, color_scheme=scheme)
    page.goto(path.as_uri())
    assert said == []
    assert asked == [path.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(FAULTS) == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    channels = [int(c) for c in background.removeprefix("rgb(").rstrip(")").split(",")]
    assert (max(channels) < 64) == (view == "dark")
    # kept for somebody to look at: pytest --basetemp names the folder
    page.screenshot(path=tmp_path / f"{which}-{view}.png", full_page=True)
    page.close()


def test_it_is_complete_without_javascript(browser: Any, pages: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pages["run"].as_uri())
    assert page.locator("figure svg").count() == page.locator("figure").count() > 5
    assert page.locator("#skills tbody tr").count() > 1
    assert page.locator("svg title").count() > 10, "tips that need no script"
    context.close()


def test_marks_tell_their_numbers_and_tables_sort(browser: Any, pages: dict[str, Path]) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(pages["run"].as_uri())
    mark = page.locator("#auc_by_epoch [data-says]").first
    mark.scroll_into_view_if_needed()
    mark.hover(force=True)
    tip = page.locator("#tip")
    assert tip.is_visible() and "epoch" in tip.inner_text()
    counts = page.locator("#skills tbody td:nth-child(2)")
    falling = [int(text.replace(",", "")) for text in counts.all_inner_texts()]
    assert falling == sorted(falling, reverse=True)
    page.get_by_role("button", name="Answers").click()
    rising = [int(text.replace(",", "")) for text in counts.all_inner_texts()]
    assert rising == sorted(falling)
    assert page.locator("#skills th[aria-sort]").get_attribute("aria-sort") == "ascending"
    page.close()
