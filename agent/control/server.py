"""The side of the run: what may be asked of it while it is driven, and the socket that it is asked on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from agent.control.wire import FILE, LIMIT, Control, ControlError, address, decode, encode
from agent.errors import StoreError
from agent.events import RunContinued, RunPaused, StopRequested
from agent.loop import Run

log = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds that a client has to send its request, and again to take the answer."""
YOUNG = 3600.0
"""Seconds for which an unanswered socket is left alone."""
CLIENTS = 16
"""Clients that are listened to at once."""
STOP, STOP_NOW = "on request; finishing what is in flight", "on request, at once"
BY_REQUEST = (STOP, STOP_NOW)
"""Details of a `stop.requested` that somebody asked for over the socket, for this run alone."""
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""Signals that end a command, and what it ends with."""


class Steering:
    """What may be done to a run from outside; made in the task that drives it.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._task = asyncio.current_task()

    def standing(self) -> dict[str, Any]:
        """Where the run is, as far as the search may know it; `busy` is whether anything at all is in flight."""
        run, state = self.run, self.run.state
        word = "finished" if state.ended else "stopping" if state.halt else "paused" if state.paused else "running"
        searching = [started for started in state.evaluations.values() if started.audience == "search"]
        return {
            "run": state.run,
            "pid": os.getpid(),
            "state": word,
            "busy": run.busy,
            "in_flight": {
                "evaluations": len(searching),
                "proposals": len(state.proposals),
                "calls": len(state.calls),
            },
        }

    def _open(self) -> None:
        state = self.run.state
        if state.ended is not None or state.halt is not None:
            raise ControlError(
                "wrong_state",
                f"the run {'has ended' if state.ended else 'is stopping'}",
                f"look at it with: truegain status {state.run}",
            )

    def pause(self) -> None:
        """Let nothing new start."""
        self._open()
        if not self.run.state.paused:
            self.run.record(RunPaused())

    def go(self) -> None:
        """Let a paused run go on."""
        self._open()
        if self.run.state.paused:
            self.run.record(RunContinued())

    def stop(self, reason: str = "terminated", detail: str = STOP) -> bool:
        """Finish what is in flight, save and end; the run can be resumed. False when it is ending already."""
        state = self.run.state
        if state.ended is not None or state.halt is not None:
            return False
        self.run.record(StopRequested(reason, detail))
        return True

    def cancel(self) -> None:
        """End at once; what was in flight is done again by a resume."""
        self.stop(detail=STOP_NOW)
        if self._task is not None:
            asyncio.get_running_loop().call_soon(self._task.cancel)

    async def do(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request asks for.

        Returns:
            Where the run is then.

        Raises:
            ControlError: It cannot be done.
        """
        todo = {"status": None, "pause": self.pause, "go": self.go, "stop": self.stop, "stop-now": self.cancel}
        name = request.get("do")
        if not isinstance(name, str):
            raise ControlError("bad_request", "`do` is missing", 'send one line such as {"do": "status"}')
        if name not in todo:
            raise ControlError("unknown_request", "there is nothing of that name to do", f"known are {', '.join(todo)}")
        action = todo[name]
        if action is not None:
            action()
            try:
                await self.run.flush()
            except StoreError as error:
                raise ControlError("failed", error.message, error.hint) from None
        return self.standing()


_listeners: list[Callable[[signal.Signals], bool]] = []
"""Who listens to signals now, the innermost last."""
_before: dict[signal.Signals, Any] = {}
"""What the signals did before anybody listened."""


def _dispatch(number: signal.Signals) -> None:
    """Tell whoever listens when the loop comes to it, for that may be another one than when the signal came."""
    for heard in reversed(_listeners):
        if heard(number):
            return


@contextlib.contextmanager
def listening(heard: Callable[[signal.Signals], bool]) -> Iterator[None]:
    """Ctrl-C and SIGTERM go to `heard`; afterwards again to whoever listened before, by this or by `signal.signal`.

    Args:
        heard: Called in the running loop; False leaves the signal to whoever listened before.
    """
    if threading.current_thread() is not threading.main_thread():  # the caller's signals stay theirs
        yield
        return
    loop = asyncio.get_running_loop()
    if not _listeners:
        for number in CODES:
            _before[number] = signal.getsignal(number)
            loop.add_signal_handler(number, _dispatch, number)
    _listeners.append(heard)
    try:
        yield
    finally:
        _listeners.remove(heard)
        if not _listeners:
            for number, earlier in _before.items():
                loop.remove_signal_handler(number)
                # What another loop's handler was called by does nothing on its own.
                if earlier is not None and getattr(earlier, "__name__", "") != "_sighandler_noop":
                    signal.signal(number, earlier)


@contextlib.contextmanager
def obeying(steering: Steering) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM finishes what is in flight and saves; the second one stops at once."""
    seen: list[int] = []

    def stop(number: signal.Signals) -> bool:
        seen.append(number)
        if len(seen) == 1:
            reason = "interrupted" if number == signal.SIGINT else "terminated"
            return steering.stop(reason, "finishing what is in flight; once more stops at once")
        steering.cancel()
        return True

    with listening(stop):
        yield


class _Server:
    """Answers clients, few at a time and none for long."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering
        self._clients: set[asyncio.Task[None]] = set()

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            with contextlib.suppress(OSError, TimeoutError):
                writer.write(encode(await self._answer(reader)))
                async with asyncio.timeout(PATIENCE):
                    await writer.drain()
        finally:
            self._clients.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> dict[str, Any]:
        try:
            if len(self._clients) > CLIENTS:
                raise ControlError("busy", f"{CLIENTS} clients are being answered", "ask again")
            return {"ok": await self._steering.do(decode(await self._line(reader)))}
        except ControlError as error:
            return {"error": error.to_json()}

    async def _line(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(PATIENCE):
                return await reader.readuntil()
        except TimeoutError:
            raise ControlError("timeout", f"no request came within {PATIENCE:g} seconds") from None
        except asyncio.IncompleteReadError as error:
            return error.partial
        except asyncio.LimitOverrunError:
            raise ControlError("too_large", f"the request is longer than {LIMIT} bytes") from None

    async def close(self) -> None:
        """Let those that are being answered have their answer."""
        if self._clients:
            _, slow = await asyncio.wait(self._clients, timeout=0.5)
            for task in slow:
                task.cancel()
            if slow:
                await asyncio.wait(slow)


def _sweep(place: Path) -> None:
    """Remove sockets of processes that have died without a word. A young one may not listen yet, and stays."""
    for path in place.glob("*.sock"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime < YOUNG:
                continue
            with socket.socket(socket.AF_UNIX) as asking:
                asking.settimeout(0.1)
                try:
                    asking.connect(str(path))
                except ConnectionRefusedError:
                    path.unlink()


@contextlib.asynccontextmanager
async def serving(steering: Steering, folder: Path) -> AsyncIterator[None]:
    """Answer requests while the run is driven. The caller holds the run's lock, so whatever is left there is stale.

    A run whose socket cannot be made goes on, and says that it cannot be steered.
    """
    server = _Server(steering)
    try:
        path = address(folder)
        path.unlink(missing_ok=True)
        _sweep(path.parent)
        listening = await asyncio.start_unix_server(server.client, path, limit=LIMIT)
        Control(str(path), os.getpid(), time.time()).write(folder)
    except (StoreError, OSError) as error:
        (folder / FILE).unlink(missing_ok=True)
        why = f"{error.message} ({error.hint})" if isinstance(error, StoreError) else str(error)
        log.warning("pause, stop and the live part of status will not reach this run: %s", why)
        yield
        return
    try:
        yield
    finally:
        listening.close()
        await server.close()
        for rest in (folder / FILE, path):
            with contextlib.suppress(OSError):
                rest.unlink(missing_ok=True)
