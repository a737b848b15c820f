"""Who may write a folder: an advisory lock, and file systems where locks cannot be trusted."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from pathlib import Path

from agent.errors import RunLocked, StoreError

LOCK = "lock"
NETWORK = {"nfs", "nfs4", "cifs", "smb2", "smb3", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs", "fuse.s3fs"}

_ESCAPED = re.compile(r"\\([0-7]{3})")
"""A blank in a mount point, as the kernel writes it."""


def filesystem(path: Path, mountinfo: str = "/proc/self/mountinfo") -> str:
    """The type of the file system that holds `path`, or "" where the system does not tell."""
    try:
        lines = Path(mountinfo).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    where, best, kind = path.resolve(), -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), before.split()[4]))
        if where.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), after.split()[0]
    return kind


def local(folder: Path) -> None:
    """Refuse a folder on a network mount.

    Raises:
        StoreError: It is on one; says what to do.
    """
    kind = filesystem(folder)
    if kind in NETWORK:
        raise StoreError(
            f"{folder} is on a network mount ({kind}), where SQLite's locks cannot be trusted",
            hint="choose a local folder: --runs FOLDER or TRUEGAIN_RUNS=FOLDER",
        )


class Lock:
    """The right to write a run: an advisory lock that the kernel frees when the process dies.

    Raises:
        RunLocked: A live process holds it; names the process.
    """

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = holder(folder)
            os.close(self._file)
            raise RunLocked(str(folder), pid) from None
        with contextlib.suppress(OSError):  # a full disk must not keep a run from being resumed; the text is a courtesy
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Give the right back; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def holder(folder: Path) -> int | None:
    """The process that last took the lock, by its own word."""
    try:
        return int((folder / LOCK).read_text().strip())
    except (OSError, ValueError):
        return None


def is_locked(folder: Path) -> bool:
    """Whether a live process writes this run."""
    try:
        file = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(file)
