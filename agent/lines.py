"""A file of JSON lines that is only ever appended to, and survives being cut off."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from agent.errors import ConfigError, StoreError
from agent.lock import Lock
from agent.space import canonical


class Lines:
    """Events in a folder, one a line, each on disk before `append` returns.

    A last line without an end was never finished: it is left out, and the next `append` writes over it.

    Args:
        folder: Which must be there.
        name: Of the file.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.path = folder / name
        self._size = 0

    def append(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Write events behind those that were read or written before.

        Raises:
            StoreError: The file cannot be written, or somebody else has written meanwhile.
            RunLocked: Another process writes at this moment.
        """
        data = "".join(canonical(event) + "\n" for event in events).encode("utf-8", "surrogatepass")
        lock = Lock(self.folder)
        try:
            with open(self.path, "a+b", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.seek(min(self._size, file.seek(0, os.SEEK_END)))
                if file.tell() < self._size or b"\n" in file.read():
                    raise StoreError(
                        f"{self.path} was changed by somebody else", hint="load it again and go on from there"
                    )
                file.truncate(self._size)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._size += len(data)
        except OSError as error:
            raise StoreError(
                f"cannot write {self.path}: {error.strerror}",
                hint="what was written before is safe; mend it, load it again and go on",
            ) from None
        finally:
            lock.release()

    def read(self) -> list[Any]:
        """All events; `append` goes on behind them.

        Raises:
            ConfigError: There is no such file.
            StoreError: It cannot be read, is empty, or a line is no JSON.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            raise ConfigError(f"there is no {self.path}", hint="begin a new one, or name another folder") from None
        except OSError as error:
            raise StoreError(
                f"cannot read {self.path}: {error.strerror}", hint="make it readable for you, and begin again"
            ) from None
        whole = data[: data.rfind(b"\n") + 1]
        out = []
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                out.append(json.loads(line.decode("utf-8", "surrogatepass")))
            except ValueError as error:
                raise self.damaged(number, error) from None
        if not out:
            raise StoreError(f"{self.path} is empty", hint="remove it and begin again")
        self._size = len(whole)
        return out

    def damaged(self, number: int, error: Exception) -> StoreError:
        """The error for a line that cannot be used."""
        return StoreError(f"{self.path}, line {number}, is damaged: {error}", hint="restore the file from a copy")
