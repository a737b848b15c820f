"""A live view in a process of its own, read as a program and as a browser would; and runs to look at."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from tests.cli_helpers import Ran, begin
from tests.report.browser import Browser

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0

TRACED = """
import pathlib, time
from agent import op

HERE = pathlib.Path(__file__).parent

@op
def bent(x):
    return (x - 0.3) ** 2

def measure(candidate, seed=0, replicate=0):
    with open(HERE / "count", "a") as file:
        file.write(".")
    count = (HERE / "count").stat().st_size
    while count > 6 and not (HERE / "go").exists():
        time.sleep(0.02)
    if candidate["n"] == 9:
        raise ValueError("<img src=x onerror=alert(1)> nine is too much")
    return bent(candidate["x"]) + 0.02 * (candidate["n"] - 6) ** 2
"""
"""Measures six times, then waits until there is a file `go`."""


def until(true: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """The first true answer; asked again and again until the time is up."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"it never came: {what}"
        time.sleep(0.05)
    return found


def threads(pid: int) -> int:
    """How many a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


@dataclass
class Viewer:
    """A live view that is being served.

    Args:
        url: As it was printed, with the token.
    """

    url: str
    process: subprocess.Popen[str]
    cookie: str = field(default="", init=False)

    @property
    def port(self) -> int:
        return int(urlsplit(self.url).port or 0)

    @property
    def token(self) -> str:
        return parse_qs(urlsplit(self.url).query)["token"][0]

    def ask(self, path: str, method: str = "GET", host: str = "", cookie: str | None = None, site: str = "") -> Answer:
        """One request, word for word: nothing is normalised on the way."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.putrequest(method, path, skip_host=True)
            connection.putheader("Host", host or f"127.0.0.1:{self.port}")
            cookie = self.cookie if cookie is None else cookie
            if cookie:
                connection.putheader("Cookie", cookie)
            if site:
                connection.putheader("Sec-Fetch-Site", site)
            connection.endheaders()
            found = connection.getresponse()
            return Answer(found.status, dict(found.getheaders()), found.read().decode())
        finally:
            connection.close()

    def enter(self) -> Answer:
        """Ask with the token, and keep the cookie."""
        found = self.ask(f"/?token={self.token}", cookie="")
        self.cookie = found.headers["Set-Cookie"].partition(";")[0]
        return found

    def run(self, name: str, **asked: str) -> Any:
        """What is new of a run; None when nothing is."""
        query = "&".join(f"{key}={quote(value)}" for key, value in asked.items())
        found = self.ask(f"/run/{quote(name, safe='')}?{query}")
        assert found.status in (200, 204), found
        return json.loads(found.text) if found.status == 200 else None


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@contextmanager
def viewing(runs: Path, *arguments: object) -> Iterator[Viewer]:
    """A live view of a folder of runs, with a cookie; it is interrupted at the end, and ends cleanly."""
    process = begin("view", runs, "--json", *arguments, cwd=runs.parent, PYTHONPATH=str(ROOT))
    try:
        found = Viewer(printed(process), process)
        found.enter()
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, "", "")


def printed(process: subprocess.Popen[str]) -> str:
    """The address that a view prints, from one JSON document."""
    assert process.stdout is not None
    text = ""
    while not text.rstrip().endswith("}"):
        line = process.stdout.readline()
        assert line, f"the view ended: {process.communicate()[1]}"
        text += line
    return str(json.loads(text)["url"])


@contextmanager
def running(problem: Path, runs: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A run in a process of its own; it is let go and waited for at the end."""
    process = begin("run", problem, "--runs", runs, "--json", *arguments, cwd=problem, PYTHONPATH=str(ROOT))
    try:
        yield process
    finally:
        (problem / "go").touch()
        process.communicate(timeout=PATIENCE)


def crawled(arguments: list[str], cwd: Path) -> Ran:
    """All that a live view says from its beginning to its end, at every address that it has."""
    process = begin("view", *arguments, cwd=cwd, PYTHONPATH=str(ROOT))
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if url := re.search(r"http://127[^\s\"]+", line):
            said += _everything(Viewer(url[0], process))
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=PATIENCE)
    return Ran(process.returncode, "".join(said) + out, err)


def _everything(viewer: Viewer) -> Iterator[str]:
    viewer.enter()
    listed = viewer.ask("/runs").json["html"]
    yield listed
    for name in re.findall(r'data-run="([^"]+)"', listed):
        found = viewer.run(name)
        yield json.dumps(found, ensure_ascii=False)
        yield json.dumps(viewer.run(name, cursor=found.get("cursor", "")), ensure_ascii=False)
        count = found.get("parts", {}).get("table", "").count('<tr id="c')
        for number in range(count + 1):
            yield json.dumps(viewer.ask(f"/run/{name}/candidate/{number}").json, ensure_ascii=False)
        for number in range(1, 100):
            yield json.dumps(viewer.ask(f"/run/{name}/trace/{number}").json, ensure_ascii=False)
        yield viewer.ask(f"/report/{name}").text


def enter(browser: Browser, viewer: Viewer) -> None:
    """Open the printed address and wait until the page behind it has the list of runs."""

    def there() -> bool:
        try:
            return bool(browser.run("location.search === '' && document.querySelectorAll('#runs li').length > 0"))
        except AssertionError as error:  # asked while the first page gave way to the second
            assert "navigated" in str(error) or "context" in str(error), error
            return False

    browser.send("Page.navigate", url=viewer.url)
    until(there, "the list of runs")


def seen(browser: Browser, script: str, what: str = "") -> Any:
    """Wait until an expression is true in the page; gives its value."""
    return until(lambda: browser.run(script), what or script)


def complaints(browser: Browser, viewer: Viewer) -> list[str]:
    """What the browser complains of: all but requests to the view itself, and going on without a click."""
    own = f"request: http://127.0.0.1:{viewer.port}/"
    return [said for said in browser.complaints if not said.startswith(own) and "MarkedSkippable" not in said]
