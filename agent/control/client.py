"""The side of whoever steers a run. Standard library alone, so that commands start fast."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

from agent.control.detach import LOG
from agent.control.wire import ANSWER, Control, ControlError, Unanswered, decode, encode
from agent.folders import Listing, listing
from agent.lock import holder, is_locked

PATIENCE = 10.0
"""Seconds that a run has to answer: its event loop may be busy with a proposal."""
AGAIN = 0.05
"""Seconds between two looks."""


def ask(folder: Path, do: str, timeout: float = PATIENCE) -> dict[str, Any]:
    """One request to the process that drives a run.

    Args:
        folder: Of the run.
        do: status, pause, go, stop or stop-now.
        timeout: Seconds to wait for the answer.

    Returns:
        Where the run is then: run, pid, state, busy, in_flight.

    Raises:
        ControlError: Its kind is one of `agent.control.wire.KINDS`.
    """
    end = time.monotonic() + timeout
    while True:
        control = _listening(folder)
        try:
            answer = _exchange(control.socket, {"do": do}, max(0.1, end - time.monotonic()))
        except TimeoutError:
            raise Unanswered(
                "timeout",
                f"process {control.pid} did not answer within {timeout:g} seconds",
                f"it may be busy; try again, or end it: truegain stop {folder.name} --now",
            ) from None
        except OSError as error:
            if not is_locked(folder):
                raise _not_running(folder) from None
            raise _unreachable(folder, error.strerror or str(error)) from None
        wrong = answer.get("error")
        if wrong is None:
            return dict(answer.get("ok") or {})
        if wrong["kind"] != "busy" or time.monotonic() > end:
            later = wrong["kind"] in ("busy", "timeout")
            raise (Unanswered if later else ControlError)(wrong["kind"], wrong["message"], wrong["hint"])
        time.sleep(AGAIN)


def _listening(folder: Path) -> Control:
    if not is_locked(folder):
        raise _not_running(folder)
    control = Control.read(folder)
    if control is None or control.pid != holder(folder):
        raise _unreachable(folder, "there is no address in the run folder")
    return control


def _not_running(folder: Path) -> ControlError:
    return ControlError("not_running", f"no process runs {folder.name}", f"truegain status {folder.name} tells why")


def _unreachable(folder: Path, why: str) -> ControlError:
    return Unanswered(
        "unreachable",
        f"process {holder(folder)} has the run and does not listen: {why}",
        "if it is just starting, try again; a run that was started from Python is stopped there",
    )


def _exchange(path: str, request: dict[str, Any], seconds: float) -> dict[str, Any]:
    end = time.monotonic() + seconds
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(seconds)
        line.connect(path)
        line.sendall(encode(request))
        answer = b""
        while not answer.endswith(b"\n"):
            line.settimeout(max(0.01, end - time.monotonic()))
            piece = line.recv(ANSWER)
            if not piece or len(answer) > ANSWER:
                raise OSError("it went away without an answer")
            answer += piece
    return decode(answer)


def pause(folder: Path, wait: bool = True, timeout: float | None = None) -> dict[str, Any]:
    """Let nothing new start; with `wait`, return when nothing is in flight any more.

    Raises:
        ControlError: As in `ask`; `timeout` when something is still in flight after that many seconds.
    """
    end = None if timeout is None else time.monotonic() + timeout
    found = ask(folder, "pause")
    while wait and found["busy"]:
        if end is not None and time.monotonic() > end:
            raise Unanswered(
                "timeout",
                f"the run is paused, and something is still in flight after {timeout:g} seconds",
                f"look again with: truegain status {folder.name}",
            )
        time.sleep(AGAIN)
        found = ask(folder, "status")
        if found["state"] != "paused":
            raise ControlError("wrong_state", f"the run is {found['state']}: somebody else let it go on or end")
    return found


def stop(folder: Path, now: bool = False, timeout: float | None = None) -> Listing:
    """End the process that drives a run, and wait until it has gone. A run at rest stays as it is.

    Args:
        folder: Of the run.
        now: At once, instead of finishing what is in flight. A process that does not obey is killed.
        timeout: Seconds to wait; with `now`, to wait for it to obey (then 10 where nothing is said).

    Returns:
        The run as `list` would show it.

    Raises:
        ControlError: The run's process died before (`not_running`), it does not listen, or it takes too long.
    """
    found = listing(folder)
    if found.state in ("finished", "stopped") and found.pid is None:
        return found
    if not is_locked(folder):
        raise _not_running(folder)
    pid = _listening(folder).pid
    try:
        ask(folder, "stop-now" if now else "stop", timeout=min(PATIENCE, timeout or PATIENCE))
    except ControlError as error:
        if not now and is_locked(folder):
            raise
        if error.what not in ("timeout", "unreachable", "not_running", "failed"):
            raise
    if not _gone(folder, PATIENCE if now and timeout is None else timeout):
        if not now:
            raise Unanswered(
                "timeout",
                f"process {pid} is still finishing what is in flight after {timeout:g} seconds",
                f"it goes on by itself; to end it at once: truegain stop {folder.name} --now",
            )
        if holder(folder) == pid and is_locked(folder):
            os.kill(pid, signal.SIGKILL)
        _gone(folder, PATIENCE)
    return listing(folder)


def _gone(folder: Path, seconds: float | None) -> bool:
    end = None if seconds is None else time.monotonic() + seconds
    while is_locked(folder) or is_locked(folder, LOG):  # its last words are in the log
        if end is not None and time.monotonic() > end:
            return False
        time.sleep(AGAIN)
    return True
