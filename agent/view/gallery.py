"""The runs of a folder: their states, and the folds of those that somebody looks at."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from pathlib import Path

from agent.folders import Listing, folders, listing
from agent.journal import FILE
from agent.lock import is_locked
from agent.view.follow import Follow

KEPT = 6
"""Folds in memory; the one that nobody has looked at for longest goes first."""
SHARE = 50
"""A state is looked up again after this many times what looking it up took."""


class Gallery:
    """Runs by name.

    Args:
        runs: The folder of runs.
    """

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self._guard = threading.Lock()
        self._follows: OrderedDict[str, Follow] = OrderedDict()
        self._states: dict[str, tuple[tuple[object, ...], float, Listing]] = {}

    def folder(self, name: str) -> Path | None:
        """The folder of a run of this name, right under the folder of runs; None where there is none, or a link."""
        if not name or name.startswith(".") or "/" in name or "\\" in name or "\0" in name:
            return None
        found = self.runs / name
        try:
            return found if not _linked(found) and (found / FILE).is_file() else None
        except OSError:  # such as a name that is too long
            return None

    def follow(self, name: str) -> Follow | None:
        """The fold of a run; None where there is no such run."""
        folder = self.folder(name)
        with self._guard:
            if folder is None:
                self._follows.pop(name, None)
                self._states.pop(name, None)
                return None
            found = self._follows.pop(name, None) or Follow(folder)
            self._follows[name] = found
            while len(self._follows) > KEPT:
                self._follows.popitem(last=False)
            return found

    def states(self) -> list[Listing]:
        """All runs, the newest first."""
        found = [self.state(folder) for folder in folders(self.runs) if not _linked(folder)]
        return sorted(found, key=lambda item: (item.started, item.name), reverse=True)

    def state(self, folder: Path) -> Listing:
        """Where a run is; looked up when its files, or its lock, are other ones than before."""
        mark = _mark(folder)
        with self._guard:
            known = self._states.get(folder.name)
        if known is not None and (known[0] == mark or (known[0][0] == mark[0] and time.monotonic() < known[1])):
            return known[2]
        begun = time.monotonic()
        found = listing(folder)
        ended = time.monotonic()
        with self._guard:
            self._states[folder.name] = mark, ended + SHARE * (ended - begun), found
        return found


def _linked(folder: Path) -> bool:
    """Whether a run is in fact somewhere else, where its owner did not mean to show it."""
    return folder.is_symlink() or (folder / FILE).is_symlink()


def _mark(folder: Path) -> tuple[object, ...]:
    """What changes when a run does: who holds it first."""
    out: list[object] = [is_locked(folder)]
    for name in (FILE, f"{FILE}-wal"):
        try:
            file = (folder / name).stat()
            out += [file.st_ino, file.st_mtime_ns, file.st_size]
        except OSError:
            out.append(None)
    return tuple(out)
