"""A coroutine in a thread of its own, and Ctrl-C at every moment of it."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest

from agent.inthread import in_thread


def interrupt() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


async def test_it_gives_the_value_where_a_loop_is_running_already() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 3

    assert in_thread(work()) == 3


def test_its_error_is_raised_here() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        in_thread(work())


def test_ctrl_c_stops_it_and_waits_until_it_has_tidied_up() -> None:
    tidy = []

    async def work() -> None:
        try:
            interrupt()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.3)
            tidy.append(True)

    with pytest.raises(KeyboardInterrupt):
        in_thread(work())
    assert tidy


def test_ctrl_c_after_the_end_finds_a_closed_loop_and_leaves_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    real = asyncio.run

    def run(main: Any) -> Any:
        found = real(main)
        interrupt()  # the loop is closed, and the thread has not ended
        return found

    async def work() -> int:
        return 3

    monkeypatch.setattr("agent.inthread.asyncio.run", run)
    assert in_thread(work()) == 3


def test_ctrl_c_in_a_loop_that_closes_at_that_moment_leaves_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def call_soon_threadsafe(self, *_: Any) -> None:
            raise RuntimeError("Event loop is closed")

    async def work() -> int:
        interrupt()
        await asyncio.sleep(0.5)
        return 3

    monkeypatch.setattr("agent.inthread.asyncio.get_running_loop", Closed)
    assert in_thread(work()) == 3
