"""Where the desk of a run is found, and asking it. Standard library alone."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.errors import AgentError, ConfigError, StoreError
from agent.lock import holder, is_locked
from agent.serving.wording import Told

FILE = "desk.json"
"""In the folder of a run that is served in the background: url, token, pid. For its owner alone."""
URL = re.compile(r"http://127\.0\.0\.1:\d{1,5}")
LARGEST = 1 << 20
"""Bytes of a request's body at most."""
ANSWER = 16 << 20
"""Bytes of an answer at most."""


class NotServed(AgentError):
    """Nobody takes requests for this run."""

    kind = "not_served"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a desk listens, and who may ask."""

    url: str
    token: str
    pid: int

    def write(self, path: Path) -> None:
        """Put it into a file that its owner alone may read, in place of an earlier address.

        Raises:
            ConfigError: The file is none of ours.
            StoreError: It cannot be written.
        """
        self.may_go(path)
        new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(asdict(self)) + "\n")
            os.replace(new, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            raise StoreError(f"cannot write {path}: {error.strerror}", hint="name a file that can be made") from None

    @classmethod
    def may_go(cls, path: Path) -> None:
        """Refuse a file that is there and is no address.

        Raises:
            ConfigError: It is somebody's.
        """
        if os.path.lexists(path) and cls.parse(path) is None:
            raise ConfigError(
                f"{path} is there already, and holds no address of a run: it is not replaced",
                hint="name another file, or take it away",
            )

    @classmethod
    def parse(cls, path: Path) -> Address | None:
        """That in a file; None where it holds none."""
        try:
            if path.is_symlink() or path.stat().st_size > 4096:
                return None
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        right = isinstance(found.token, str) and type(found.pid) is int and isinstance(found.url, str)
        return found if right and URL.fullmatch(found.url) else None

    @classmethod
    def read(cls, folder: Path) -> Address | None:
        """That of a run, while the process lives that wrote it: one that was killed may have left its address."""
        found = cls.parse(folder / FILE)
        return found if found is not None and is_locked(folder) and holder(folder) == found.pid else None


def ask(folder: Path, path: str, body: dict[str, Any] | None = None, seconds: float = 60.0) -> dict[str, Any]:
    """Ask the desk of a run.

    Args:
        folder: Of the run.
        path: Such as "/evaluate".
        body: For a POST; None for a GET.
        seconds: To wait for the answer.

    Raises:
        NotServed: Nobody listens there.
        AgentError: What the desk refuses, in its words.
    """
    known = Address.read(folder)
    if known is None:
        raise NotServed(
            f"{folder.name} takes no requests: it has ended, rests, or was started in another way",
            hint="look at its state; a new run takes them",
        )
    text = None if body is None else json.dumps(body).encode()
    if text is not None and len(text) > LARGEST:
        raise ConfigError(f"a request is longer than {LARGEST} bytes", hint="send a shorter text")
    line = http.client.HTTPConnection("127.0.0.1", int(known.url.rpartition(":")[2]), timeout=seconds)
    headers = {"Authorization": f"Bearer {known.token}", "Content-Type": "application/json"}
    try:
        line.request("GET" if body is None else "POST", path, text, headers)
        answer = json.loads(line.getresponse().read(ANSWER))
    except (OSError, ValueError, http.client.HTTPException):
        raise NotServed(
            f"{folder.name} did not answer", hint="it may just be ending; look at its state, and ask again"
        ) from None
    finally:
        line.close()
    wrong = answer.get("error")
    if wrong is not None:
        raise Told(wrong)
    return dict(answer)
