"""Evaluations in warm worker processes, which are killed and replaced when they misbehave."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from agent.evaluation import Failure, Limits, Output, Request
from agent.executors.capture import Drain, HeadTail
from agent.executors.measure import Partials
from agent.executors.process import GuardedProcess, environment
from agent.executors.worker import LINE_BYTES

START_SECONDS = 120.0
FOREIGN = "the evaluation wrote to the worker's own channel"


class SubprocessExecutor:
    """Runs requests in worker processes, one per slot.

    A worker starts when it is first needed and serves one request after the other. Each runs in a
    process group of its own under a guard, so that a timeout, a cancellation, the end of this
    executor or the death of this process ends it together with everything it started. What it
    prints becomes the output's log. Workers run in this process's working directory and find the
    modules that this process finds; keys of model providers are not passed on.

    Args:
        spec: The evaluator's `spec`.
        slots: How many requests run at once; at least 1.
        isolate: Whether every request gets a new worker.
        env: Environment variables that workers get in addition, such as a key they need.
        start_seconds: How long a worker may take to import the user's code.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        *,
        slots: int,
        isolate: bool = False,
        env: Mapping[str, str] | None = None,
        start_seconds: float = START_SECONDS,
    ) -> None:
        if slots < 1:
            raise ValueError(f"slots must be at least 1, not {slots}")
        self._spec = dict(spec)
        self._slots = asyncio.Semaphore(slots)
        self._isolate = isolate
        self._env = dict(env or {})
        self._start_seconds = start_seconds
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._closed = False

    async def submit(self, request: Request, partial: Callable[[Any], None] | None = None) -> Output:
        """The request's output; failures are outputs. Cancelling the call kills the worker and all it started."""
        async with self._slots:
            if self._closed:
                return Output.failed("cancelled", "the executor is closed")
            try:
                worker = await self._worker(request.limits)
            except _Unavailable as error:
                output = error.output
            else:
                output = await self._run(worker, request, Partials(partial))
        if self._closed and output.failure is not None and output.failure.kind == "lost":
            return replace(output, failure=Failure("cancelled", "the executor was closed"))
        return output

    async def close(self) -> None:
        """Kill all workers and wait until they are gone. May be called twice."""
        self._closed = True
        self._idle.clear()
        workers = list(self._workers)
        for worker in workers:
            worker.kill()
        await asyncio.gather(*(self._retire(worker) for worker in workers))

    async def _worker(self, limits: Limits) -> _Worker:
        """An idle worker, or a new one.

        Raises:
            _Unavailable: None could be started; it carries the output that says why.
        """
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            await self._retire(worker)  # it died while nobody used it; no request is to blame
        try:
            worker = _Worker(environment(self._env), limits.log_chars)
        except OSError as error:
            raise _Unavailable(Output.failed("lost", f"no worker process could be started: {error}")) from error
        self._workers.add(worker)
        failure: Failure | None = None
        ready = False
        try:
            async with asyncio.timeout(self._start_seconds):
                reply = await worker.ask({"spec": self._spec, "path": _path()}, lambda _: None)
            ready = "ready" in reply
            if not ready:
                failure = Failure(**reply["failure"])
        except TimeoutError:
            failure = Failure("timeout", f"importing the evaluator took longer than {self._start_seconds:g} s")
        except ConnectionError:
            ending = await worker.end()
            failure = Failure("lost", f"the worker process {ending} while it imported the evaluator")
        finally:
            if not ready:
                await self._retire(worker)
        if failure is not None:
            raise _Unavailable(Output(failure=failure, log=worker.log()))
        return worker

    async def _run(self, worker: _Worker, request: Request, partials: Partials) -> Output:
        loop = asyncio.get_running_loop()
        limits = request.limits
        started = loop.time()
        keep = False
        try:
            worker.number += 1
            message = {"request": request.to_json(), "number": worker.number}
            async with asyncio.timeout(limits.seconds):
                reply = await worker.ask(message, partials)
            output = _read(reply)
            # After a MemoryError nobody knows what is still held.
            keep = not self._isolate and (output.failure is None or output.failure.kind != "memory")
        except TimeoutError:
            await worker.end()
            output = Output.failed("timeout", f"it took longer than {limits.seconds:g} s and was killed")
        except ConnectionError as error:
            ending = await worker.end()
            if ending.out_of_memory(limits.memory_mb):
                output = Output.failed("memory", f"it {ending}, with {ending.peak_mb:.0f} MB in use")
            else:
                text = str(error) or f"the worker process {ending} in the middle of the evaluation"
                output = Output.failed("lost", text)
        finally:
            kept = partials.end()
            if not keep:
                await self._retire(worker)
        text = worker.log(limits.log_chars)
        if keep and not self._closed:
            self._idle.append(worker)
        return replace(output, log=text, partials=kept, seconds=output.seconds or loop.time() - started)

    async def _retire(self, worker: _Worker) -> None:
        await worker.end()
        self._workers.discard(worker)


def _read(reply: Mapping[str, Any]) -> Output:
    try:
        return Output.from_json(reply["output"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ConnectionError(FOREIGN) from None


class _Unavailable(Exception):
    def __init__(self, output: Output) -> None:
        self.output = output


def _path() -> list[str]:
    """Where this process finds modules. A worker looks there last, so nothing shadows what it imports itself."""
    return [os.path.abspath(entry) for entry in sys.path if type(entry) is str]


class _Worker(asyncio.Protocol):
    """Our end of one worker process. `agent.executors.worker` describes the lines."""

    def __init__(self, env: Mapping[str, str], log_chars: int) -> None:
        self.number = 0
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._scanned = 0
        self._answer: asyncio.Future[dict[str, Any]] | None = None
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
            return await self._answer
        finally:
            self._answer = None

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
            self._report(message["partial"])
        else:
            self._answer.set_result(message)

    def _fail(self, text: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(text))
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
        self._process.kill()

    async def end(self) -> Any:
        """Kill it and wait until nothing of it is left; how it ended."""
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
