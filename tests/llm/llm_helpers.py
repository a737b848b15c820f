"""What the tests of the models share: a journal in memory, a request, and a sleep that takes no time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agent.events import CallEnded, CallRetried, CallStarted, Event
from agent.ledger import Budget, Ledger
from agent.llm.types import Message, ModelRequest

KEY = "sk-test-0123456789abcdef0123456789"
WIRES = ("openai-responses", "openai-chat", "anthropic")
PRICE = {"input": 1.0, "output": 2.0}


def say(text: str = "hello", **more: Any) -> ModelRequest:
    """A request of one user's turn."""
    return ModelRequest((Message("user", text),), **more)


class Desk:
    """A recorder in memory. `past` is what an earlier process had made durable."""

    def __init__(self, budget: Budget | None = None, past: Iterable[Event] = ()) -> None:
        self.ledger = Ledger(budget or Budget())
        self.events: list[Event] = []
        self.durable = 0
        self._calls = 0
        self._ends: dict[tuple[str, str, int], CallEnded] = {}
        starts: dict[int, CallStarted] = {}
        for event in past:
            self.ledger.apply(event)
            if isinstance(event, CallStarted):
                starts[event.id] = event
                self._calls = event.id
            elif isinstance(event, CallEnded):
                start = starts[event.id]
                self._ends[start.scope, start.key, start.ordinal] = event
        self.ledger.cut()

    async def turn(self, event: str, *key: object) -> None:
        return None

    def next_call(self) -> int:
        self._calls += 1
        return self._calls

    def record(self, event: Event) -> None:
        event.body()  # must be plain JSON
        self.events.append(event)
        self.ledger.apply(event)

    async def flush(self) -> None:
        self.durable = len(self.events)

    def recorded(self, scope: str, key: str, ordinal: int) -> CallEnded | None:
        return self._ends.get((scope, key, ordinal))

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def started(self) -> list[CallStarted]:
        return self.of(CallStarted)

    @property
    def ended(self) -> list[CallEnded]:
        return self.of(CallEnded)

    @property
    def retried(self) -> list[CallRetried]:
        return self.of(CallRetried)


class Sleep:
    """Does not sleep, and remembers how long it should have."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
