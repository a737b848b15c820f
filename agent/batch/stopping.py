"""How a night comes to rest: by a signal, or because it is over. What is in flight is finished first."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.control.server import CODES
from agent.events import StopRequested

if TYPE_CHECKING:
    from agent.loop import Run

ENDING = "the night is over"


@dataclass
class Signals:
    """Ctrl-C and SIGTERM between the runs; while a run is driven, its session listens first.

    Args:
        code: What the night ends with, once one was heard.
        task: Cancelled by the second one.
        heard: Set by the first one.
    """

    code: int = 0
    task: asyncio.Task[Any] | None = None
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, number: signal.Signals) -> bool:
        again, self.code = bool(self.code), CODES[number]
        self.heard.set()
        if again and self.task is not None:
            self.task.cancel()
        return True


class Cut(BaseException):
    """A signal ended what held the loop up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = CODES[signal.Signals(number)]


@contextlib.contextmanager
def abrupt() -> Iterator[None]:
    """Ctrl-C and SIGTERM end at once what is done here, which does not let the loop hear them.

    Raises:
        Cut: One of them came; further ones are not heard, so that what is cleaned up then is not cut off too.
    """

    def stop(number: int, frame: Any) -> None:
        for each in CODES:
            signal.signal(each, signal.SIG_IGN)
        raise Cut(number)

    before = {}
    with contextlib.suppress(ValueError):  # not the main thread
        for number in CODES:
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class Deadline:
    """Stops the run in hand when the night is over, or was stopped before the run could hear of it.

    What is in flight is finished first.

    Args:
        remaining: Seconds until the night is over; None when it has no end.
        signals: What was heard so far.
    """

    def __init__(self, remaining: Callable[[], float | None], signals: Signals) -> None:
        self._remaining, self._signals = remaining, signals
        self.passed = False
        self.run: Run | None = None
        self._timer: asyncio.TimerHandle | None = None

    def hold(self, run: Run) -> None:
        """The run that is driven now."""
        self.run = run
        if self._signals.code and run.state.ended is None and run.state.halt is None:
            reason = "interrupted" if self._signals.code == CODES[signal.SIGINT] else "terminated"
            run.record(StopRequested(reason, "before it was under way"))
            return
        seconds = self._remaining()
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._stop)

    def _stop(self) -> None:
        if self.run is not None and self.run.state.ended is None and self.run.state.halt is None:
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
