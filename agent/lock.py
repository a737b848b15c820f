"""Who may write a folder: an advisory lock, and file systems where locks cannot be trusted."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import time
import weakref
from collections.abc import Callable
from pathlib import Path

from agent.errors import RunLocked, StoreError

LOCK = "lock"
LOCKS = ".locks"
"""Folder of the problems' locks, in the folder of runs."""

TRIES, PAUSE = 20, 0.01
"""How often, and after how many seconds each, a lock is tried before it counts as held."""

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

    Args:
        folder: That holds the lock's file. A file that is left behind blocks nobody.
        name: Of the file.
        refusal: The error to raise, given the holder's pid; without one it is about the run in the folder.

    Raises:
        RunLocked: A live process holds it; names the process.
    """

    def __init__(
        self, folder: Path, name: str = LOCK, refusal: Callable[[int | None], RunLocked] | None = None
    ) -> None:
        self._file = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _taken(self._file):
            pid = holder(folder, name)
            os.close(self._file)
            raise (refusal(pid) if refusal is not None else RunLocked(str(folder), pid)) from None
        # A child that is forked, and not started anew, would hold the lock for as long as it lives.
        own = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _forget(own()))
        with contextlib.suppress(OSError):  # a full disk must not keep a run from being resumed; the text is a courtesy
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Give the right back; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _taken(file: int) -> bool:
    """Take a lock. Whoever looks whether it is held (`is_locked`) holds it himself, for a moment."""
    for _ in range(TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(PAUSE)
    return False


def _forget(lock: Lock | None) -> None:
    """In a forked child: close its copy, which frees nothing for the parent, and leaves the lock's file alone."""
    if lock is not None:
        Lock.release(lock)


def problem_lock(runs: Path, problem: Path) -> Lock:
    """The right to be the one that runs a problem in a folder of runs.

    Args:
        runs: The folder of runs.
        problem: The problem's file.

    Raises:
        RunLocked: A live process runs it there; names the process.
        StoreError: The folder is on a network mount.
    """
    folder = runs / LOCKS
    path = problem.resolve()
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:24]

    def refusal(pid: int | None) -> RunLocked:
        who = f"process {pid}" if pid else "another process"
        names = [run.name for run in sorted(runs.iterdir()) if pid and holder(run) == pid and is_locked(run)]
        run = names[0] if len(names) == 1 else ""
        return RunLocked(
            str(runs),
            pid,
            message=f"{who} is running this problem ({path}) in {runs}{f', as {run}' if run else ''}",
            hint=f"wait for it to finish, or look at it with: truegain list; truegain status {run or 'RUN'}. "
            "To run side by side, give another folder: --runs FOLDER",
        )

    while True:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            local(folder)
            lock = _Tidy(folder, name, refusal)
        except FileNotFoundError:
            continue  # whoever had it has just taken it away
        except RunLocked:
            if (folder / name).exists():
                raise
            continue
        if lock.current:
            return lock
        Lock.release(lock)


class _Tidy(Lock):
    """A lock whose file goes with it. Whoever opened that just before has a lock that nobody sees, and tries again."""

    def __init__(self, folder: Path, name: str, refusal: Callable[[int | None], RunLocked]) -> None:
        self._path = folder / name
        super().__init__(folder, name, refusal)

    @property
    def current(self) -> bool:
        """Whether the file that is locked is still the one of its name."""
        try:
            return self._path.stat().st_ino == os.fstat(self._file).st_ino
        except FileNotFoundError:
            return False

    def release(self) -> None:
        if self._file >= 0:
            with contextlib.suppress(OSError):
                self._path.unlink()
                self._path.parent.rmdir()
        super().release()


def holder(folder: Path, name: str = LOCK, table: str = "/proc/locks") -> int | None:
    """The process that has the lock by the kernel's word, or, where that does not tell, by its own.

    Its own word may be old: a process that could not write its number holds the lock all the same.
    """
    try:
        with open(folder / name) as file:
            place = os.fstat(file.fileno())
            text = file.read(32).strip()
        known = Path(table).read_text().splitlines() if Path(table).exists() else []
    except OSError:
        return None
    inode = f"{os.major(place.st_dev):02x}:{os.minor(place.st_dev):02x}:{place.st_ino}"
    for line in known:
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[5] == inode and int(words[4]) > 0:
            return int(words[4])
    return int(text) if text.isdecimal() and text.isascii() else None


def is_locked(folder: Path, name: str = LOCK) -> bool:
    """Whether a live process writes this run."""
    try:
        file = os.open(folder / name, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(file)
