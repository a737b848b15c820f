"""Folders on disk: one for a sandbox, below it one for each job, and nothing left afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from agent.errors import ConfigError

PREFIX = "truegain-sandbox-"
YOUNG = "truegain-new-sandbox-"
CHILDHOOD_SECONDS = 3600.0
"""A folder has its lock and its name after milliseconds; with neither after this, its maker was killed."""
MOST_FILES = 10_000
FEW_FILES = 16
"""A folder that never held more is as small as a new one, and tells nothing of what was in it."""


class Workspace:
    """The folder of a sandbox, locked while we live; those of the dead are removed.

    Args:
        shared: Whether other users must be able to pass through.
    """

    def __init__(self, shared: bool) -> None:
        place = Path(tempfile.gettempdir())
        for old in (*place.glob(f"{PREFIX}*"), *place.glob(f"{YOUNG}*")):
            with contextlib.suppress(OSError):
                _remove_dead(old)
        young = Path(tempfile.mkdtemp(prefix=YOUNG)).resolve()
        self._lock = open(young / "lock", "w")  # noqa: SIM115
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.folder = young.with_name(PREFIX + young.name.removeprefix(YOUNG))
        young.rename(self.folder)  # it takes the name by which others find it when they see that it is locked
        self.jobs = self.folder / "jobs"
        self.jobs.mkdir()
        if shared:
            self.folder.chmod(0o711)
            self.jobs.chmod(0o711)

    def close(self) -> None:
        """Remove it."""
        remove(self.folder)
        self._lock.close()


def _remove_dead(folder: Path) -> None:
    """Remove the folder of a sandbox that has ended, if it is ours; others' may hold anything under any name.

    Raises:
        OSError: It is not, or somebody lives in it.
    """
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        found = os.fstat(place)
        if found.st_uid != os.geteuid():
            return
        if folder.name.startswith(YOUNG):
            if time.time() - found.st_mtime < CHILDHOOD_SECONDS:
                return  # somebody is about to lock it
            if not os.listdir(place):
                return os.rmdir(folder)
        lock = os.open("lock", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=place)
        try:
            if stat.S_ISREG(os.fstat(lock).st_mode):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(folder)
        finally:
            os.close(lock)
    finally:
        os.close(place)


class WorkerFolder:
    """Where one worker's jobs have their folders, one after the other: files to read, and a place to work.

    Args:
        parent: Where to put it.
        uid: Whose the working folders shall be; None means ours.
    """

    def __init__(self, parent: Path, uid: int | None) -> None:
        self.folder = parent / secrets.token_hex(8)
        self.files = self.folder / "files"
        self.work = self.folder / "work"
        self._uid = uid
        self._own: Path | None = None
        """An empty folder for the next job's files. Only root keeps one: candidates cannot touch what is root's."""
        for folder in (self.folder, self.files, self.work):
            folder.mkdir(mode=0o700)
            if uid is not None:
                os.chown(folder, -1, uid)
                folder.chmod(0o710)

    def job(self, files: Mapping[str, bytes]) -> tuple[Path, Path]:
        """The folders of a new job: its files, and its working folder.

        Args:
            files: Relative path → content.

        Raises:
            ConfigError: A path leaves the folder.
        """
        name = secrets.token_hex(8)
        own, work = self._own or self.files / name, self.work / name
        try:
            _fill(str(own), files, self._own is None)
            # To make and remove a folder takes longer than all else here.
            self._own = own if self._uid is not None and len(files) <= FEW_FILES else None
            os.mkdir(work, 0o700)
            if self._uid is not None:
                os.chown(work, self._uid, self._uid)
        except BaseException:
            self.clear()
            raise
        return own, work

    def excess(self, disk_mb: int, pids: Iterable[int] = ()) -> str:
        """What is too much in the working folder; empty when nothing is.

        Args:
            disk_mb: What it may hold.
            pids: Processes that may hold files open which have no name any more.
        """
        try:
            # One that nobody tells the size of leaves a little for the folder itself; a second one is too much.
            size = nameless(pids, os.stat(self.work).st_dev, disk_mb * 2**20 * 15 // 16)
        except PermissionError:
            return "it hid its open files"
        count = 0
        todo = [str(self.work)]
        while todo:
            place = todo.pop()
            try:
                with contextlib.suppress(FileNotFoundError), os.scandir(place) as entries:
                    for entry in entries:
                        count += 1
                        if entry.is_dir(follow_symlinks=False):
                            todo.append(entry.path)
                        with contextlib.suppress(FileNotFoundError):
                            size += entry.stat(follow_symlinks=False).st_blocks * 512
                        if count > MOST_FILES:
                            return f"it made more than {MOST_FILES:,} files"
            except OSError:
                return "it hid files in its folder"
        return f"it wrote more than {disk_mb} MB" if size > disk_mb * 2**20 else ""

    def clear(self) -> None:
        """Remove what the job had and made."""
        for folder in (self.files, self.work):
            for path in _inside(folder):
                if path != self._own:
                    remove(path)
        for path in _inside(self._own) if self._own is not None else ():
            remove(path)

    def close(self) -> None:
        """Remove it all."""
        remove(self.folder)


def _inside(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries]


def _fill(own: str, files: Mapping[str, bytes], new: bool) -> None:
    made = {own} if new else set()
    if new:
        os.mkdir(own, 0o755)
    for name, content in files.items():
        parts = name.split("/")
        if not all(parts) or {".", ".."} & set(parts):
            raise ConfigError(f"the file {name!r} does not lie in the job's folder", hint="use a relative path")
        try:
            for depth in range(1, len(parts)):
                folder = "/".join([own, *parts[:depth]])
                if folder not in made:
                    os.mkdir(folder, 0o755)
                    made.add(folder)
            descriptor = os.open(f"{own}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                file.write(content)
                os.fchmod(descriptor, 0o555 if content.startswith(b"#!") else 0o444)
        except (OSError, ValueError) as error:
            raise ConfigError(f"the file {name!r} cannot be written: {error}", hint="rename it") from None
    for folder in made:
        os.chmod(folder, 0o555)


def nameless(pids: Iterable[int], device: int, unseen: int) -> int:
    """Bytes of the files that have no name, but that processes hold open or in their memory.

    Args:
        pids: The processes.
        device: Where the files lie.
        unseen: What a file counts that is only in memory, where we may not ask for its size.

    Raises:
        PermissionError: A process of our own user does not let us look.
    """
    held: dict[int, int] = {}
    mapped: dict[int, int] = {}
    for pid in pids:
        tasks: list[str] = []
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            tasks = os.listdir(f"/proc/{pid}/task")
        try:
            for task in tasks:  # a thread may have a table of files of its own, and may end while we look
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    held |= _open_files(f"/proc/{pid}/task/{task}/fd", device)
            mapped = _mapped_files(pid, tasks, device, unseen) | mapped
        except PermissionError:
            if os.geteuid():
                raise
            # root without CAP_SYS_PTRACE, as in a container, is let into nobody's
    return sum((mapped | held).values())


def _open_files(place: str, device: int) -> dict[int, int]:
    """Files without a name in a table of open files: number → bytes on disk."""
    held = {}
    for name in os.listdir(place):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found = os.stat(f"{place}/{name}")
            if not found.st_nlink and found.st_dev == device:
                held[found.st_ino] = found.st_blocks * 512
    return held


def _mapped_files(pid: int, tasks: Iterable[str], device: int, unseen: int) -> dict[int, int]:
    """Files without a name in a process's memory: number → bytes on disk."""
    lines: list[bytes] = []
    for place in (f"/proc/{pid}/maps", *(f"/proc/{pid}/task/{task}/maps" for task in tasks)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(place, "rb") as file:
            lines = file.readlines()
        if lines:  # all threads have the same; the first may have ended
            break
    here = f"{os.major(device):02x}:{os.minor(device):02x}".encode()
    mapped = {}
    for line in lines:
        if not line.endswith(b" (deleted)\n"):
            continue
        words = line.split(maxsplit=5)
        if words[3] == here and int(words[4]) not in mapped:
            low, high = (int(end, 16) for end in words[0].split(b"-"))
            try:
                size = os.stat(f"/proc/{pid}/map_files/{low:x}-{high:x}").st_blocks * 512
            except OSError:  # only root may
                size = unseen
            mapped[int(words[4])] = size
    return mapped


def remove(folder: Path) -> None:
    """Remove a file or folder that an enemy has filled: closed, deep, or with names that are too long.

    Root needs to open nothing, and so never changes the mode of what a name leads to.
    """
    root = os.geteuid() == 0

    def open_and_retry(call: Callable[..., Any], path: str, _: Any) -> None:
        with contextlib.suppress(OSError):
            if not root:
                os.chmod(os.path.dirname(path), 0o700)
            if call is os.unlink or call is os.rmdir:
                call(path)

    with contextlib.suppress(OSError):  # a file, a link or an empty folder, as nearly always
        return folder.unlink()
    with contextlib.suppress(OSError):
        return folder.rmdir()
    with contextlib.suppress(OSError, RecursionError):
        if not root:
            folder.chmod(0o700)
        shutil.rmtree(folder, onerror=open_and_retry)
    if os.path.lexists(folder):
        commands = [["rm", "-rf", "--"]] if root else [["chmod", "-R", "u+rwX", "--"], ["rm", "-rf", "--"]]
        for words in commands:
            subprocess.run([*words, str(folder)], stdin=subprocess.DEVNULL, capture_output=True, check=False)
