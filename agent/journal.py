"""The run store: append-only, one writer, any number of readers.

Events are appended in order and committed in groups; `flush` returns when everything appended so
far is on the disk. A group that was cut off is gone as a whole, so what is on the disk is always a
prefix of what happened.

What the search may read is in `journal.sqlite`. What belongs to the gate and to the final report is
in `gate.sqlite` beside it, a file that nothing but the writer opens while a run is open: `read`
shows the first file alone, and `agent.wall` decides who sees more.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import StoreError
from agent.events import Event, from_json
from agent.lock import Lock, is_locked, local
from agent.redact import redact
from agent.sqlitefile import connect, explain, insert

if TYPE_CHECKING:  # readers such as `truegain list` must start fast, and never flush
    import asyncio

FILE = "journal.sqlite"
GATE = "gate.sqlite"
PRIVATE = ("gate", "report")
"""Audiences whose events are in the gate's file."""


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


def _g001_events(db: sqlite3.Connection) -> None:
    # Rows can be deleted: a group that was cut off between the two files is taken back when the run goes on.
    db.execute(
        "CREATE TABLE events (seq INTEGER PRIMARY KEY, after INTEGER NOT NULL, time REAL NOT NULL, type TEXT NOT NULL,"
        " audience TEXT NOT NULL, body TEXT NOT NULL)"
    )
    db.execute("CREATE TABLE opened (time REAL NOT NULL)")


MIGRATIONS: dict[str, tuple[Callable[[sqlite3.Connection], None], ...]] = {FILE: (_m001_events,), GATE: (_g001_events,)}
"""Applied once each, in this order; a file's `user_version` counts those that were."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as it is stored.

    Args:
        seq: Its place in the journal, from 1; for an event of the gate's file, the place that it follows.
        time: Seconds since 1970.
        event: Itself.
    """

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


def _migrate(db: sqlite3.Connection, folder: Path, file: str) -> None:
    version, known = db.execute("PRAGMA user_version").fetchone()[0], MIGRATIONS[file]
    if version > len(known):
        raise StoreError(
            f"the journal in {folder} was written by a newer version (schema {version})",
            hint="upgrade: pip install -U truegain",
        )
    for number, migration in enumerate(known[version:], version + 1):
        db.execute("BEGIN IMMEDIATE")
        migration(db)
        db.execute(f"PRAGMA user_version={number}")
        db.execute("COMMIT")


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
            local(folder)
            os.chmod(folder, 0o700)
            self._lock = Lock(folder)
        except OSError as error:
            raise explain(error, folder) from None
        self._gate: sqlite3.Connection | None = None
        with contextlib.ExitStack() as undo:
            undo.callback(self._lock.release)
            try:
                self._db = connect(folder / FILE, read_only=False)
                undo.callback(self._db.close)
                _migrate(self._db, folder, FILE)
                self._place = int(self._db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])
                """The place of the last event in the search's file."""
                self._count = self._place
                """Events in both files, appended and perhaps not yet durable."""
                if (folder / GATE).exists():
                    gate = self.gate_file()
                    undo.callback(gate.close)
                    # The gate's part of a group is written first; without the other part it did not happen.
                    gate.execute("DELETE FROM events WHERE after > ?", (self._place,))
                    self._count += int(gate.execute("SELECT count(*) FROM events").fetchone()[0])
            except sqlite3.Error as error:
                raise explain(error, folder) from None
            undo.pop_all()
        self._buffer: list[tuple[str, tuple[Any, ...]]] = []
        self._durable: int = self._count
        self._guard = threading.Lock()
        from concurrent.futures import ThreadPoolExecutor

        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._group: asyncio.Future[None] | None = None
        self.commits = 0
        """Groups committed, for the overhead benchmark."""

    def gate_file(self) -> sqlite3.Connection:
        """The gate's file, made when it does not exist."""
        if self._gate is None:
            path = self.folder / GATE
            if not path.exists():
                _make_gate(path, self.folder)
            self._gate = connect(path, read_only=False)
            _migrate(self._gate, self.folder, GATE)
        return self._gate

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
        audience = event.audience
        with self._guard:
            self._count += 1
            if audience in PRIVATE:
                self._buffer.append((GATE, (self._place, time, event.type, audience, body)))
            else:
                self._place += 1
                self._buffer.append((FILE, (self._place, time, event.type, audience, body)))
        return event

    @property
    def place(self) -> int:
        """The place of the last event that the search may read."""
        return self._place

    @property
    def dirty(self) -> bool:
        """Whether something was appended that is not durable yet."""
        return self._durable < self._count

    def commit(self, last: int | None = None) -> None:
        """Make what was appended so far durable, and block until it is.

        Args:
            last: How many events, counted from the run's first in both files, are to be durable; None means all.

        Raises:
            StoreError: The disk is full or broken. What was committed before is safe.
        """
        with self._guard:
            count = len(self._buffer) if last is None else max(0, last - self._durable)
            group, self._buffer = self._buffer[:count], self._buffer[count:]
        if not group:
            return
        held, public = ([row for file, row in group if file == name] for name in (GATE, FILE))
        try:
            if held:
                insert(self.gate_file(), held, "INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?)")
            if public:
                insert(self._db, public, "INSERT INTO events VALUES (?, ?, ?, ?, ?)")
        except (sqlite3.Error, OSError) as error:
            self._take_back(len(held))
            with self._guard:
                self._buffer[:0] = group
            raise explain(error, self.folder) from None
        self._durable += len(group)
        self.commits += 1

    def _take_back(self, held: int) -> None:
        """After a failure: the gate's part must not be there twice when the group is committed again."""
        if self._gate is not None and held:
            with contextlib.suppress(sqlite3.Error):
                count = int(self._gate.execute("SELECT count(*) FROM events").fetchone()[0])
                durable = self._durable - int(self._db.execute("SELECT count(*) FROM events").fetchone()[0])
                self._gate.execute(
                    "DELETE FROM events WHERE seq IN (SELECT seq FROM events ORDER BY seq DESC LIMIT ?)",
                    (max(0, count - durable),),
                )

    async def flush(self) -> None:
        """`commit` without blocking the event loop; callers that wait at the same time share one group."""
        import asyncio

        target = self._count
        while self._durable < target:
            if self._group is None or self._group.done():
                # Up to here, and not to wherever the event loop is when the thread begins: that may be between
                # an event and those that follow from it, and a run is to be cut off only after them.
                self._group = asyncio.get_running_loop().run_in_executor(self._thread, self.commit, self._count)
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
            if self._gate is not None:
                self._gate.close()
            self._lock.release()

    def entries(self) -> Iterator[Entry]:
        """What is durable in both files, in order."""
        public = _entries(self._db, 0, self.folder)
        yield from merge(public, _entries(self._gate, 0, self.folder, "after") if self._gate is not None else ())


