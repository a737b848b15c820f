"""Measuring what nobody has tried yet, where it can write into given folders alone and reaches no network."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

from agent.sandbox import landlock, native
from agent.sandbox.lockdown import DEVICES

T = TypeVar("T")


def possible() -> bool:
    """Whether this machine can do it: Linux with Landlock."""
    try:
        return landlock.abi() > 0
    except OSError:
        return False


async def confined(work: Callable[[], Coroutine[Any, Any, T]], writable: Iterable[Path]) -> T:
    """Run a coroutine in a thread that has given up writing elsewhere, and TCP; so have all processes it starts.

    Reading stays possible everywhere. The thread ends with the coroutine, and nobody else is restricted.

    Args:
        work: Makes the coroutine; called in that thread's event loop.
        writable: Folders, beside the one for shared memory.

    Raises:
        OSError: The machine cannot do it, and nothing was run.
        Exception: Whatever the coroutine raises.
    """
    places = [*map(str, writable), "/dev/shm", *DEVICES]
    outer = asyncio.get_running_loop()
    done: asyncio.Future[T] = outer.create_future()
    stopped = threading.Event()
    inner: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = []

    async def main() -> T:
        task = asyncio.create_task(work())
        inner.append((asyncio.get_running_loop(), task))
        if stopped.is_set():
            task.cancel()
        return await task

    def finish(value: Any, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(value)
        elif isinstance(error, asyncio.CancelledError):
            done.cancel()
        else:
            done.set_exception(error)

    def target() -> None:
        value: Any = None
        failed: BaseException | None = None
        try:
            native.prctl(native.PR_SET_NO_NEW_PRIVS, 1)
            landlock.restrict(landlock.ruleset(["/"], places, landlock.abi()))
            value = asyncio.run(main())
        except BaseException as error:
            failed = error
        outer.call_soon_threadsafe(finish, value, failed)

    thread = threading.Thread(target=target, name="truegain-confined")
    thread.start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        stopped.set()
        if inner:
            loop, task = inner[0]
            with contextlib.suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(task.cancel)
        with contextlib.suppress(BaseException):
            await done  # the evaluator's processes are gone when this returns
        raise
    finally:
        if done.done():
            thread.join()
