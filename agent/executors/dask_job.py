"""One request on its way through a dask cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from agent.errors import AgentError
from agent.evaluation import Output
from agent.executors.measure import Partials


@dataclass(eq=False)
class Job:
    """One request on its way: the first answer counts."""

    key: str
    message: Mapping[str, Any]
    answer: asyncio.Future[Output]
    partials: Partials
    begun: list[str] = field(default_factory=list)
    """Addresses of the workers that began it."""
    attempts: list[str] = field(default_factory=list)
    """What each of them calls its attempt."""
    keys: list[str] = field(default_factory=list)
    """Under which it was given to dask, one for each time."""
    future: Any = None
    fetching: asyncio.Task[None] | None = None

    def settle(self, output: Output) -> None:
        """The answer."""
        if not self.answer.done():
            self.answer.set_result(output)

    def fail(self, error: AgentError) -> None:
        """No answer, for a reason that says nothing of the candidate."""
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # a call that was cancelled does not ask for it

    def release(self) -> None:
        """Let dask forget it; a worker that still measures it stops."""
        if self.fetching is not None:
            self.fetching.cancel()
        if self.future is not None:
            with suppress(Exception):
                self.future.release()


def lost(job: Job) -> Output:
    """The output of a request whose workers died."""
    where = " and ".join(dict.fromkeys(job.begun)) or "its workers"
    return Output.failed("lost", f"{where} died in the middle of the evaluation")