def _make_gate(path: Path, folder: Path) -> None:
    """Make the gate's file, whole or not at all: one without tables is damaged, and not merely young."""
    young = path.with_suffix(".new")
    for rest in folder.glob(f"{young.name}*"):  # of a process that was killed here
        rest.unlink()
    os.close(os.open(young, os.O_RDWR | os.O_CREAT, 0o600))
    with contextlib.closing(sqlite3.connect(young, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous=FULL")
        _migrate(db, folder, GATE)
    os.rename(young, path)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def merge(public: Iterable[Entry], held: Iterable[Entry]) -> Iterator[Entry]:
    """The events of both files in the order in which they were appended."""
    rest = iter(held)
    waiting = next(rest, None)
    for entry in public:
        while waiting is not None and waiting.seq < entry.seq:
            yield waiting
            waiting = next(rest, None)
        yield entry
    if waiting is not None:
        yield waiting
        yield from rest


def _entries(db: sqlite3.Connection, after: int, folder: Path, place: str = "seq", only: str = "") -> Iterator[Entry]:
    # An event of the gate's file that follows place `after` comes behind it.
    where = f"{place} {'>' if place == 'seq' else '>='} ? AND (? = '' OR audience = ?)"
    try:
        for seq, time, kind, body in db.execute(
            f"SELECT {place}, time, type, body FROM events WHERE {where} ORDER BY seq", (after, only, only)
        ):
            yield Entry(seq, time, from_json(kind, json.loads(body)))
    except (sqlite3.Error, ValueError, TypeError) as error:
        if not _being_made(error, folder):
            raise explain(error, folder) from None
    except KeyError as error:
        raise StoreError(
            f"the journal in {folder} holds an event that this version does not know: {error}",
            hint="upgrade: pip install -U truegain",
        ) from None


def _being_made(error: Exception, folder: Path) -> bool:
    """Whether a journal has no table yet because a live process is about to make it."""
    return "no such table" in str(error) and is_locked(folder)


def read(folder: Path, *, after: int = 0) -> Iterator[Entry]:
    """What the search may read of a run, read-only, while it is written or after.

    Args:
        folder: The run folder.
        after: Only events behind this place.

    Raises:
        StoreError: There is no journal, or it cannot be read.
    """
    yield from _read(folder / FILE, after, "seq", "search")  # runs of older versions have the other audiences there too


def read_all(folder: Path, *, after: int = 0) -> Iterator[Entry]:
    """The events of both files in order, for the writer and for what `agent.wall` lets through.

    Raises:
        StoreError: As for `read`.
    """
    held = _read(folder / GATE, after, "after") if (folder / GATE).exists() else ()
    yield from merge(_read(folder / FILE, after, "seq"), held)


def _read(path: Path, after: int, place: str, only: str = "") -> Iterator[Entry]:
    folder = path.parent
    if not path.exists():
        raise StoreError(f"there is no run in {folder}", hint="truegain list shows the runs")
    try:
        db = connect(path, read_only=True)
    except sqlite3.Error as error:
        raise explain(error, folder) from None
    with contextlib.closing(db):
        yield from _entries(db, after, folder, place, only)


def last(folder: Path, *types: str) -> Entry | None:
    """The newest event of a run, without reading the others; None before the first.

    Args:
        folder: Of the run.
        types: Only events of these types; without any, all.

    Raises:
        StoreError: As for `read`.
    """
    only = f" WHERE type IN ({', '.join('?' * len(types))})" if types else ""
    try:
        with contextlib.closing(connect(folder / FILE, read_only=True)) as db:
            newest = db.execute(f"SELECT coalesce(max(seq), 0) FROM events{only}", types).fetchone()[0]
            return next(_entries(db, newest - 1, folder), None) if newest else None
    except sqlite3.Error as error:
        if _being_made(error, folder):
            return None
        raise explain(error, folder) from None
