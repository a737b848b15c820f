"""What goes over a run's socket: one request and one answer, each one line of JSON.

    {"do": "status" | "pause" | "go" | "stop" | "stop-now"}
    {"ok": {...}}   or   {"error": {"kind", "message", "hint"}}

The socket lies in a folder of the user's own, since the path of a socket must be short; the file `control` in the
run folder says where.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from agent.errors import AgentError, StoreError
from agent.redact import redact

FILE = "control"
LIMIT = 4096
"""Bytes of a request at most."""
ANSWER = 65536
"""Bytes of an answer at most."""
SHORT = 100
"""Bytes that a socket's path must stay below: the kernel takes 107, on other systems 103."""

KINDS = {
    "bad_request": "the line is not a JSON object with a text in `do`",
    "unknown_request": "there is nothing of that name to do",
    "too_large": "the request is longer than 4096 bytes",
    "timeout": "the other side did not say or do what was waited for in time",
    "busy": "too many clients are connected; ask again",
    "wrong_state": "the run is stopping or has ended, so it cannot be paused or go on",
    "failed": "the run could not write its journal",
    "not_running": "no process runs this run",
    "unreachable": "a process has the run, and does not listen: it is just starting, or was started from Python",
}
"""Every kind of error, and what it means."""


class ControlError(AgentError):
    """A run cannot be steered as it was asked.

    Args:
        kind: One of `KINDS`.
        message: What went wrong.
        hint: What to do.
    """

    exit_code = 2

    def __init__(self, kind: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.what = kind

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "kind": self.what}


class Unanswered(ControlError):
    """The same, where it may succeed later."""

    exit_code: ClassVar[int] = 75


@dataclass(frozen=True, slots=True)
class Control:
    """What the file `control` says.

    Args:
        socket: Path of the socket.
        pid: Of the process that listens.
        started: When it began to, in seconds since 1970.
    """

    socket: str
    pid: int
    started: float

    def write(self, folder: Path) -> None:
        """Put it into a run folder, whole or not at all."""
        path = folder / f"{FILE}.new"
        path.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")
        os.chmod(path, 0o600)
        os.replace(path, folder / FILE)

    @classmethod
    def read(cls, folder: Path) -> Control | None:
        """What a run folder says, or None where it says nothing that makes sense."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads((folder / FILE).read_text(encoding="utf-8"))
            return cls(str(found["socket"]), int(found["pid"]), float(found["started"]))
        return None


def encode(message: Mapping[str, Any]) -> bytes:
    """One line, without keys and credentials."""
    return json.dumps(redact(dict(message))).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The object that a line holds.

    Raises:
        ControlError: It holds none.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ControlError("bad_request", "this is not a JSON object", 'send one line such as {"do": "status"}')
    return found


def address(folder: Path) -> Path:
    """The path of a run's socket; its folder is made when it is not there.

    Raises:
        StoreError: That folder is not ours alone, or cannot be made.
    """
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16] + ".sock"
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    places = [Path(given) / "truegain"] if given and Path(given).is_dir() else []
    places += [Path("/tmp") / f"truegain-{os.getuid()}"]
    place = next(item for item in places if len(os.fsencode(item / name)) < SHORT)
    try:
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=0o700)
        found = place.lstat()
    except OSError as error:
        raise StoreError(
            f"cannot make {place}: {error.strerror}", hint="set XDG_RUNTIME_DIR to a folder of yours"
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StoreError(
            f"{place} is not a folder that belongs to you alone",
            hint=f"remove it, or: chmod 700 {place}; or set XDG_RUNTIME_DIR to a folder of yours",
        )
    return place / name
