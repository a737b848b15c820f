"""Our end of the channel to a candidate. What comes over it may come from an enemy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import struct
import sys
from typing import Any, cast

from agent.sandbox.candidate import HEADER, MESSAGE_CHARS
from agent.sandbox.types import Status

ERROR_BYTES = 64 * 1024
TOLD: tuple[Status, ...] = ("invalid", "crash", "memory", "forbidden")
"""What a candidate may say of itself."""


class Failure(Exception):
    """The job failed.

    Args:
        status: How.
        message: One sentence.
        detail: Where, in the candidate's files.
    """

    def __init__(self, status: Status, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.status: Status = status
        self.message = message
        self.detail = detail


class Closed(Exception):
    """The candidate's end is closed: it has ended."""


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Channel:
    """Requests and their one answer each.

    Args:
        limit: Bytes of the largest output.

    Attributes:
        theirs: The other end, to be handed over and closed.
        hello: Nonce of the first frame.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._ours, self.theirs = socket.socketpair()
        self._ours.setblocking(False)
        if sys.platform == "linux":
            self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._buffer = bytearray()
        self.hello = secrets.token_bytes(16)
        self._loading = b""

    async def greeted(self, load: bytes) -> int | None:
        """Send what to load and wait for the first frame, which comes before anything is loaded.

        Args:
            load: JSON.

        Returns:
            The number of the process that sent it, from the system, where that tells.

        Raises:
            Closed: It ended before.
            Failure: Something else came.
        """
        self._loading = await self._send(b"L", load)
        if sys.platform != "linux":
            await self._frame(self.hello, {b"H": 0})
            return None
        data, extra = await self._first()
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        self._buffer += data
        await self._frame(self.hello, {b"H": 0})
        for level, kind, content in extra:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                return cast(int, struct.unpack_from("i", content)[0]) or None
        return None

    async def _first(self) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._ours, _set, ready)
        try:
            await ready
        finally:
            self._loop.remove_reader(self._ours)
        try:
            data, extra, _, _ = self._ours.recvmsg(65536, 256)
        except OSError:
            raise Closed from None
        if not data:
            raise Closed
        return data, extra

    async def loaded(self) -> None:
        """Wait for the answer to what `greeted` sent.

        Raises:
            Closed: The candidate ended before it answered.
            Failure: It answered that it failed, or with something else than an answer.
        """
        await self._frame(self._loading, {b"R": 0})

    async def ask(self, data: bytes) -> bytes:
        """Send an input and return the output, both encoded.

        Raises:
            Closed: The candidate ended before it answered.
            Failure: It answered that it failed, or with something else than an answer.
        """
        if self._buffer:
            raise Failure("forged", "it answered before it was asked")
        return await self._frame(await self._send(b"I", data), {b"O": self._limit})

    async def _send(self, kind: bytes, data: bytes) -> bytes:
        nonce = secrets.token_bytes(16)
        try:
            await self._loop.sock_sendall(self._ours, HEADER.pack(nonce, kind, len(data)) + data)
        except OSError:
            raise Closed from None
        return nonce

    async def _frame(self, nonce: bytes, sizes: dict[bytes, int]) -> bytes:
        said, kind, size = HEADER.unpack(await self._exactly(HEADER.size))
        if said != nonce or kind not in (*sizes, b"E"):
            raise Failure("forged", "it wrote something else than the answer to the channel")
        most = sizes.get(kind, ERROR_BYTES)
        if size > most:
            if kind == b"O":
                raise Failure("invalid", f"an output has {size:,} bytes, and {most:,} are allowed")
            raise Failure("forged", "it wrote something else than the answer to the channel")
        data = await self._exactly(size)
        if kind == b"E":
            raise self._told(data)
        return data

    def _told(self, data: bytes) -> Failure:
        try:
            said: Any = json.loads(data)
            status, message, detail = (said[name] for name in ("status", "message", "detail"))
        except (ValueError, TypeError, LookupError, RecursionError):
            status = message = detail = None
        if status not in TOLD or not isinstance(message, str) or not isinstance(detail, str):
            return Failure("forged", "it wrote something else than the answer to the channel")
        return Failure(status, message[:MESSAGE_CHARS], detail[:MESSAGE_CHARS])

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            try:
                data = await self._loop.sock_recv(self._ours, 2**18)
            except OSError:
                data = b""
            if not data:
                raise Closed
            self._buffer += data
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def extra(self) -> bool:
        """Whether more came than was asked for. To be called when the candidate is gone."""
        with contextlib.suppress(OSError):
            return bool(self._buffer) or bool(self._ours.recv(1))
        return bool(self._buffer)

    def close(self) -> None:
        """Close both ends."""
        self.theirs.close()
        self._ours.close()
