"""Control groups: the only true limit on the memory and the tasks of several processes together.

Version 1 (one tree per controller) and version 2, wherever we may make a group. The zygote of a worker
joins its group when it starts, so a candidate costs nothing extra.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from agent.sandbox.lockdown import THREADS

PREFIX = "truegain-"
SLACK_MB = 16
REMOVE_SECONDS = 2.0
_numbers = itertools.count()
MEMORY_FILES = ("memory.max", "memory.limit_in_bytes")
SWAP_FILES = ("memory.swap.max", "memory.memsw.limit_in_bytes")
EVENT_FILES = ("memory.events", "memory.oom_control")
USAGE_FILES = ("memory.current", "memory.usage_in_bytes")


def parents(proc: Path = Path("/proc/self")) -> list[Path]:
    """Where groups for memory and tasks can be made; the same folder once in version 2.

    Raises:
        OSError: They cannot, with the reason.
    """
    mounted: dict[str, Path] = {}
    for line in (proc / "mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(maxsplit=2)
        place = Path(fields.split()[4])
        if kind == "cgroup":
            mounted |= {name: place for name in re.split("[ ,]", options) if name in ("memory", "pids")}
        elif kind == "cgroup2":
            mounted[""] = place
    own: dict[str, str] = {}
    for line in (proc / "cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        own |= dict.fromkeys(names.split(","), path)
    if "memory" in mounted and "pids" in mounted:
        return [_usable(mounted[name], own.get(name, "/")) for name in ("memory", "pids")]
    if "" not in mounted:
        raise OSError("no control groups are mounted")
    place = _usable(mounted[""], own.get("", "/"))
    missing = {"memory", "pids"} - set((place / "cgroup.controllers").read_text().split())
    if missing:
        raise OSError(f"the control group has no controller for {' and '.join(sorted(missing))}")
    (place / "cgroup.subtree_control").write_text("+memory +pids")  # refused while processes are in it
    return [place]


def _usable(mount: Path, own: str) -> Path:
    inside = mount / own.lstrip("/")
    place = inside if inside.is_dir() else mount
    if not os.access(place, os.W_OK):
        raise PermissionError(f"{place} cannot be written")
    return place


@dataclass
class Group:
    """One worker's group.

    Args:
        folders: One per controller, or one for both.
    """

    folders: list[Path]
    base_mb: float = 0.0
    kills: int = 0
    limits: tuple[int, int] = (0, 0)

    @classmethod
    def make(cls) -> Group:
        """A new group below our own; groups that dead processes left behind are removed.

        Raises:
            OSError: We may not.
        """
        name = f"{PREFIX}{os.getpid()}-{next(_numbers)}"
        folders = []
        for parent in parents():
            for old in parent.glob(f"{PREFIX}*-*"):
                if not Path(f"/proc/{old.name.split('-')[1]}").exists():
                    with contextlib.suppress(OSError):
                        old.rmdir()
            (parent / name).mkdir()
            folders.append(parent / name)
        return cls(folders)

    def join(self) -> list[int]:
        """Open descriptors; whoever writes "0" to each has joined."""
        return [os.open(folder / "cgroup.procs", os.O_WRONLY) for folder in self.folders]

    def started(self) -> None:
        """Take what is in use now as what the libraries need."""
        self.base_mb = int(self._read(USAGE_FILES) or 0) / 2**20

    def limit(self, memory_mb: int, processes: int) -> None:
        """Limits for the next job, beyond the zygote and its helper."""
        if self.limits == (memory_mb, processes):
            return
        self.limits = memory_mb, processes
        size = str(int((self.base_mb + memory_mb + SLACK_MB) * 2**20))
        # The limit with swap may never be below the one without: raise that one first, lower it last.
        for names in (SWAP_FILES, MEMORY_FILES, SWAP_FILES):
            self._write(names, "0" if names == SWAP_FILES and self._has("memory.swap.max") else size)
        self._write(("pids.max",), str(processes + THREADS + 2))

    def killed(self) -> bool:
        """Whether the kernel has killed for want of memory since the last call."""
        before = self.kills
        found = re.search(r"^oom_kill (\d+)", self._read(EVENT_FILES), re.MULTILINE)
        self.kills = int(found[1]) if found else 0
        return self.kills > before

    def remove(self) -> None:
        """Kill whoever is in it, then remove it."""
        until = time.monotonic() + REMOVE_SECONDS
        for folder in self.folders:
            while folder.exists() and time.monotonic() < until:
                with contextlib.suppress(OSError):
                    folder.rmdir()
                    break
                with contextlib.suppress(OSError):
                    (folder / "cgroup.kill").write_text("1")
                with contextlib.suppress(OSError):
                    for pid in (folder / "cgroup.procs").read_text().split():
                        os.kill(int(pid), 9)
                time.sleep(0.002)

    def _has(self, name: str) -> bool:
        return any((folder / name).exists() for folder in self.folders)

    def _read(self, names: tuple[str, ...]) -> str:
        for folder in self.folders:
            for name in names:
                with contextlib.suppress(OSError):
                    return (folder / name).read_text()
        return ""

    def _write(self, names: tuple[str, ...], value: str) -> None:
        for folder in self.folders:
            for name in names:
                if (folder / name).exists():
                    with contextlib.suppress(OSError):
                        (folder / name).write_text(value)
