"""HTTP on this machine's loopback, for whoever has a token; strangers cannot keep its owner out."""

from __future__ import annotations

import contextlib
import math
import socket
import sys
import threading
import time
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

CLIENTS = 64
"""Requests that are answered at once."""
STRANGERS = 64
"""Connections that have not shown a token, or ask for nothing; of more, the one that has waited longest is closed."""
PATIENCE = 15.0
"""Seconds that a client has to send its whole request, and to take the answer."""


class Loopback(ThreadingHTTPServer):
    """A server on 127.0.0.1 with a thread for each connection, and an end to how many and how long.

    A connection is a stranger's until `knows` was called for it, and again after its answer.

    Args:
        port: 0 for a free one.
        handler: Of its requests.

    Raises:
        OSError, OverflowError: The port cannot be had.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    allow_reuse_address = False

    def __init__(self, port: int, handler: type[Handler]) -> None:
        self._guard = threading.Lock()
        self._strangers: OrderedDict[socket.socket, float] = OrderedDict()
        self._known: dict[socket.socket, float] = {}
        super().__init__(("127.0.0.1", port), handler)

    def server_bind(self) -> None:
        """Without the look-up of a name for the address, which HTTPServer makes and which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    @property
    def busy(self) -> bool:
        """Whether somebody is being answered."""
        return bool(self._known)

    def waits(self, line: socket.socket) -> None:
        """Take a connection for a stranger's, which has the time of one request from now."""
        with self._guard:
            self._known.pop(line, None)
            self._strangers[line] = time.monotonic() + PATIENCE
            self._strangers.move_to_end(line)
            while len(self._strangers) > STRANGERS:
                _cut(self._strangers.popitem(last=False)[0])

    def knows(self, line: socket.socket) -> bool:
        """Say that a connection has shown the token; whether there is room for its request."""
        with self._guard:
            if line not in self._strangers or len(self._known) >= CLIENTS:
                return False
            self._known[line] = self._strangers.pop(line)
            return True

    def has_read(self, line: socket.socket) -> None:
        """Say that the whole request is here; the answer may take its time."""
        with self._guard:
            if line in self._known:
                self._known[line] = math.inf

    def process_request(self, request: Any, client_address: Any) -> None:
        self.waits(request)
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Close, a few times a second, the connections whose time is up, however many bytes drip in."""
        now = time.monotonic()
        with self._guard:
            for lines in (self._strangers, self._known):
                for line in [line for line, end in lines.items() if end < now]:
                    del lines[line]
                    _cut(line)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._strangers.pop(request, None)
            self._known.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Requests of one connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "truegain", ""
    timeout = PATIENCE
    server: Loopback

    def handle_one_request(self) -> None:
        self.server.waits(self.connection)
        super().handle_one_request()

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody wants to read it, and it might hold a token."""


def _cut(line: socket.socket) -> None:
    """End a connection; its thread, which reads or writes, hears of it at once."""
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
