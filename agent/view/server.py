"""Serves the live view: to this machine alone, to whoever has the token, and to read only."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from agent.errors import AgentError, ConfigError
from agent.redact import redact
from agent.serving.loopback import CLIENTS, Handler, Loopback
from agent.view.gallery import Gallery

HOSTS = ("127.0.0.1", "localhost")
"""Names by which this machine may be called; another one is a page that has had its name pointed here."""
POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from elsewhere, and no script but the page's own file. Styles are inline because each picture has its own."""
FIXED = {
    "/": ("agent.view", "index.html", "text/html; charset=utf-8"),
    "/view.js": ("agent.view", "view.js", "text/javascript; charset=utf-8"),
    "/view.css": ("agent.view", "view.css", "text/css; charset=utf-8"),
    "/report.css": ("agent.report", "style.css", "text/css; charset=utf-8"),
}
ENTER = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={}"><title>TrueGain</title>
<link rel="icon" href="data:,">
<p><a href="{}">The live view</a></p></html>
"""
"""Leaves the token's address. The cookie is strict, and goes only with what a page of our own asks for. It names an
icon, or the browser asks for one that is not there, and tells that as an error."""


class Server(Loopback):
    """The live view of a folder of runs, on 127.0.0.1.

    Args:
        runs: The folder.
        port: 0 for a free one.
        first: Name of the run to open, or "" for one that is running, else the newest.

    Raises:
        ConfigError: The port cannot be had.
    """

    def __init__(self, runs: Path, port: int = 0, first: str = "") -> None:
        try:
            super().__init__(port, _Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"port {port} of 127.0.0.1 cannot be had: {getattr(error, 'strerror', None) or error}",
                hint="leave --port out, and a free one is taken",
            ) from None
        self.gallery = Gallery(runs)
        self.token = secrets.token_urlsafe(32)
        self.first = first
        # A browser gives the cookie to every server of this machine, whatever its port: it is no token to enter with.
        self.cookie, self.secret = f"truegain-view-{secrets.token_hex(4)}", secrets.token_urlsafe(32)

    @property
    def place(self) -> str:
        """Where the page begins."""
        from agent.view.parts import LIVE

        found = [] if self.first else self.gallery.states()
        live = [item.name for item in found if item.state in LIVE]
        name = next(iter([*live, *(item.name for item in found if item.state != "damaged")]), self.first)
        return f"/#/{quote(name, safe='')}" if name else "/"

    @property
    def url(self) -> str:
        """The address to open, with the token."""
        return f"http://127.0.0.1:{self.server_address[1]}/?token={self.token}"


class _Handler(Handler):
    server: Server

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        asked = {name: values[-1] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
        if not self._hosted():
            self._text(403, "this address is not the one that `truegain view` printed")
        elif address.path == "/" and "token" in asked:
            self._enter(asked["token"])
        elif not self._known() or not (address.path == "/" or self._own()):
            self._text(403, "open the address that `truegain view` printed: it holds a token")
        elif not self.server.knows(self.connection):
            self.close_connection = True
            self._text(503, f"{CLIENTS} requests are being answered: ask again", Connection="close")
        else:
            self.server.has_read(self.connection)
            self._page(address.path, asked)

    def _page(self, path: str, asked: Mapping[str, str]) -> None:
        if path in FIXED:
            package, name, kind = FIXED[path]
            self._send(200, (files(package) / name).read_bytes(), kind)
        else:
            self._answer([unquote(part) for part in path.split("/")[1:]], asked)

    def _refused(self) -> None:
        if self._hosted():
            self.close_connection = True  # what comes with the request is not read
            self._text(405, "this server is for reading", Allow="GET", Connection="close")
        else:
            self._text(403, "this address is not the one that `truegain view` printed", Connection="close")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What `http.server` itself refuses: in the form of every other answer."""
        self.request_version = self.protocol_version  # else it takes garbage for HTTP/0.9, which has no head
        self.close_connection = True
        self._text(code, message or "this is no request", Connection="close")

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refused

    def _hosted(self) -> bool:
        given = self.headers.get_all("Host", [])
        return len(given) == 1 and given[0].partition(":")[0].lower() in HOSTS

    def _own(self) -> bool:
        """Whether it is asked by our own page, or by its reader, as far as a browser tells."""
        return self.headers.get("Sec-Fetch-Site", "none") in ("same-origin", "none")

    def _known(self) -> bool:
        for line in self.headers.get_all("Cookie", []):
            try:
                found = SimpleCookie(line).get(self.server.cookie)
            except CookieError:
                continue
            if found is not None and _same(found.value, self.server.secret):
                return True
        return False

    def _enter(self, token: str) -> None:
        if not _same(token, self.server.token):
            self._text(403, "this token is not that of `truegain view` as it runs now: open the address it printed")
            return
        cookie = f"{self.server.cookie}={self.server.secret}; Path=/; HttpOnly; SameSite=Strict"
        place = self.server.place
        page = ENTER.format(place, place)
        self._send(200, page.encode(), "text/html; charset=utf-8", **{"Set-Cookie": cookie})

    def _answer(self, path: list[str], asked: Mapping[str, str]) -> None:
        """What a part of the page asks for."""
        from agent.view import answers

        try:
            match path:
                case ["runs"]:
                    self._json(answers.runs(self.server.gallery, asked))
                case ["run", name]:
                    self._json(answers.run(self.server.gallery, name, asked))
                case ["run", name, "candidate", number] if answers.is_number(number):
                    self._json(answers.candidate(self.server.gallery, name, int(number)))
                case ["run", name, "trace", number] if answers.is_number(number):
                    self._json(answers.trace(self.server.gallery, name, int(number)))
                case ["report", name]:
                    self._report(name)
                case _:
                    self._text(404, "there is no such page")
        except AgentError as error:
            self._json({"error": redact(error.message), "hint": redact(error.to_json().get("hint") or "")})

    def _report(self, name: str) -> None:
        from agent.report.page import report
        from agent.report.view import load_view

        folder = self.server.gallery.folder(name)
        if folder is None:
            self._text(404, "there is no such run")
            return
        try:
            found = report(load_view(folder))
        except AgentError as error:
            self._text(409, redact(error.message))
            return
        self._send(200, found.encode("utf-8", "replace"), "text/html; charset=utf-8")

    def _json(self, document: Any) -> None:
        if document is None:  # nothing new
            self._send(204, b"", "application/json")
        else:
            self._send(200, json.dumps(document).encode(), "application/json")

    def _text(self, status: int, text: str, **headers: str) -> None:
        self._send(status, f"{text}\n".encode(), "text/plain; charset=utf-8", **headers)

    def _send(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        fixed = {
            "Content-Type": kind,
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        if status != 204:
            fixed["Content-Length"] = str(len(body))
        for name, value in {**fixed, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
