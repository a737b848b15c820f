"""Evaluations in this process: awaited, or in a thread when they compute."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.evaluation import Ask, Evaluator, Output, Request
from agent.executors.measure import Partials, drive, failure_of, measure

log = logging.getLogger(__name__)
GRACE_SECONDS = 5.0
"""How long a cancelled coroutine may clean up before it is given up."""
UNLIMITED = 1_000_000


class _GivenUp(BaseException):
    """Ends the thread of an evaluation that was given up; passes by what catches exceptions."""


class InlineExecutor:
    """Runs requests in this process.

    A blocking evaluator gets a thread of its own for each request. A thread cannot be stopped: on
    timeout or cancellation it is abandoned, and it does not keep the interpreter from exiting. What
    an evaluation prints goes where this process prints, and memory is not limited.

    Args:
        evaluator: Produces the outputs.
        slots: How many requests may run at once; None means any number.
    """

    def __init__(self, evaluator: Evaluator, *, slots: int | None = None) -> None:
        self._evaluator = evaluator
        self._slots = asyncio.Semaphore(slots or UNLIMITED)
        self._running: set[asyncio.Future[Output]] = set()
        self._warned: set[str] = set()
        self._closed = False

    async def submit(
        self, request: Request, partial: Callable[[Any], None] | None = None, ask: Ask | None = None
    ) -> Output:
        """The request's output; failures are outputs. Cancelling the call stops a coroutine and abandons a thread."""
        async with self._slots:
            if self._closed:
                return Output.failed("cancelled", "the executor is closed")
            seconds = request.limits.seconds
            if self._evaluator.keeps_limits:
                seconds = None
            elif request.limits.memory_mb is not None:
                self._warn("memory is not limited for an evaluator that runs in this process; use a subprocess")
            partials = Partials(partial)
            start = self._thread if self._evaluator.blocking else self._task
            loop = asyncio.get_running_loop()
            started = loop.time()
            running = start(request, partials, ask)
            self._running.add(running)
            try:
                done, _ = await asyncio.wait({running}, timeout=seconds)
                if done:
                    output = self._result(running)
                else:
                    await self._give_up(running)
                    took = loop.time() - started
                    output = Output.failed("timeout", f"it took longer than {seconds:g} s", seconds=took)
            except asyncio.CancelledError:
                await self._give_up(running)
                raise
            finally:
                self._running.discard(running)
                kept = partials.end()
            return replace(output, partials=kept) if kept or output.partials else output

    async def close(self) -> None:
        """Cancel what runs; threads are abandoned. May be called twice."""
        self._closed = True
        running = set(self._running)
        for item in running:
            item.cancel()
        if running:
            await asyncio.wait(running, timeout=GRACE_SECONDS)

    def _result(self, running: asyncio.Future[Output]) -> Output:
        if not running.cancelled():
            return running.result()
        if self._closed:
            return Output.failed("cancelled", "the executor was closed")
        return Output.failed("error", "the evaluator cancelled itself (CancelledError)")

    async def _give_up(self, running: asyncio.Future[Output]) -> None:
        running.cancel()
        await asyncio.wait({running}, timeout=GRACE_SECONDS)
        if self._evaluator.blocking:
            self._warn(
                "an evaluation that was stopped goes on in its thread, until its end or its next partial result; use a"
                " subprocess to have it killed"
            )
        elif not running.done():
            self._warn("an evaluation ignores that it was cancelled and goes on")

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            log.warning(text)

    def _task(self, request: Request, partials: Partials, ask: Ask | None) -> asyncio.Future[Output]:
        loop = asyncio.get_running_loop()

        def report(value: Any) -> None:
            loop.call_soon_threadsafe(partials, value)  # the user's code may report from a thread

        return asyncio.ensure_future(measure(self._evaluator, request, report, ask))

    def _thread(self, request: Request, partials: Partials, ask: Ask | None) -> asyncio.Future[Output]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Output] = loop.create_future()

        def settle(output: Output) -> None:
            if not future.done():
                future.set_result(output)

        def tell(callback: Callable[[Any], None], value: Any) -> None:
            with contextlib.suppress(RuntimeError):  # an abandoned thread may outlive the loop
                loop.call_soon_threadsafe(callback, value)

        def report(value: Any) -> None:
            if future.done():
                raise _GivenUp  # nobody waits for it any more: the thread ends here
            tell(partials, value)

        def work() -> None:
            try:
                output = drive(measure(self._evaluator, request, report, ask))
            except BaseException as error:  # whatever the user made up; without an answer the request would hang
                output = Output(failure=failure_of(error))
            tell(settle, output)

        # Not the loop's pool, whose threads would keep the interpreter from exiting when one hangs.
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(work,), daemon=True, name="evaluation").start()
        return future
