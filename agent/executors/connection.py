"""Our end of one worker process; `agent.executors.worker` is the other one and describes the lines between them."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from agent.executors.capture import Drain, HeadTail
from agent.executors.process import Ending, GuardedProcess
from agent.executors.worker import LINE_BYTES

FOREIGN = "the evaluation wrote to the worker's own channel"


class WorkerConnection(asyncio.Protocol):
    """Starts a worker process and talks to it.

    Args:
        env: The worker's environment.
        log_chars: How many bytes are kept of what it prints until `log` is first called.

    Attributes:
        number: Of the request that it works on; what it sends for another one is ignored.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, env: Mapping[str, str], log_chars: int) -> None:
        self.number = 0
        self.layers: tuple[str, ...] = ()
        """Of the evaluator's sandbox, once it has said so: what is killed cannot say it any more."""
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._scanned = 0
        self._answer: asyncio.Future[dict[str, Any] | ConnectionError] | None = None
        self._report: Callable[[Any], None] = lambda _: None
        self._transport: asyncio.BaseTransport | None = None
        self._log = HeadTail(log_chars)
        self._socket, theirs = socket.socketpair()
        read, write = os.pipe()
        try:
            self._process = GuardedProcess(
                "worker",
                [str(theirs.fileno())],
                environment=env,
                stdout=write,
                stderr=write,
                descriptors=[theirs.fileno()],
            )
        except BaseException:
            self._socket.close()
            os.close(read)
            raise
        finally:
            theirs.close()
            os.close(write)
        self._drain = Drain(read, lambda data: self._log.feed(data))

    @property
    def alive(self) -> bool:
        """Whether it can take a request, as far as we know."""
        return self._process.alive and (self._transport is None or not self._transport.is_closing())

    async def ask(self, message: Mapping[str, Any], report: Callable[[Any], None]) -> dict[str, Any]:
        """Send one message and wait for the answer; `report` takes partial results.

        Raises:
            ConnectionError: The worker died, or sent what is not an answer; then the text says so.
        """
        if self._transport is None:
            self._transport, _ = await self._loop.create_unix_connection(lambda: self, sock=self._socket)
        if self._transport.is_closing():
            raise ConnectionResetError
        self._answer = self._loop.create_future()
        self._report = report
        assert isinstance(self._transport, asyncio.WriteTransport)
        self._transport.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        try:
            answer = await self._answer
        finally:
            self._answer = None
        if isinstance(answer, ConnectionError):
            raise answer
        return answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\n", self._scanned)) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._scanned = 0
            self._line(line)
        self._scanned = len(self._buffer)
        if self._scanned > LINE_BYTES:
            self._fail(FOREIGN)

    def _line(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            current = message.get("number", self.number) == self.number
        except (ValueError, AttributeError):
            self._fail(FOREIGN)
            return
        if not current or self._answer is None or self._answer.done():
            return  # a thread that the user left running
        if "partial" in message:
            self._loop.call_soon(self._report, message["partial"])  # what it raises must not end the connection
        else:
            self._answer.set_result(message)

    def _fail(self, text: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(ConnectionError(text))
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail("")

    def log(self, limit: int = 0) -> str:
        """What it printed since the last call; the next `limit` bytes are kept for the next one."""
        self._drain.rest()
        text = self._log.text()
        self._log = HeadTail(limit)
        return text

    def kill(self) -> None:
        """End it and everything it started; returns at once."""
        self._process.kill()

    async def end(self) -> Ending:
        """Kill it, wait until nothing of it is left, and say how it ended. May be called twice."""
        try:
            ending = await self._process.stop()
        finally:
            if self._transport is None:
                self._socket.close()
            else:
                self._transport.close()
        self._drain.rest()
        self._drain.close()
        return ending
