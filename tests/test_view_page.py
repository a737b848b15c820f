"""The live page in headless Chromium, beside a run in progress."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.journal import FILE
from tests.cli_helpers import folder
from tests.report.browser import Browser, chromium
from tests.report.support import hostile_run, proven_run
from tests.view_support import PATIENCE, TRACED, Viewer, complaints, enter, running, seen, until, viewing

pytestmark = pytest.mark.skipif(chromium() is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


@pytest.fixture(autouse=True)
def _quiet(browser: Browser) -> None:
    browser.send("Page.navigate", url="about:blank")
    browser.complaints.clear()
    browser.look(1280)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """Two runs that have ended, one of them full of hostile texts, and a damaged one."""
    runs = tmp_path_factory.mktemp("page") / "runs"
    proven_run(runs / "proven")
    hostile_run(runs / "nasty")
    (runs / "damaged").mkdir()
    (runs / "damaged" / FILE).write_bytes(b"this is no database" * 500)
    with viewing(runs) as found:
        yield found


def go(browser: Browser, name: str, number: int | None = None) -> None:
    """To a run, or to one of its candidates."""
    browser.run(f"location.hash = '#/{name}{'' if number is None else f'/{number}'}'")


def shown(browser: Browser, name: str) -> None:
    """Wait until a run is shown with its picture."""
    go(browser, name)
    seen(browser, f"document.querySelector('#head h1')?.textContent === {json.dumps(name)}")
    seen(browser, "document.querySelector('#cost svg') !== null")


def test_a_run_in_progress_is_followed_without_a_click(browser: Browser, tmp_path: Path) -> None:
    problem, runs = folder(tmp_path / "bowl", evaluate=TRACED), tmp_path / "runs"
    runs.mkdir()
    with viewing(runs) as viewer:
        enter(browser, viewer)
        assert "No runs here yet" in browser.run("document.getElementById('runs').textContent")
        with running(problem, runs, "--evaluations", "40", "--proposer", "random") as process:
            seen(browser, "document.querySelector('#runs a .dot.running') !== null", "the run in the list")
            browser.run("document.querySelector('#runs a').click()")
            seen(browser, "document.querySelectorAll('#table tr[id]').length >= 3")
            assert "running" in browser.run("document.querySelector('.badges').textContent")
            assert "open: nothing is claimed" in browser.run("document.querySelector('.badges').textContent")
            before = browser.run("document.querySelectorAll('#table tr[id]').length")
            browser.run("document.getElementById('find').focus()")

            go(browser, browser.run("document.querySelector('#head h1').textContent"), 1)
            seen(browser, "document.getElementById('card').open && document.querySelector('[data-trace]') !== null")
            browser.run("document.querySelector('[data-trace]').click()")
            assert "bent(x=" in seen(browser, "document.querySelector('.trace pre')?.textContent")
            browser.run("document.getElementById('close').click()")
            seen(browser, "!document.getElementById('card').open && !location.hash.endsWith('/1')")

            (problem / "go").touch()
            seen(browser, f"document.querySelectorAll('#table tr[id]').length > {before}", "more rows")
            assert browser.run("document.querySelectorAll('#table tr.arrived').length") > 0
            process.wait(PATIENCE)
            seen(browser, "document.querySelector('.badges').textContent.includes('finished')")
            assert "ended" in browser.run("document.querySelector('.log li').textContent")
            seen(browser, "document.querySelector('#cost svg') !== null")
        (name,) = [path for path in runs.iterdir() if path.is_dir() and (path / FILE).exists()]
        shutil.rmtree(name)
        seen(browser, "document.getElementById('problem').textContent.includes('not here any more')")
        seen(browser, "document.querySelectorAll('#runs a').length === 0")
        assert complaints(browser, viewer) == []


@pytest.mark.parametrize("run", ["proven", "nasty"])
@pytest.mark.parametrize("width", [1280, 400])
def test_a_page_is_silent_and_fits(browser: Browser, ended: Viewer, run: str, width: int) -> None:
    browser.look(width)
    enter(browser, ended)
    shown(browser, run)
    assert browser.run("document.documentElement.scrollWidth") <= width
    go(browser, run, 1)
    seen(browser, "document.getElementById('card').open && document.querySelector('#body dl') !== null")
    assert browser.run("document.getElementById('card').scrollWidth") <= width
    assert browser.run("document.querySelectorAll('#body script, #body img, main img, main script').length") == 0
    assert browser.run("document.querySelector('main h1').textContent") == run
    assert complaints(browser, ended) == []


def test_what_the_search_takes_can_be_read_on_a_phone(browser: Browser, ended: Viewer) -> None:
    browser.look(400)
    enter(browser, ended)
    shown(browser, "proven")
    find = "document.getElementById('find')"
    browser.run(f"{find}.value = {find}.placeholder")
    assert browser.run(f"{find}.scrollWidth <= {find}.clientWidth"), "no word is cut"


def test_the_picture_fits_a_phone_and_its_words_can_be_read(browser: Browser, ended: Viewer) -> None:
    wide, svg = "document.querySelector('#cost svg')?.viewBox.baseVal.width", "document.querySelector('#cost svg')"
    enter(browser, ended)
    shown(browser, "proven")
    before = browser.run(wide)
    browser.look(400)
    seen(browser, f"{wide} < {before}", "the picture for a phone, without a reload")
    assert browser.run(f"{svg}.getBoundingClientRect().right") <= 400
    assert browser.run(f"{svg}.getBoundingClientRect().width / {wide}") >= 0.85, "its words have 11 units"
    inside = f"(box => text => text.left >= box.left && text.right <= box.right)({svg}.getBoundingClientRect())"
    texts = f"[...{svg}.querySelectorAll('text')].map(text => text.getBoundingClientRect())"
    assert browser.run(f"{texts}.length > 5 && {texts}.every({inside})"), "no word is cut"
    boxes = "[...document.querySelectorAll('main *')].filter(item => item.scrollWidth > item.clientWidth + 1)"
    scrolled = f"{boxes}.filter(item => ['auto', 'scroll'].includes(getComputedStyle(item).overflowX))"
    assert browser.run(f"{scrolled}.every(item => item.querySelector('table'))"), "tables alone scroll"
    browser.look(1280)
    seen(browser, f"{wide} === {before}")
    assert complaints(browser, ended) == []


def test_the_token_is_gone_from_the_address_and_out_of_reach_of_scripts(browser: Browser, ended: Viewer) -> None:
    enter(browser, ended)
    assert ended.token not in browser.run("location.href + document.cookie + document.referrer")
    assert browser.run("fetch('/runs').then(answer => answer.status)") == 200
    browser.run("location.reload()")
    until(lambda: _quietly(browser, "document.querySelectorAll('#runs a').length"), "the list after a reload")


def _quietly(browser: Browser, script: str) -> object:
    try:
        return browser.run(script)
    except AssertionError:
        return None


def test_no_script_but_its_own_can_run_in_it(browser: Browser, ended: Viewer) -> None:
    enter(browser, ended)
    browser.run("document.body.insertAdjacentHTML('beforeend', '<img src=data:,x onerror=\"window.ran = 1\">')")
    browser.run("script = document.createElement('script'); script.textContent = 'window.ran = 2'")
    browser.run("document.body.append(script)")
    until(lambda: "Content Security Policy" in " ".join(browser.complaints), "the policy's word")
    assert browser.run("window.ran === undefined")


def test_a_damaged_run_is_told_and_the_next_one_is_shown(browser: Browser, ended: Viewer) -> None:
    enter(browser, ended)
    go(browser, "damaged")
    seen(browser, "document.getElementById('problem').textContent.includes('cannot be read')")
    assert browser.run("document.querySelectorAll('#runs .dot.damaged').length") == 1
    shown(browser, "proven")
    assert browser.run("document.getElementById('problem').hidden")
    assert complaints(browser, ended) == []


def test_runs_and_candidates_are_found_by_what_is_typed(browser: Browser, ended: Viewer) -> None:
    enter(browser, ended)
    typed(browser, "seek", "nas")
    seen(browser, "[...document.querySelectorAll('#runs li')].filter(item => !item.hidden).length === 1")
    typed(browser, "seek", "")
    shown(browser, "proven")
    typed(browser, "find", "#1")
    seen(browser, "document.getElementById('c1') !== null && document.getElementById('c0') === null")
    typed(browser, "find", "")
    seen(browser, "document.getElementById('c0') !== null")


def typed(browser: Browser, field: str, text: str) -> None:
    browser.run(f"document.getElementById('{field}').value = {text!r}")
    browser.run(f"document.getElementById('{field}').dispatchEvent(new Event('input'))")


def test_it_can_be_driven_by_the_keyboard(browser: Browser, ended: Viewer) -> None:
    enter(browser, ended)
    shown(browser, "proven")
    browser.run("document.getElementById('a1').focus()")
    press(browser, "Enter")
    seen(browser, "document.getElementById('card').open && document.querySelector('#body dl') !== null")
    assert browser.run("document.activeElement.closest('#card') !== null"), "the focus goes along"
    press(browser, "Escape")
    seen(browser, "!document.getElementById('card').open && location.hash === '#/proven'")
    assert browser.run("document.activeElement.id") == "a1"
    names = "[...document.querySelectorAll('button, input, select, a')].filter(item => item.checkVisibility())"
    label = "item.textContent.trim() || item.ariaLabel || item.labels?.length"
    assert browser.run(f"{names}.every(item => {label})")


def press(browser: Browser, key: str) -> None:
    code = {"Enter": 13, "Escape": 27}[key]
    more = {"text": "\r"} if key == "Enter" else {}
    for kind in ("keyDown", "keyUp"):
        browser.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)


def test_light_and_dark_are_both_legible(browser: Browser, ended: Viewer) -> None:
    grounds = []
    for dark in (False, True):
        browser.look(1280, dark)
        enter(browser, ended)
        shown(browser, "proven")
        for where in (".tile strong", ".tile .note", "#runs .state", "#table td.source", ".bit.yes", "#cost svg text"):
            assert browser.run(CONTRAST.replace("WHERE", where)) >= 4.5, (where, dark)
        grounds.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] != grounds[1]


CONTRAST = """
(() => {
  const item = document.querySelector('WHERE'), svg = item instanceof SVGElement;
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map(v => linear(v / 255))
    .reduce((sum, v, at) => sum + v * [.2126, .7152, .0722][at], 0);
  let ground = item;
  while (parts(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
  const style = getComputedStyle(item);
  const [a, b] = [light(parts(svg ? style.fill : style.color)), light(parts(getComputedStyle(ground).backgroundColor))];
  return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
})()
"""
"""Contrast of an element's text with what lies behind it, by WCAG 2.2."""


def test_it_goes_on_when_the_server_has_been_away(browser: Browser, ended: Viewer) -> None:
    enter(browser, ended)
    shown(browser, "proven")
    away = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.send("Network.emulateNetworkConditions", offline=True, **away)
    browser.run("document.dispatchEvent(new Event('visibilitychange'))")
    seen(browser, "document.getElementById('link').textContent.includes('not connected')")
    browser.send("Network.emulateNetworkConditions", offline=False, **away)
    seen(browser, "document.getElementById('link').textContent === ''")
    assert browser.run("document.querySelector('#head h1').textContent") == "proven"
