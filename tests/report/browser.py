"""Headless Chromium, driven by the DevTools protocol over a pipe: no port, no driver, no further package.

Source: https://chromedevtools.github.io/devtools-protocol; `--remote-debugging-pipe` reads NUL-terminated JSON from
file descriptor 3 and writes it to 4.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PATIENCE = 90.0
"""Seconds that one answer may take on a machine that is busy."""

LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(text), fcntl.F_DUPFD, 10) for text in sys.argv[1:3]]
for place, end in zip((3, 4), ends):
    os.dup2(end, place)
os.execvp(sys.argv[3], sys.argv[3:])
"""
"""Gives the browser its two ends of the pipes where it looks for them."""


def chromium() -> str | None:
    """The browser's program, if there is one."""
    return next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )


class Browser:
    """One tab. Whatever it says on the console, or blocks, is in `complaints`."""

    def __init__(self) -> None:
        program = chromium()
        assert program is not None
        self._profile = tempfile.TemporaryDirectory(prefix="browser", ignore_cleanup_errors=True)
        self.complaints: list[str] = []
        """Console messages, exceptions, CSP violations and failed or attempted loads, but for the page itself."""
        read_commands, self._to = os.pipe()
        self._from, write_answers = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
                 "--disable-dev-shm-usage", "--disable-background-networking", "--remote-debugging-pipe",
                 f"--user-data-dir={self._profile.name}", "about:blank"]  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(read_commands), str(write_answers), program, *flags],
            pass_fds=(read_commands, write_answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(read_commands)
        os.close(write_answers)
        self._rest, self._number, self._session = b"", 0, ""
        self._events: list[dict[str, Any]] = []
        (page,) = [t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        found = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._session = ""
            self.send("Browser.close")
            self._process.wait(20)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            os.killpg(self._process.pid, 9)
            self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            chunk = os.read(self._from, 1 << 20)
            assert chunk, "the browser is gone"
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        self._note(found.get("method", ""), found.get("params", {}))
        return found

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled":
            self.complaints.append(f"console: {params['args']}")
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(f"exception: {params['exceptionDetails']}")
        elif method == "Log.entryAdded":
            self.complaints.append(f"log: {params['entry']['text']} {params['entry'].get('url', '')}".strip())
        elif method == "Audits.issueAdded":
            self.complaints.append(f"issue: {params['issue']}")
        elif method == "Network.requestWillBeSent":
            kind, url = params.get("type"), params["request"]["url"]
            if kind != "Document" and not url.startswith("data:"):
                self.complaints.append(f"request: {url[:200]}")
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"dialog: {params['message']}")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a command."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        data = memoryview(json.dumps(message).encode() + b"\0")
        while data:
            data = data[os.write(self._to, data) :]
        deadline = time.monotonic() + PATIENCE
        while True:
            found = self._receive(deadline)
            if found.get("id") == self._number:
                assert "error" not in found, f"{method}: {found['error']}"
                result: dict[str, Any] = found["result"]
                return result
            self._events.append(found)

    def wait(self, method: str) -> None:
        """Until an event has come since the last `open`."""
        deadline = time.monotonic() + PATIENCE
        while not any(event.get("method") == method for event in self._events):
            self._events.append(self._receive(deadline))

    def open(self, page: Path | str, fragment: str = "") -> float:
        """Load a file or URL; seconds from the start of the navigation to two frames after its load event."""
        url = page.resolve().as_uri() + fragment if isinstance(page, Path) else page
        self._events.clear()
        self.send("Page.navigate", url=url)
        self.wait("Page.loadEventFired")
        # Two frames later the page is laid out and painted; in an emulated world scripts may run whatever the
        # page's policy says.
        found = self.run(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"
        )
        return float(found) / 1000

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def look(self, width: int, dark: bool = False, printed: bool = False) -> None:
        """How the page is shown from now on."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", media="print" if printed else "", features=[scheme])

    def picture(self, path: Path, top: int = 0, height: int | None = None) -> None:
        """The page as PNG, from `top` on; the whole page without a height."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": top, "width": size["width"], "height": height or size["height"], "scale": 1}
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))
