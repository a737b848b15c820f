"""The pages in headless Chromium: nothing on the console, nothing loaded, and links that lead where they say."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.report import page
from agent.report.comparison import comparison
from agent.report.view import View, load_view
from tests.report.browser import Browser, chromium
from tests.report.support import ALL, hostile_run, proven_run, replaced

pytestmark = pytest.mark.skipif(chromium() is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of a run, of a hostile one, of one in which every text is hostile, and a comparison."""
    here = tmp_path_factory.mktemp("pages")
    rows, nasty = load_view(proven_run(here / "rows").folder), load_view(hostile_run(here / "nasty").folder)
    few = dataclasses.replace(nasty, cards=nasty.cards[:4], best=1, released=0, champion=0, steps=nasty.steps[:2])
    worst: View = replaced(few, lambda _: ALL)
    made = {
        "rows": page.report(rows),
        "nasty": page.report(nasty),
        "worst": page.report(worst),
        "compare": page.compare(comparison([rows, nasty])),
        "loud": "<!doctype html><title>loud</title><script>console.log(1)</script><img src='http://127.0.0.1:9/x.png'>",
    }
    for name, text in made.items():
        (here / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: here / f"{name}.html" for name in made}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


@pytest.fixture(autouse=True)
def _quiet(browser: Browser) -> None:
    browser.complaints.clear()
    browser.look(1200)


def test_the_browser_would_tell_what_a_page_does(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["loud"])
    said = " ".join(browser.complaints)
    assert "console:" in said and "request: http://127.0.0.1:9/x.png" in said


@pytest.mark.parametrize("name", ["rows", "nasty", "worst", "compare"])
@pytest.mark.parametrize("width", [1400, 400])
def test_a_page_is_silent_loads_nothing_and_fits(
    browser: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    browser.look(width)
    browser.open(pages[name])
    assert browser.run("document.querySelectorAll('section').length") >= 4
    assert browser.complaints == []
    assert browser.run("document.scripts.length + document.querySelectorAll('img, iframe, link, form').length") == 0
    assert browser.run("document.documentElement.scrollWidth") <= width
    widths = browser.run("[...document.querySelectorAll('figure svg')].map(svg => svg.getBoundingClientRect().width)")
    assert widths and min(widths) >= 600, "pictures keep a size at which their words can be read"


def test_a_link_opens_the_candidate_that_it_names(browser: Browser, pages: dict[str, Path]) -> None:
    closed = "[...document.querySelectorAll('.card')].filter(card => !card.open).length"
    browser.open(pages["rows"])
    before = browser.run(closed)
    number = browser.run("document.querySelector('.card:not([open]) > div').id")
    browser.run(f"document.querySelector('a[href=\"#{number}\"]').click()")
    assert browser.run(closed) == before - 1
    assert browser.run(f"document.getElementById('{number}').getBoundingClientRect().height") > 0
    assert 0 <= browser.run(f"document.getElementById('{number}').getBoundingClientRect().top") < 300
    links = browser.run("[...document.querySelectorAll('a')].map(a => a.hash.slice(1))")
    assert links and browser.run(f"{sorted(set(links))}.every(name => document.getElementById(name))")


def test_light_and_dark_are_both_legible(browser: Browser, pages: dict[str, Path]) -> None:
    found = {}
    for dark in (False, True):
        browser.look(1200, dark)
        browser.open(pages["rows"])
        found[dark] = [
            browser.run(f"getComputedStyle(document.querySelector('{where}')).{what}")
            for where, what in (("body", "backgroundColor"), ("body", "color"), ("figure svg text", "fill"))
        ]
        ground, ink, drawn = (sum(map(float, text[text.index("(") + 1 : -1].split(",")[:3])) for text in found[dark])
        assert abs(ground - ink) > 400 and abs(ground - drawn) > 400
    assert found[False][0] != found[True][0] and found[False][2] != found[True][2]


def test_it_prints_on_white(browser: Browser, pages: dict[str, Path]) -> None:
    browser.look(1200, dark=True, printed=True)
    browser.open(pages["rows"])
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run("getComputedStyle(document.querySelector('nav')).display") == "none"
