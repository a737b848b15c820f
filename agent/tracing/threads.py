"""Spans and values in threads: a thread, and each task of a pool, belongs to what started it.

Python copies the context into tasks and into `asyncio.to_thread`, but neither into a `threading.Thread` nor into
a `ThreadPoolExecutor`. There a program would read the initial values instead of the candidate's, without a word.
So the first `record` or `use` of a process puts a thin layer around `Thread.start` and
`ThreadPoolExecutor.submit`, which hands the caller's scope on; with no scope it does nothing.

Other processes get nothing: give them values as arguments.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from agent.tracing.scopes import SCOPE, Scope


def carry() -> None:
    """Have threads and pools hand the scope on; only the first call does something."""
    if hasattr(threading.Thread.start, "carries"):
        return
    from concurrent.futures import ThreadPoolExecutor

    with _LOCK:
        if not hasattr(threading.Thread.start, "carries"):
            ThreadPoolExecutor.submit = _submitting(ThreadPoolExecutor.submit)  # type: ignore[method-assign]
            threading.Thread.start = _starting(threading.Thread.start)  # type: ignore[method-assign]


_LOCK = threading.Lock()


def _starting(start: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(start)
    def starting(self: threading.Thread) -> None:
        scope = SCOPE.get()
        if scope is not None:
            own = self.__dict__.get("run")  # others set one as well
            self.run = functools.partial(_run, self, scope, own)  # type: ignore[method-assign]
        start(self)

    starting.carries = True  # type: ignore[attr-defined]
    return starting


def _run(thread: threading.Thread, scope: Scope, own: Callable[[], None] | None) -> None:
    if own is None:
        del thread.run  # the class's own again
    else:
        thread.run = own  # type: ignore[method-assign]
    SCOPE.set(scope)
    thread.run()


def _submitting(submit: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(submit)
    def submitting(self: Any, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        scope = SCOPE.get()
        if scope is None:
            return submit(self, function, *args, **kwargs)
        SCOPE.set(None)  # the pool's thread may begin here, and works for others too
        try:
            return submit(self, _inside, scope, function, *args, **kwargs)
        finally:
            SCOPE.set(scope)

    return submitting


def _inside(scope: Scope, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    SCOPE.set(scope)
    try:
        return function(*args, **kwargs)
    finally:
        SCOPE.set(None)
