"""Evaluations in warm worker processes, which are killed and replaced when they misbehave."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from agent.evaluation import Failure, Limits, Output, Request
from agent.executors.connection import FOREIGN, WorkerConnection
from agent.executors.measure import Partials
from agent.executors.process import environment

START_SECONDS = 120.0
CLOSED = Failure("cancelled", "the executor is closed")


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
        self._workers: set[WorkerConnection] = set()
        self._idle: list[WorkerConnection] = []
        self._closed = False

    async def submit(self, request: Request, partial: Callable[[Any], None] | None = None) -> Output:
        """The request's output; failures are outputs. Cancelling the call kills the worker and all it started."""
        async with self._slots:
            try:
                worker = await self._worker(request.limits)
            except _Unavailable as error:
                output = error.output
            else:
                output = await self._run(worker, request, Partials(partial))
        if self._closed and output.failure is not None and output.failure.kind == "lost":
            return replace(output, failure=CLOSED)
        return output

    async def close(self) -> None:
        """Kill all workers and wait until they are gone. May be called twice."""
        self._closed = True
        self._idle.clear()
        workers = list(self._workers)
        for worker in workers:
            worker.kill()
        await asyncio.gather(*(self._retire(worker) for worker in workers))

    async def _worker(self, limits: Limits) -> WorkerConnection:
        """An idle worker, or a new one.

        Raises:
            _Unavailable: None could be started; it carries the output that says why.
        """
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            await self._retire(worker)  # it died while nobody used it; no request is to blame
        if self._closed:
            raise _Unavailable(Output(failure=CLOSED))
        try:
            worker = WorkerConnection(environment(self._env), limits.log_chars)
        except OSError as error:
            raise _Unavailable(Output.failed("lost", f"no worker process could be started: {error}")) from error
        self._workers.add(worker)
        failure: Failure | None = None
        ready = False
        try:
            async with asyncio.timeout(self._start_seconds):
                reply = await worker.ask({"spec": self._spec, "path": _path()}, lambda _: None)
            ready = "ready" in reply
            worker.layers = tuple(reply.get("layers", ()))
            if not ready:
                failure = Failure(**reply["failure"])
        except TimeoutError:
            failure = Failure("timeout", f"importing the evaluator took longer than {self._start_seconds:g} s")
        except (ConnectionError, KeyError, TypeError):
            ending = await worker.end()
            failure = Failure("lost", f"the worker process {ending} while it imported the evaluator")
        finally:
            if not ready:
                await self._retire(worker)
        if failure is not None:
            raise _Unavailable(Output(failure=failure, log=worker.log()))
        return worker

    async def _run(self, worker: WorkerConnection, request: Request, partials: Partials) -> Output:
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
                output = Output.failed("memory", f"the worker process {ending} with {ending.peak_mb:.0f} MB in use")
            else:
                text = f"the worker process {ending} in the middle of the evaluation"
                if (ending.kind, ending.number) == ("signal", signal.SIGKILL):
                    text += "; perhaps the machine ran out of memory"
                output = Output.failed("lost", str(error) or text)
        finally:
            kept = partials.end()
            if not keep:
                await self._retire(worker)
        # An evaluator of programs gives what the program printed; what it printed itself stands behind that.
        text = "\n".join(part for part in (output.log, worker.log(limits.log_chars)) if part)
        if keep and not self._closed:
            self._idle.append(worker)
        seconds = output.seconds or loop.time() - started
        return replace(output, log=text, partials=kept, seconds=seconds, layers=output.layers or worker.layers)

    async def _retire(self, worker: WorkerConnection) -> None:
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
