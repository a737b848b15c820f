"""The desk over HTTP: on this machine's loopback alone, and for whoever has the token.

GET /problem, GET /best, POST /evaluate, POST /rows, POST /finish: docs/agents.md has them with an example.
"""

from __future__ import annotations

import asyncio
import hmac
import http
import json
import secrets
import socket
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from agent.errors import AgentError, ConfigError
from agent.redact import redact
from agent.serving.address import LARGEST
from agent.serving.body import Unfit, parsed
from agent.serving.desk import Desk
from agent.serving.line import LONGEST, Refused
from agent.serving.loopback import CLIENTS, PATIENCE, Handler, Loopback

LAST = 2.0
"""Seconds that a client which is refused has to take the answer."""
KNOWN = {"/problem": "GET", "/best": "GET", "/evaluate": "POST", "/rows": "POST", "/finish": "POST"}
STATUS = {"config": 400, "budget": 409, "closed": 409, "store": 500, "internal": 500}


@dataclass
class Door:
    """The server, from `take` to `close`.

    Args:
        desk: Whose requests it takes.
        port: 0 for any free one.
        token: Who has it may ask.
    """

    desk: Desk
    port: int = 0
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def take(self) -> None:
        """Take the port.

        Raises:
            ConfigError: It is taken.
        """
        try:
            self._server = _Server(self.port, _Handler)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on port {self.port}: {error.strerror}", hint="choose another --port, or none"
            ) from None
        self._server.door = self
        self.port = self._server.server_address[1]

    def open(self) -> str:
        """Begin to listen, from within the run's loop; the address."""
        self.loop = asyncio.get_running_loop()
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="truegain-serve", daemon=True).start()
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Listen no more. Waits for nobody, since a client may have died."""
        if hasattr(self, "loop"):
            self._server.shutdown()
        self._server.server_close()

    async def quiet(self) -> None:
        """Return when nobody is being answered, or waits for too long."""
        for _ in range(100):
            if not self._server.busy:
                return
            await asyncio.sleep(LAST / 100)

    def ask(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What something in the run's loop gives; called from a client's thread."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self.loop)
            return future.result(LONGEST + PATIENCE)
        except (RuntimeError, TimeoutError):
            work.close()
            raise Refused("the run has ended", hint="truegain show tells what it found") from None

    async def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What a request gives."""
        by = str(body.get("by") or "http")
        if path == "/problem":
            return self.desk.problem()
        if path == "/best":
            return self.desk.best()
        if path == "/evaluate":
            return await self.desk.evaluate(body, by)
        if path == "/rows":
            return await self.desk.rows(body, by)
        return await self.desk.finish(body.get("wait"))


class _Server(Loopback):
    door: Door


class _Handler(Handler):
    server: _Server

    def do_GET(self) -> None:
        self._do("GET")

    def do_POST(self) -> None:
        self._do("POST")

    def _do(self, verb: str) -> None:
        server, door = self.server, self.server.door
        try:
            self._meant()
            if not server.knows(self.connection):
                raise Unfit(503, f"{CLIENTS} requests are being answered", "ask again later")
            path = self._path(verb)
            body = self._body(path) if verb == "POST" else {}
            server.has_read(self.connection)
            found = door.ask(door.answer(path, body))
            self._say(202 if found.get("state") == "waiting" else 200, found)
            if found.get("sentence") and path == "/finish":
                door.loop.call_soon_threadsafe(door.desk.told.set)
        except Unfit as error:
            self._say(error.status, _error("busy" if error.status == 503 else "request", error.message, error.hint))
        except AgentError as error:
            self._say(STATUS.get(error.kind, 400), redact({"error": error.to_json()}))
        except ValueError as error:
            self._say(400, redact(_error("config", str(error)[:2000], "the problem tells its space")))
        except OSError:
            self.close_connection = True
        except Exception as error:
            self._say(500, _error("internal", type(error).__name__, "this is a defect; the run goes on"))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What `http.server` itself refuses: in the form of every other error."""
        self.request_version = self.protocol_version  # else it takes garbage for HTTP/0.9, which has no head
        words = message or http.HTTPStatus(code).phrase
        hint = "ask with GET or POST" if code == 501 else "send an HTTP/1.1 request such as GET /problem"
        self._say(code, _error("request", words[:200], hint))

    def _meant(self) -> None:
        """Refuse who does not mean this server, or has no token."""
        door = self.server.door
        hosts = (f"127.0.0.1:{door.port}", f"localhost:{door.port}")
        # A page in a browser may reach this port under a name of its own; it cannot choose the Host header.
        if self.headers.get("Host", "").lower() not in hosts or self.headers.get("Origin") is not None:
            raise Unfit(403, "requests come from this machine, and not from a page", f"ask http://{hosts[0]}")
        given = self.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {door.token}".encode()):
            raise Unfit(401, "the token is missing or wrong", "send the header Authorization: Bearer TOKEN")

    def _path(self, verb: str) -> str:
        """The path of a request that can be answered."""
        if self.path not in KNOWN:
            raise Unfit(404, "there is nothing of that name", f"known are {', '.join(KNOWN)}")
        if KNOWN[self.path] != verb:
            raise Unfit(405, f"{self.path} is asked with {KNOWN[self.path]}", f"send {KNOWN[self.path]} {self.path}")
        return self.path

    def _body(self, path: str) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or self.headers.get("Transfer-Encoding") is not None:
            raise Unfit(411, "the length of the body is missing", "send Content-Length")
        if len(length) > 12 or int(length) > LARGEST:
            raise Unfit(413, f"the body is longer than {LARGEST} bytes", "send the values alone")
        text = self.rfile.read(int(length))
        if len(text) != int(length):
            raise OSError("it was cut off")
        return parsed(path, text)

    def _say(self, status: int, found: dict[str, Any]) -> None:
        text = json.dumps(found, ensure_ascii=False).encode("utf-8", "replace")
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
            self.send_header("Cache-Control", "no-store")
            if status >= 400:  # what is left of its body is no next request
                self.close_connection = True
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(text)
            if status >= 400:
                self.server.waits(self.connection)  # it needs no room among those that are answered any more
                self._drop()
        except OSError:
            self.close_connection = True

    def _drop(self) -> None:
        """Read on for a moment what is not wanted: closed at once, the connection would take the answer with it."""
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(LAST)
        end = time.monotonic() + LAST
        while time.monotonic() < end and self.connection.recv(1 << 16):
            pass


def _error(kind: str, message: str, hint: str) -> dict[str, Any]:
    return {"error": {"kind": kind, "message": message, "hint": hint}}
