"""The scorer's side of the sandbox: it is opened once in a process, and used from code that does not await."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import threading
import weakref
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.sandbox.types import Isolation, Job, Result

T = TypeVar("T")
LEAVE_SECONDS = 10.0
SANDBOX = "agent.sandbox.pool:Sandbox"


class Runner:
    """An isolation with an event loop of its own, in a thread of its own.

    Args:
        kind: "module:attr" of the isolation, called with the options; our own sandbox by default.
        options: For it, such as imports, layers and unsafe.
    """

    def __init__(self, kind: str | None = None, options: Mapping[str, Any] | None = None) -> None:
        self._kind = kind or SANDBOX
        self._options = dict(options or {})
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._isolation: Isolation | None = None
        self._end: weakref.finalize[..., Any] | None = None

    def open(self) -> Isolation:
        """Start it, once.

        Raises:
            ConfigError, PrerequisiteError: It cannot be started.
        """
        with self._lock:
            if self._isolation is None:
                isolation = self._make()
                self._loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_serve, args=(self._loop,), daemon=True, name="sandbox")
                thread.start()
                self._end = weakref.finalize(self, _finish, self._loop, thread, isolation)
                self._wait(isolation.__aenter__())
                self._isolation = isolation
            return self._isolation

    def run(self, job: Job) -> Result:
        """Run one job, and wait for it."""
        return self._wait(self.open().run(job))

    @property
    def layers(self) -> tuple[str, ...]:
        return self.open().layers

    def close(self) -> None:
        """Stop it; may be called twice. It stops too when nobody has it any more, and at the end of the process."""
        with self._lock:
            self._isolation = None
            if self._end is not None:
                self._end()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _make(self) -> Isolation:
        module, _, name = self._kind.partition(":")
        try:
            made: Isolation = getattr(importlib.import_module(module), name)(**self._options)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ConfigError(
                f"evaluator.sandbox: {self._kind} cannot be started: {error}",
                hint="truegain doctor --sandbox tells what this machine has",
            ) from error
        return made


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


def _finish(loop: asyncio.AbstractEventLoop, thread: threading.Thread, isolation: Isolation) -> None:
    async def leave() -> None:
        with contextlib.suppress(Exception):
            await isolation.__aexit__(None, None, None)
        loop.stop()

    tasks: list[Any] = []  # a loop alone does not keep its tasks alive
    with contextlib.suppress(RuntimeError):  # it has ended by itself
        loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(leave())))
    if threading.current_thread() is not thread:
        thread.join(LEAVE_SECONDS)
