"""The worker process: rebuilds an evaluator and answers requests, one at a time.

Requests and replies are lines of JSON on a socket that nothing else writes to, so the user's code
may print what it likes. First comes {"spec": …, "path": […]}, answered by {"ready": true} or
{"failure": …}; then {"request": …, "number": 1}, answered by any number of {"partial": …, "number": 1}
and one {"output": …, "number": 1}.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from agent.evaluation import Evaluator, Output, Request
from agent.executors.measure import drive, failure_of, measure

BUILD = "agent.evaluators.build:build"
LINE_BYTES = 16 * 2**20
"""Longest line in either direction; a longer result is a failure."""


def main(descriptor: int) -> None:
    """Answer on the socket until its other end is closed."""
    os.set_inheritable(descriptor, False)  # else a process that the user starts would hold it open
    with contextlib.suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a crash loses no lines
    requests = os.fdopen(descriptor, "rb", closefd=False)
    channel = _Channel(descriptor)
    evaluator = _load(json.loads(requests.readline()), channel)
    if evaluator is None:
        return
    run = _runner(evaluator)
    pid = os.getpid()
    for line in requests:
        asked = json.loads(line)
        request, number = Request.from_json(asked["request"]), asked["number"]
        limit = request.limits.memory_mb
        if limit is not None:
            limit_memory(limit)
        try:
            output = run(request, partial(channel.partial, number))
        except BaseException as error:  # whatever the user made up; the worker answers
            limit_memory(None)
            output = Output(failure=failure_of(error))
        if os.getpid() != pid:
            os._exit(0)  # the user's code forked, and the copy came back here
        if limit is not None:
            limit_memory(None)
        _flush()
        channel.output(number, output)


def _load(hello: Mapping[str, Any], channel: _Channel) -> Evaluator | None:
    """The evaluator, with the user's code imported; None, and a failure is sent, when that does not work."""
    sys.path.extend(entry for entry in hello["path"] if entry not in sys.path)
    module, _, name = BUILD.partition(":")
    try:
        evaluator: Evaluator = getattr(importlib.import_module(module), name)(hello["spec"])
        load = getattr(evaluator, "load", None)
        if load is not None:
            load()
    except BaseException as error:
        _flush()
        channel.send({"failure": asdict(failure_of(error))})
        return None
    _flush()
    channel.send({"ready": True, "layers": list(getattr(evaluator, "layers", ()))})
    return evaluator


def _runner(evaluator: Evaluator) -> Callable[[Request, Callable[[Any], None]], Output]:
    if evaluator.blocking:
        return lambda request, report: drive(measure(evaluator, request, report))
    import asyncio  # only who needs an event loop pays for importing it

    runner = asyncio.Runner()  # one for all requests: clients that live longer than a request belong to a loop
    return lambda request, report: runner.run(measure(evaluator, request, report))


class _Channel:
    """The writing side of the socket; the user's threads may report partial results at the same time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one line.

        Raises:
            TypeError, ValueError: The message is not JSON, or too long; nothing was written.
        """
        line = json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        if len(line) > LINE_BYTES:
            raise ValueError(f"it takes {len(line):,} bytes as JSON, more than {LINE_BYTES:,}")
        view = memoryview(line)
        try:
            with self._lock:
                while view:
                    view = view[os.write(self._descriptor, view) :]
        except OSError:
            os._exit(1)  # nobody listens any more

    def partial(self, number: int, value: Any) -> None:
        """Send a result that arrived before the final one."""
        self.send({"partial": value, "number": number})

    def output(self, number: int, output: Output) -> None:
        """Send the final result; one that cannot be sent is a failure."""
        try:
            self.send({"output": output.to_json(), "number": number})
        except (TypeError, ValueError, RecursionError, MemoryError) as error:
            failed = Output.failed(
                "invalid", f"the result cannot be sent: {error}", seconds=output.seconds, usd=output.usd
            )
            self.send({"output": failed.to_json(), "number": number})


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def limit_memory(megabytes: int | None) -> None:
    """Limit the process's address space, or lift the limit; only Linux enforces it."""
    with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        size = hard if megabytes is None else int(megabytes * 2**20)
        if hard != resource.RLIM_INFINITY:
            size = min(size, hard)
        resource.setrlimit(resource.RLIMIT_AS, (size, hard))
