"""Generators and awaitables that an op returned: their span ends when they do.

Each step runs in the scope of the span, and the caller's scope is there again after it. A generator may be closed
from another thread, task or context than the one that it ran in; neither that one nor the trace takes harm.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import Token
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from agent.tracing.previews import look
from agent.tracing.recorder import OURS, Open, Recorder
from agent.tracing.scopes import SCOPE, Scope

YIELDED = 20
"""Items of a generator that its span shows."""


class Items:
    """What a generator yields, as the output of its span."""

    def __init__(self, recorder: Recorder, span: Open) -> None:
        self.recorder, self.span = recorder, span
        self.texts: list[str] = []
        self.count = 0

    def add(self, item: Any) -> None:
        self.count += 1
        if self.count <= YIELDED:
            found = look(item)
            self.texts.append(repr(found[2]) if found[0] == "str" else found[2])
        self.recorder.came_from(self.span, item)

    def end(self, result: Any, how: str = "") -> None:
        more = [f"… {self.count - YIELDED:,} more"] if self.count > YIELDED else []
        returned = [] if result is None else [f"returned {look(result)[2]}"]
        words = [f"[{', '.join([*self.texts, *more])}]", *returned, *([how] if how else [])]
        self.recorder.end(self.span, None)
        self.span.output = ("generator", *look(", ".join(words))[1:])


Box = list[Scope]
"""The scope inside of a generator, which it may change between two steps."""


def _steps(recorder: Recorder, span: Open, scope: Scope, source: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """The generator, each step of it inside of its span, whatever the context that asks for the step."""
    items, inside = Items(recorder, span), [scope]
    step: Callable[[], Any] = functools.partial(next, source)
    try:
        while True:
            item = _within(inside, step)
            items.add(item)
            try:
                sent = yield item
            except GeneratorExit:
                _within(inside, source.close)
                items.end(None, "closed early")
                raise
            except BaseException as error:
                step = functools.partial(source.throw, error)
            else:
                step = functools.partial(source.send, sent)
    except StopIteration as done:
        items.end(done.value)
        return done.value
    except GeneratorExit:
        raise
    except BaseException as error:
        recorder.fail(span, error, passed(error))
        raise


async def _steps_async(
    recorder: Recorder, span: Open, scope: Scope, source: AsyncGenerator[Any, Any]
) -> AsyncGenerator[Any, Any]:
    items, inside = Items(recorder, span), [scope]
    step: Callable[[], Any] = source.__anext__
    try:
        while True:
            item = await _within_async(inside, step)
            items.add(item)
            try:
                sent = yield item
            except GeneratorExit:
                await _within_async(inside, source.aclose)
                items.end(None, "closed early")
                raise
            except BaseException as error:
                step = functools.partial(source.athrow, error)
            else:
                step = functools.partial(source.asend, sent)
    except StopAsyncIteration:
        items.end(None)
    except GeneratorExit:
        raise
    except BaseException as error:
        recorder.fail(span, error, passed(error))
        raise


async def _waited(recorder: Recorder, span: Open, scope: Scope, source: Any) -> Any:
    try:
        result = await _within_async([scope], lambda: source)
    except BaseException as error:
        recorder.fail(span, error, passed(error))
        raise
    recorder.end(span, result)
    return result


def _within(inside: Box, step: Callable[[], Any]) -> Any:
    outer = SCOPE.get()
    SCOPE.set(inside[0])
    try:
        return step()
    finally:
        inside[0] = SCOPE.get() or inside[0]
        SCOPE.set(outer)


async def _within_async(inside: Box, step: Callable[[], Any]) -> Any:
    token = SCOPE.set(inside[0])
    try:
        return await step()
    finally:
        now = SCOPE.get()
        if reset(token):
            inside[0] = now or inside[0]


def reset(token: Token[Scope | None]) -> bool:
    """Undo a change; False when this is another context, as when a coroutine is closed from outside."""
    try:
        SCOPE.reset(token)
    except ValueError:
        return False
    return True


STREAMS: dict[type, Callable[..., Any]] = {
    GeneratorType: _steps,
    AsyncGeneratorType: _steps_async,
    CoroutineType: _waited,
}
_INNER = frozenset({"called", "awaited", "_steps", "_steps_async", "_waited"})


def passed(error: BaseException) -> bool:
    """Whether an exception came through an op inside of the one that sees it."""
    place = error.__traceback__.tb_next if error.__traceback__ is not None else None
    while place is not None:
        code = place.tb_frame.f_code
        if code.co_name in _INNER and code.co_filename.startswith(OURS):
            return True
        place = place.tb_next
    return False
