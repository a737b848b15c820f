"""A coroutine run to its end from code that may have an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def in_thread(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in an event loop of its own thread; Ctrl-C stops it there and is raised here."""
    box: dict[str, Any] = {}
    loops: list[asyncio.AbstractEventLoop] = []
    tasks: list[asyncio.Task[T]] = []
    ready = threading.Event()

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

    thread = threading.Thread(target=target, name="truegain")
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        ready.wait()
        if loops and tasks:
            loops[0].call_soon_threadsafe(tasks[0].cancel)
        thread.join()
        raise
    if "error" in box:
        raise box["error"]
    value: T = box["value"]
    return value
