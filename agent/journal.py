"""The run store: one SQLite file, append-only, one writer, any number of readers.

Events are appended in order and committed in groups; `flush` returns when everything appended so
far is on the disk. A group that was cut off is gone as a whole, so what is on the disk is always a
prefix of what happened.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import RunLocked, StoreError
from agent.events import Event, from_json
from agent.redact import redact

if TYPE_CHECKING:  # readers such as `truegain list` must start fast, and never flush
    import asyncio

FILE = "journal.sqlite"
LOCK = "lock"
NETWORK = {"nfs", "nfs4", "cifs", "smb2", "smb3", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs", "fuse.s3fs"}


_ESCAPED = re.compile(r"\\([0-7]{3})")
"""A blank in a mount point, as the kernel writes it."""


def _m001_events(db: sqlite3.Connection) -> None:
    db.execute(
        "CREATE TABLE events (seq INTEGER PRIMARY KEY, time REAL NOT NULL, type TEXT NOT NULL,"
        " audience TEXT NOT NULL, body TEXT NOT NULL)"
    )
    for verb in ("UPDATE", "DELETE"):
        db.execute(
            f"CREATE TRIGGER no_{verb.lower()} BEFORE {verb} ON events"
            " BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END"
        )


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_m001_events,)
"""Applied once each, in this order; the file's `user_version` counts those that were."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as it is stored: its place (from 1), its time (seconds since 1970), and itself."""

    seq: int
    time: float
    event: Event

    def to_json(self) -> dict[str, Any]:
        return {
            "seq": self.seq,
            "time": self.time,
            "type": self.event.type,
            "audience": self.event.audience,
            **json.loads(self.event.body()),
        }


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


def _explain(error: Exception, folder: Path) -> StoreError:
    text = str(error)
    if "locked" in text:
        return StoreError(
            f"the journal in {folder} is busy: {text}", hint="another program holds the file open; close it"
        )
    if "full" in text or "I/O" in text or "readonly" in text or isinstance(error, OSError):
        return StoreError(
            f"cannot write the journal in {folder}: {text}",
            hint="free some space or permissions, then continue with: truegain resume " + folder.name,
        )
    return StoreError(
        f"the journal in {folder} cannot be read: {text}",
        hint="the file is damaged; restore it from a backup, or start a new run. Nothing was changed in it",
    )


def _connect(path: Path, read_only: bool) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10, check_same_thread=False)
    try:
        if not read_only:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
    except sqlite3.Error:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection, folder: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise StoreError(
            f"the journal in {folder} was written by a newer version (schema {version})",
            hint="upgrade: pip install -U truegain",
        )
    for number, migration in enumerate(MIGRATIONS[version:], version + 1):
        db.execute("BEGIN IMMEDIATE")
        migration(db)
        db.execute(f"PRAGMA user_version={number}")
        db.execute("COMMIT")


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


