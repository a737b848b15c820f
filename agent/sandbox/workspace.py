"""Folders on disk: one for a sandbox, below it one for each job, and nothing left afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.errors import ConfigError

PREFIX = "truegain-sandbox-"
MOST_FILES = 10_000


class Workspace:
    """The folder of a sandbox, locked while we live; those of the dead are removed.

    Args:
        shared: Whether other users must be able to pass through.
    """

    def __init__(self, shared: bool) -> None:
        for old in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError), open(old / "lock") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(old)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
        self._lock = open(self.folder / "lock", "w")  # noqa: SIM115
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.jobs = self.folder / "jobs"
        self.jobs.mkdir()
        if shared:
            self.folder.chmod(0o711)
            self.jobs.chmod(0o711)

    def close(self) -> None:
        """Remove it."""
        remove(self.folder)
        self._lock.close()


class JobFolder:
    """A job's files, which it may read, and its working folder.

    Args:
        jobs: Where to put it.
        files: Relative path → content.
        uid: Whose it shall be; None means ours.

    Raises:
        ConfigError: A path leaves the folder.
    """

    def __init__(self, jobs: Path, files: Mapping[str, bytes], uid: int | None) -> None:
        self.folder = jobs / secrets.token_hex(8)
        self.files = self.folder / "files"
        self.work = self.folder / "work"
        self.folder.mkdir(mode=0o700)
        try:
            self._fill(files, uid)
        except BaseException:
            self.remove()
            raise

    def _fill(self, files: Mapping[str, bytes], uid: int | None) -> None:
        folders = {self.files}
        for name, content in files.items():
            path = self.files / name
            if Path(name).is_absolute() or ".." in Path(name).parts or path == self.files:
                raise ConfigError(f"the file {name!r} does not lie in the job's folder", hint="use a relative path")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            except (FileExistsError, NotADirectoryError, IsADirectoryError, ValueError) as error:
                raise ConfigError(f"the file {name!r} cannot be written: {error}", hint="rename it") from None
            path.chmod(0o555 if content.startswith(b"#!") else 0o444)
            folders |= {parent for parent in path.parents if parent.is_relative_to(self.files)}
        self.files.mkdir(exist_ok=True)
        for folder in folders:
            folder.chmod(0o555)
        self.work.mkdir(mode=0o700)
        if uid is not None:
            os.chown(self.work, uid, uid)
            os.chown(self.folder, -1, uid)
            self.folder.chmod(0o710)

    def excess(self, disk_mb: int) -> str:
        """What is too much in the working folder; empty when nothing is."""
        size = count = 0
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

    def remove(self) -> None:
        """Remove it all."""
        remove(self.folder)


def remove(folder: Path) -> None:
    """Remove a folder that an enemy has filled: closed, deep, or with names that are too long."""

    def open_and_retry(call: Callable[..., Any], path: str, _: Any) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(path), 0o700)
            if call is os.unlink or call is os.rmdir:
                call(path)

    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(folder, onerror=open_and_retry)
    if folder.exists():
        for words in (["chmod", "-R", "u+rwX", "--"], ["rm", "-rf", "--"]):
            subprocess.run([*words, str(folder)], stdin=subprocess.DEVNULL, capture_output=True, check=False)
