"""How a night comes to rest: by a signal, or because it is over. What is in flight is finished first."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.evaluation import Executor, Output, Request
from agent.events import StopRequested

if TYPE_CHECKING:
    from agent.loop import Run

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
ENDING = "the night is over"


@dataclass
class Signals:
    """Ctrl-C and SIGTERM between the runs; while a run is driven, its session listens.

    Args:
        code: What the night ends with, once one was heard.
        task: Cancelled by the second one.
        heard: Set by the first one.
        installed: What is listened to.
    """

    code: int = 0
    task: asyncio.Task[Any] | None = None
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    installed: list[signal.Signals] = field(default_factory=list)

    def listen(self) -> None:
        """Listen, again after each session."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):  # not the main thread
            for number in CODES:
                loop.add_signal_handler(number, self._heard, number)
                self.installed.append(number)

    def _heard(self, number: signal.Signals) -> None:
        again, self.code = bool(self.code), CODES[number]
        self.heard.set()
        if again and self.task is not None:
            self.task.cancel()

    def forget(self) -> None:
        """Listen no more."""
        for number in self.installed:
            asyncio.get_running_loop().remove_signal_handler(number)


class Deadline:
    """Stops the run in hand when the night is over. What is in flight is finished first."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.passed = False
        self.run: Run | None = None
        self._timer: asyncio.TimerHandle | None = None

    def hold(self, run: Run) -> None:
        """The run that is driven now."""
        self.run = run
        if self.seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, self.seconds), self._stop)

    def _stop(self) -> None:
        if self.run is not None and self.run.state.ended is None:
            self.passed = True
            self.run.record(StopRequested("terminated", ENDING))

    @contextlib.contextmanager
    def watched(self) -> Iterator[Callable[[Run], None]]:
        try:
            yield self.hold
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self.run = None


class Gentle:
    """An executor that can come to rest: what is in flight is finished, and nothing more begins.

    Args:
        inner: Where the evaluations run.
    """

    def __init__(self, inner: Executor) -> None:
        self._inner = inner
        self._flying = 0
        self._rest = asyncio.Event()
        self.stopping = False

    async def submit(self, request: Request, partial: Callable[[Any], None] | None = None) -> Output:
        if self.stopping:
            await asyncio.Event().wait()  # until the task is cancelled
        self._flying += 1
        try:
            return await self._inner.submit(request, partial)
        finally:
            self._flying -= 1
            if self.stopping and not self._flying:
                self._rest.set()

    async def through(self, task: asyncio.Task[Any], seconds: float | None, heard: asyncio.Event) -> None:
        """Wait for a task that measures with this, but no longer than that, and no longer than until it is heard."""
        hearing = asyncio.create_task(heard.wait())
        try:
            await asyncio.wait({task, hearing}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self.stopping = True
                if self._flying:
                    resting = asyncio.create_task(self._rest.wait())
                    await asyncio.wait({task, resting}, return_when=asyncio.FIRST_COMPLETED)
                    resting.cancel()
                await asyncio.sleep(0)  # what was measured is written down first
                task.cancel()
                await asyncio.wait({task})
        finally:
            hearing.cancel()

    async def close(self) -> None:
        await self._inner.close()
