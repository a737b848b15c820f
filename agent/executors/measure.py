"""One measurement, wherever it runs: its time, and exceptions as failures. Kept small for quick worker starts."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from agent.errors import AgentError
from agent.evaluation import Ask, Evaluator, Failure, Output, Request, Suspicious

T = TypeVar("T")
_encode = json.JSONEncoder(allow_nan=False).encode
OURS = (str(Path(__file__).parents[1]), importlib.__file__, "<frozen importlib")
"""Where the frames of a traceback come from that say nothing to the user."""
MESSAGE_CHARS = 500
DETAIL_CHARS = 2000
PARTIALS = 1000
"""Most partial results that an output keeps; all of them are passed on."""


def failure_of(error: BaseException) -> Failure:
    """The failure that an exception is; its detail is the end of the traceback, without frames of this package."""
    if isinstance(error, AgentError):
        message = f"{error.message}; {error.hint}" if error.hint else error.message
        return Failure("error", message, _traceback(error.__cause__) if error.__cause__ else "")
    if isinstance(error, Suspicious):
        return Failure("invalid", clipped(str(error)), _traceback(error), error.sign)
    if isinstance(error, SystemExit):
        return Failure("exit", f"the evaluator called exit({error.code!r})", _traceback(error))
    try:
        text = f"{type(error).__name__}: {error}".removesuffix(": ")
    except Exception:  # the user's own __str__
        text = type(error).__name__
    return Failure("memory" if isinstance(error, MemoryError) else "error", clipped(text), _traceback(error))


def clipped(text: str) -> str:
    """At most `MESSAGE_CHARS` of it."""
    return text if len(text) <= MESSAGE_CHARS else text[: MESSAGE_CHARS - 1] + "…"


def _traceback(error: BaseException) -> str:
    frames: TracebackType | None = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(OURS):
        frames = frames.tb_next
    try:
        import traceback

        text = "".join(traceback.format_exception(type(error), error, frames)).rstrip()
    except Exception:  # the user's own __str__, or no memory left
        return ""
    return text if len(text) <= DETAIL_CHARS else "…" + text[1 - DETAIL_CHARS :]


class Partials:
    """Results that arrive before the final one: passed on, and the first ones kept for the output."""

    def __init__(self, forward: Callable[[Any], None] | None) -> None:
        self._forward = forward
        self._kept: list[Any] = []
        self._open = True

    def __call__(self, value: Any) -> None:
        if not self._open:
            return  # an evaluation that was given up reports to nobody
        if len(self._kept) < PARTIALS:
            self._kept.append(value)
        if self._forward is not None:
            self._forward(value)

    def end(self) -> tuple[Any, ...]:
        """What was kept; later results are ignored."""
        self._open = False
        return tuple(self._kept)


async def measure(
    evaluator: Evaluator, request: Request, partial: Callable[[Any], None], ask: Ask | None = None
) -> Output:
    """The evaluator's output with its seconds; what it raises is a failure. Only cancellation passes through."""
    started = time.perf_counter()
    try:
        given = (request, partial) if ask is None else (request, partial, ask)
        output = await evaluator.produce(*given)
        if not isinstance(output, Output):
            raise TypeError(f"produce() must return an Output, not {type(output).__name__}")
    except (Exception, SystemExit) as error:
        output = Output(failure=failure_of(error))
    try:
        _encode(output.value)  # it is going to be stored
    except (TypeError, ValueError, RecursionError) as error:
        output = Output.failed("invalid", f"the output is not JSON: {error}", usd=output.usd)
    return replace(output, seconds=output.seconds or time.perf_counter() - started)


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends, without an event loop.

    Raises:
        RuntimeError: It did suspend.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    coroutine.close()
    raise RuntimeError("the evaluator says that it is blocking, but it waits for something")
