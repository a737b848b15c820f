"""Starts runs that take requests, as processes of their own, which outlive whoever started them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.errors import AgentError, ConfigError

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
        raise AgentError(str(wrong["message"]), hint=str(wrong["hint"]))
    return found


class Starting:
    """The runs that this process has started, by name.

    Args:
        most: How many it may start.
    """

    def __init__(self, most: int) -> None:
        self._most, self._count = most, 0
        self._lock = threading.Lock()
        self._open: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str, arguments: Sequence[str]) -> bool:
        """Start a run in the background; whether it has begun already.

        Args:
            name: Of the run.
            arguments: Of `truegain`.

        Raises:
            ConfigError: Too many were started.
            AgentError: It cannot begin, in its words.
        """
        with self._lock:
            if self._count >= self._most:
                raise ConfigError(
                    f"this server may start {self._most} runs, and has",
                    hint="a person starts it with a higher --starts",
                )
            self._count += 1
        child = subprocess.Popen(
            _words(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._open[name] = child
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return False
        try:
            self.look(name)
        except AgentError:
            with self._lock:
                self._count -= 1  # nothing was spent
            raise
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
        _document(child.communicate()[0])
        return False


def name_for(place: Path, problem: Path) -> str:
    """The name of a new run."""
    from agent.folders import new_run

    return new_run(place, problem.name).name