class Journal:
    """The writer. Opening it takes the run's lock; `close` gives it back.

    Args:
        folder: The run folder; made with mode 0700 when it does not exist.

    Raises:
        RunLocked: Another process writes this run.
        StoreError: A network mount, a damaged or newer file, or no space; says what to do.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            kind = filesystem(folder)
            if kind in NETWORK:
                raise StoreError(
                    f"{folder} is on a network mount ({kind}), where SQLite's locks cannot be trusted",
                    hint="choose a local folder: --runs FOLDER or TRUEGAIN_RUNS=FOLDER",
                )
            os.chmod(folder, 0o700)
            self._lock = Lock(folder)
        except OSError as error:
            raise _explain(error, folder) from None
        with contextlib.ExitStack() as undo:
            undo.callback(self._lock.release)
            try:
                self._db = _connect(folder / FILE, read_only=False)
                undo.callback(self._db.close)
                _migrate(self._db, folder)
                self._seq = int(self._db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])
            except sqlite3.Error as error:
                raise _explain(error, folder) from None
            undo.pop_all()
        self._buffer: list[tuple[int, float, str, str, str]] = []
        self._durable: int = self._seq
        self._guard = threading.Lock()
        from concurrent.futures import ThreadPoolExecutor

        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._group: asyncio.Future[None] | None = None
        self.commits = 0
        """Groups committed, for the overhead benchmark."""

    def append(self, event: Event, time: float) -> Event:
        """Append an event; it is durable after the next `flush`.

        Returns:
            The event as it is stored: without keys and credentials. Fold this one, so that
            a process that reads the journal later arrives at the same state.
        """
        body = event.body()
        if redact(body) != body:
            event = from_json(event.type, redact(json.loads(body)))
            body = event.body()
        with self._guard:
            self._seq += 1
            self._buffer.append((self._seq, time, event.type, event.audience, body))
        return event

    @property
    def dirty(self) -> bool:
        """Whether something was appended that is not durable yet."""
        return self._durable < self._seq

    def commit(self, last: int | None = None) -> None:
        """Make what was appended so far durable, and block until it is.

        Args:
            last: The place of the last event to commit; None means all.

        Raises:
            StoreError: The disk is full or broken. What was committed before is safe.
        """
        with self._guard:
            count = len(self._buffer) if last is None else max(0, last - self._durable)
            group, self._buffer = self._buffer[:count], self._buffer[count:]
        if not group:
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", group)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            with self._guard:
                self._buffer[:0] = group
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise _explain(error, self.folder) from None
        self._durable = group[-1][0]
        self.commits += 1

    async def flush(self) -> None:
        """`commit` without blocking the event loop; callers that wait at the same time share one group."""
        import asyncio

        target = self._seq
        while self._durable < target:
            if self._group is None or self._group.done():
                # Up to here, and not to wherever the event loop is when the thread begins: that may be between
                # an event and those that follow from it, and a run is to be cut off only after them.
                self._group = asyncio.get_running_loop().run_in_executor(self._thread, self.commit, self._seq)
                self._group.add_done_callback(self._done)
            await asyncio.shield(self._group)

    def _done(self, group: asyncio.Future[None]) -> None:
        if self._group is group:
            self._group = None
        if not group.cancelled():
            group.exception()  # whoever awaited it has it; unawaited it must not be reported as lost

    def close(self) -> None:
        """Commit what is left, fold the write-ahead log back into the file and free the lock."""
        try:
            self._thread.shutdown(wait=True)
            self.commit()
        finally:
            self._db.close()
            self._lock.release()

    def entries(self) -> Iterator[Entry]:
        """What is durable, in order."""
        yield from _entries(self._db, 0, None, self.folder)


def _entries(db: sqlite3.Connection, after: int, audience: str | None, folder: Path) -> Iterator[Entry]:
    query = "SELECT seq, time, type, body FROM events WHERE seq > ?"
    given: list[Any] = [after]
    if audience is not None:
        query, given = query + " AND audience = ?", [after, audience]
    try:
        for seq, time, kind, body in db.execute(query + " ORDER BY seq", given):
            yield Entry(seq, time, from_json(kind, json.loads(body)))
    except (sqlite3.Error, ValueError, TypeError) as error:
        if not _being_made(error, folder):
            raise _explain(error, folder) from None
    except KeyError as error:
        raise StoreError(
            f"the journal in {folder} holds an event that this version does not know: {error}",
            hint="upgrade: pip install -U truegain",
        ) from None


def _being_made(error: Exception, folder: Path) -> bool:
    """Whether a journal has no table yet because a live process is about to make it."""
    return "no such table" in str(error) and is_locked(folder)


def read(folder: Path, *, after: int = 0, audience: str | None = None) -> Iterator[Entry]:
    """The events of a run, read-only, while it is written or after.

    Args:
        folder: The run folder.
        after: Only events behind this place.
        audience: Only events of this audience.

    Raises:
        StoreError: There is no journal, or it cannot be read.
    """
    path = folder / FILE
    if not path.exists():
        raise StoreError(f"there is no run in {folder}", hint="truegain list shows the runs")
    try:
        db = _connect(path, read_only=True)
    except sqlite3.Error as error:
        raise _explain(error, folder) from None
    with contextlib.closing(db):
        yield from _entries(db, after, audience, folder)


def last(folder: Path) -> Entry | None:
    """The newest event of a run, without reading the others; None before the first.

    Raises:
        StoreError: As for `read`.
    """
    try:
        with contextlib.closing(_connect(folder / FILE, read_only=True)) as db:
            newest = db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]
            return next(_entries(db, newest - 1, None, folder), None)
    except sqlite3.Error as error:
        if _being_made(error, folder):
            return None
        raise _explain(error, folder) from None
