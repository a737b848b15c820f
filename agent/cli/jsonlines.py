"""A run's progress as JSON lines, for logs: one object a line, written whole."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from agent.redact import redact
from agent.telling.text import plain
from agent.telling.words import Words

if TYPE_CHECKING:
    from agent.events import Event
    from agent.state import State


class Stream(Protocol):
    """What is written to."""

    def write(self, text: str, /) -> Any: ...

    def flush(self) -> Any: ...


def _ascii(stream: Stream) -> bool:
    """Whether a stream's encoding cannot hold all text; surrogates are escaped by whoever opened it."""
    return not str(getattr(stream, "encoding", None) or "utf-8").lower().replace("_", "-").startswith("utf")


class JsonLines:
    """Writes what matters as it happens. An observer of the run, as `agent.telling.display.Display` is.

    Each line has `ts` (ISO 8601, UTC), `level` (info, warning or error), `run`, `event` (the type of a run's event, or
    the caller's own word) and `text`, and more by event. Only what the search may see is written.

    Args:
        stream: To write to; it must take any text.
        run: Name of the run, until its first event tells it.
    """

    def __init__(self, stream: Stream, run: str = "") -> None:
        self.run = run
        self.stream = stream
        self._words = Words()

    def say(self, level: str, event: str, text: str, **fields: Any) -> None:
        """One line.

        Args:
            level: info, warning or error.
            event: What it is about, such as "batch.started".
            text: For people.
            fields: Plain JSON; none may be named as those that every line has.
        """
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"ts": stamp, "level": level, "run": self.run, "event": event, "text": plain(text)}
        whole = redact({**line, **{name: value for name, value in fields.items() if name not in line}})
        self.stream.write(json.dumps(whole, ensure_ascii=_ascii(self.stream)) + "\n")
        self.stream.flush()

    def __call__(self, event: Event, state: State) -> None:
        self.run = state.run
        said = self._words(event, state)
        if said.text and event.audience == "search":
            known = {name: getattr(event, name) for name in ("candidate", "decision") if hasattr(event, name)}
            self.say(said.level, event.type, said.text, **known)

    def progress(self, done: int, total: int, what: str) -> None:
        """How far a download or a batch is; called from another thread. Its beginning and its end are written."""
        if done in (0, total):
            self.say("info", "progress", what, done=done, total=total)


class Prints(io.TextIOBase):
    """A stdout or stderr for a process whose log is JSON lines: what is printed becomes lines of `event` "printed".

    Args:
        lines: Where they go.
        level: Of each.
    """

    def __init__(self, lines: JsonLines, level: str = "info") -> None:
        self._lines = lines
        self._level = level
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            if line.strip():
                self._lines.say(self._level, "printed", line)
        return len(text)

    def flush(self) -> None:
        """Nothing waits but an unfinished line."""


class Warnings(logging.Handler):
    """Python's own log records as lines.

    Args:
        lines: Where they go.
    """

    def __init__(self, lines: JsonLines) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        self._lines.say(level, "log", record.getMessage(), source=record.name)


class LogFile(io.TextIOBase):
    """A file that is appended to, each text in one write, from the moment it is opened; before that it is kept.

    It stays locked until the process ends, so that whoever reads it knows whether more may come.
    """

    def __init__(self) -> None:
        self._file = -1
        self._kept: list[str] = []

    def open(self, path: Path) -> int:
        """Begin to write to a file; what was kept comes first.

        Returns:
            The file's descriptor.
        """
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):  # the run's process before this one may not have gone yet
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kept, self._kept = self._kept, []
        for text in kept:
            self.write(text)
        return self._file

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._file < 0:
            self._kept.append(text)
        else:
            with contextlib.suppress(OSError):  # a full disk ends the run by its journal, which says so
                os.write(self._file, text.encode("utf-8", "backslashreplace"))
        return len(text)
