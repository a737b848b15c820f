"""Starts runs that take requests, as processes of their own, which outlive whoever started them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.errors import AgentError, ConfigError
from agent.folders import ignored
from agent.serving.wording import Told

PATIENCE = 20.0
"""Seconds that `start` waits for a run to begin; a model's weights may take longer to load."""
ESTIMATE = 120.0
"""Seconds that an estimate may take."""


def command(arguments: Sequence[str], seconds: float) -> dict[str, Any]:
    """What a command of ours prints with --json. Its output stays out of ours, where the protocol is spoken.

    Raises:
        AgentError: In the command's words; or it takes too long.
    """
    try:
        done = subprocess.run(
            _words(arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise AgentError(f"it took longer than {seconds:g} seconds", hint="ask again later") from None
    return _document(done.stdout)


def _words(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-P", "-m", "agent", *arguments, "--json"]


def _document(text: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        raise AgentError(
            "the command said nothing that can be read", hint="truegain doctor looks for the cause"
        ) from None
    wrong = found.get("error")
    if wrong is not None:
        raise Told(wrong)
    return found


CLAIM = ".starts"
"""File in a folder of runs, locked by whoever counts them to start one."""
MARK = "--name"
"""Stands in the command of every run that an agent has started, and of no other: it is no option for people."""


class Starting:
    """Starts runs for agents, up to a number of them.

    Args:
        most: How many there may be.
        known: The names of those that there are, also of earlier servers over the same runs.
    """

    def __init__(self, most: int, known: Callable[[], set[str]]) -> None:
        self._most, self._known = most, known
        self._own: set[str] = set()
        self._open: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str, arguments: Sequence[str], place: Path) -> bool:
        """Start a run in the background; whether it has begun already.

        Args:
            name: Of the run.
            arguments: Of `truegain`, without the name.
            place: The folder of runs that it goes to.

        Raises:
            ConfigError: Too many were started, or another one is just beginning there.
            AgentError: It cannot begin, in its words.
        """
        with _alone(place) as held:
            if len(self._known() | self._own) >= self._most:
                raise ConfigError(
                    f"agents may start {self._most} runs here, and have",
                    hint="a person starts the server with a higher --starts",
                )
            self._own.add(name)
            child = subprocess.Popen(
                _words([*arguments, MARK, name]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                pass_fds=(held,),  # until it has begun, and everybody can count it
                start_new_session=True,
            )
        self._open[name] = child
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return False
        self.look(name)
        return True

    def look(self, name: str) -> bool:
        """Whether a run is just beginning.

        Raises:
            AgentError: It could not begin, in its words.
        """
        child = self._open.get(name)
        if child is None:
            return False
        if child.poll() is None:
            return True
        del self._open[name]
        try:
            _document(child.communicate()[0])
        except AgentError:
            self._own.discard(name)  # nothing was spent
            raise
        return False


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[int]:
    """The right to count the runs in a folder and to start one more, of all servers. A process that inherits the
    descriptor keeps it until it ends.

    Raises:
        ConfigError: Somebody else has it for long.
    """
    if not place.exists():
        ignored(place)
    held = os.open(place / CLAIM, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + PATIENCE
    try:
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise ConfigError(
                        "another run is just beginning here, and that takes long", hint="start again in a moment"
                    ) from None
                time.sleep(0.05)
        yield held
    finally:
        os.close(held)


def name_for(place: Path, problem: Path) -> str:
    """The name of a new run."""
    from agent.folders import new_run

    return new_run(place, problem.name).name
