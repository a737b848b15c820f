"""What stands around a replay in place of the world: a journal in memory, no executor, and a model of records."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from agent.evaluation import Output, Request
from agent.events import CallEnded, Event


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a replay left the recorded path.

    Args:
        seq: Place in the journal.
        recorded: The event that is there, or None when the replay went on longer.
        replayed: The event that came instead, or None when the replay stopped short.
    """

    seq: int
    recorded: dict[str, Any] | None
    replayed: dict[str, Any] | None


class Memory:
    """A journal that is not kept: it gives each event the time that the recorded one had."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.dirty = False
        self.place = 0

    def append(self, event: Event, time: float) -> Event:
        self.events.append(event)
        return event

    async def flush(self) -> None:
        return None


class Nowhere:
    """An executor without work: outputs come from the journal."""

    async def submit(self, request: Request, partial: Any = None) -> Output:
        raise AssertionError("a replay measures nothing")

    async def close(self) -> None:
        return None


class RecordedModel:
    """A model that gives the recorded replies; the seed that it is sent tells which."""

    def __init__(self, known: dict[int, list[CallEnded]]) -> None:
        self._known = known

    async def complete(self, request: Any, *, seed: int | None) -> Any:
        from agent.llm.failures import error_from_json
        from agent.llm.types import Completion

        answers = self._known.get(seed or 0)
        while not answers:
            await asyncio.Event().wait()  # it was cut off without an answer
        ended = answers.pop(0)
        if ended.reply is None:
            error = error_from_json(ended.error or {"message": "the call failed"})
            if hasattr(error, "retryable"):
                error.retryable = False  # the attempts were made when it was recorded
            raise error
        return Completion.from_json(ended.reply)

    async def close(self) -> None:
        return None
