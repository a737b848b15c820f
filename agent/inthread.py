"""A coroutine run to its end from code that may have an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def in_thread(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in an event loop of its own thread; Ctrl-C stops it there and is raised here.

    Where the coroutine has ended before Ctrl-C reaches it, its value is returned.
    """
    box: dict[str, Any] = {}
    loops: list[asyncio.AbstractEventLoop] = []
    tasks: list[asyncio.Task[T]] = []
    ready, done = threading.Event(), threading.Event()

    async def main() -> T:
        loops.append(asyncio.get_running_loop())
        tasks.append(asyncio.create_task(work))
        ready.set()
        return await tasks[0]

    def target() -> None:
        try:
            box["value"] = asyncio.run(main())
        except BaseException as error:
            box["error"] = error
        finally:
            ready.set()
            done.set()

    thread = threading.Thread(target=target, name="truegain")
    try:
        thread.start()
        done.wait()  # an interrupted join() takes the thread for ended, and the next one would not wait
    except KeyboardInterrupt:
        ready.wait()
        over = bool(tasks) and tasks[0].done()
        if tasks and not over:
            try:
                loops[0].call_soon_threadsafe(tasks[0].cancel)
            except RuntimeError:  # it ended at this moment, and its loop is closed
                over = True
        done.wait()
        if not over or "value" not in box:
            raise
    thread.join()
    if "error" in box:
        raise box["error"]
    value: T = box["value"]
    return value
