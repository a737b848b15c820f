"""Our end of a guarded process: start it, wait for it, stop it. Works on Linux and macOS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GUARD = Path(__file__).with_name("guard.py")
STOP_SECONDS = 2.0
SECRET = re.compile(r"(OPENAI|ANTHROPIC)_.*(KEY|TOKEN)", re.IGNORECASE)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without the keys of model providers, which evaluators get only in `extra`."""
    return {**{name: value for name, value in os.environ.items() if not SECRET.match(name)}, **(extra or {})}


def _own_path(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with a PYTHONPATH of absolute folders only.

    An empty entry (as in "PYTHONPATH=:/lib") puts the working directory before the standard library.
    """
    kept = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(entry)]
    return {**environment, "PYTHONPATH": os.pathsep.join(kept)}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended.

    Args:
        kind: "exit", or "signal" when one killed it.
        number: The exit code, or the signal's number.
        peak_mb: Largest resident memory in megabytes.
    """

    kind: Literal["exit", "signal"]
    number: int
    peak_mb: float = 0.0

    def __str__(self) -> str:
        if self.kind == "exit":
            return f"exited with code {self.number}"
        try:
            return f"died with signal {self.number} ({signal.Signals(self.number).name})"
        except ValueError:
            return f"died with signal {self.number}"

    def out_of_memory(self, limit_mb: int | None) -> bool:
        """Whether a limit in megabytes is the likely reason: died of a signal, with most of it in use.

        Native code often crashes when it gets no memory.
        """
        return self.kind == "signal" and limit_mb is not None and self.peak_mb >= 0.7 * limit_mb


class GuardedProcess:
    """A process with a guard, which ends it and all its descendants when we stop it or die.

    Args:
        kind: What the guard runs: "worker", "command", or "grouped", a command with control groups of its own.
        arguments: For the guard; see there.
        environment: The whole environment.
        cwd: The working directory; None means ours.
        stdout: Descriptor to write to.
        stderr: Descriptor to write to.
        descriptors: Further descriptors that the process inherits.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(
        self,
        kind: Literal["worker", "command", "grouped"],
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        stdout: int,
        stderr: int,
        cwd: Path | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        ours, theirs = socket.socketpair()
        flags = ["-P"] if kind == "worker" else ["-I", "-S"]  # a command's guard starts faster without site-packages
        try:
            self._popen = subprocess.Popen(
                [sys.executable, *flags, str(GUARD), str(theirs.fileno()), kind, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                env=_own_path(environment) if kind == "worker" else dict(environment),
                pass_fds=(theirs.fileno(), *descriptors),
                start_new_session=True,  # a Ctrl-C in the terminal is ours to handle
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._lifeline = ours
        self._said = b""
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Ending] = self._loop.create_future()
        self._loop.add_reader(ours, self._listen)

    @property
    def pid(self) -> int:
        """The guard's process id."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended, as far as we know."""
        return not self._ended.done()

    def _listen(self) -> None:
        try:
            data = self._lifeline.recv(256)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._said += data
            return
        self._loop.remove_reader(self._lifeline)
        self._lifeline.close()
        self._popen.wait()  # its descriptors are closed, so it is all but gone
        kind, number, peak = (self._said.decode().split() or ["signal", "9", "0"])[:3]
        self._ended.set_result(Ending("exit" if kind == "exit" else "signal", int(number), int(peak) / 1024))

    async def wait(self) -> Ending:
        """How it ended, once nothing of it is left. Cancelling the call does not stop the process."""
        return await asyncio.shield(self._ended)

    def terminate(self) -> None:
        """Ask the process and its group to end."""
        if self.alive:
            with contextlib.suppress(OSError):
                self._lifeline.send(b"T")

    def kill(self) -> None:
        """End the process and everything beneath it; returns at once, `wait` says when it is done."""
        if self.alive:
            with contextlib.suppress(OSError):
                self._lifeline.shutdown(socket.SHUT_WR)

    async def stop(self, grace: float = 0.0) -> Ending:
        """End it and wait until nothing of it is left.

        Args:
            grace: Seconds between asking and killing. When the call is cancelled it kills at once.
        """
        try:
            if grace and self.alive:
                self.terminate()
                await asyncio.wait({self._ended}, timeout=grace)
        finally:
            self.kill()
        await asyncio.wait({self._ended}, timeout=STOP_SECONDS)
        if self.alive:  # somebody stopped or broke the guard; its death kills the process where Linux sees to it
            self._popen.kill()
        return await self.wait()
