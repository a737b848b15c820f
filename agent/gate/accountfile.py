"""The file behind `agent.gate.accounts`: its schema, its transactions, and rows found again by content.

It holds hashes, bits and levels, and nothing that a row says: a row is its key (the hash of its
content without labels) and the hashes of its shingles, by which its near-duplicates are found.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from agent.datasets.similar import prefix, shingles, similar
from agent.datasets.splits import contents
from agent.errors import StoreError
from agent.lock import local
from agent.problem import Example, Split
from agent.space import canonical

FILE = "accounts.sqlite"
WAIT = 30.0
"""Seconds to wait for another process that writes the file."""
ROLES: tuple[Split, ...] = ("train", "val", "test")
"""From loose to strict."""
LABELS = ("id", "split", "cluster", "anchor")
"""Top-level fields of a row that label it and are no part of what it says."""

_T = TypeVar("_T")
_BLANK = re.compile(r"(?:\\[nrt]|\s)+")
_EDGE = re.compile(r' *" *')
_KEPT = 4000
"""Sets of shingles in memory at a time."""
_CHUNK = 500
"""Values in one IN (…); SQLite allows 999 everywhere."""


def _m001(db: sqlite3.Connection) -> None:
    for statement in (
        # `searched` is 1 from the first time that a search could read the row; `run` is the first that used it.
        "CREATE TABLE rows (id INTEGER PRIMARY KEY, size INTEGER NOT NULL, shingles BLOB NOT NULL,"
        " role TEXT NOT NULL, searched INTEGER NOT NULL, run TEXT NOT NULL)",
        "CREATE TABLE keys (key BLOB PRIMARY KEY, row INTEGER REFERENCES rows) WITHOUT ROWID",
        "CREATE TABLE prefixes (hash INTEGER, row INTEGER REFERENCES rows, PRIMARY KEY (hash, row)) WITHOUT ROWID",
        # Gate and report rows have accounts of their own.
        "CREATE TABLE accounts (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL)",
        "CREATE TABLE members (row INTEGER REFERENCES rows, account INTEGER REFERENCES accounts,"
        " PRIMARY KEY (row, account)) WITHOUT ROWID",
        "CREATE TABLE exams (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, run TEXT NOT NULL,"
        " exam INTEGER NOT NULL, rows BLOB NOT NULL, alpha REAL NOT NULL, last INTEGER NOT NULL,"
        " planned INTEGER NOT NULL, level REAL NOT NULL, tests INTEGER NOT NULL, accepts INTEGER NOT NULL,"
        " pending INTEGER NOT NULL, number INTEGER NOT NULL, taken INTEGER NOT NULL, begun REAL NOT NULL,"
        " accepted INTEGER, ended REAL, note TEXT NOT NULL DEFAULT '{}', UNIQUE (kind, run, exam))",
        # Which accounts an exam is charged to, and as which run's how many-eth exam there.
        "CREATE TABLE charges (account INTEGER REFERENCES accounts, exam INTEGER REFERENCES exams,"
        " number INTEGER NOT NULL, taken INTEGER NOT NULL, PRIMARY KEY (account, exam)) WITHOUT ROWID",
        # `after` is the last exam begun before a human looked.
        "CREATE TABLE openings (account INTEGER REFERENCES accounts, run TEXT NOT NULL, time REAL NOT NULL,"
        " after INTEGER NOT NULL, PRIMARY KEY (account, run)) WITHOUT ROWID",
    ):
        db.execute(statement)
    for table in ("exams", "charges", "members", "openings"):
        db.execute(
            f"CREATE TRIGGER keep_{table} BEFORE DELETE ON {table}"
            " BEGIN SELECT RAISE(ABORT, 'what was charged is never given back'); END"
        )
    db.execute(
        "CREATE TRIGGER keep_bit BEFORE UPDATE ON exams WHEN OLD.accepted IS NOT NULL OR NEW.level IS NOT OLD.level"
        " BEGIN SELECT RAISE(ABORT, 'what was charged is never given back'); END"
    )


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_m001,)
"""Applied once each, in this order; the file's `user_version` counts those that were."""


def explain(error: Exception, path: Path) -> StoreError:
    """What a failure of SQLite or of the disk means, and what to do."""
    text = str(error)
    if "locked" in text or "busy" in text:
        return StoreError(
            f"{path} is busy: {text}", hint="another program holds the file open; close it, then try again"
        )
    if isinstance(error, OSError) or "full" in text or "I/O" in text or "readonly" in text or "unable to open" in text:
        return StoreError(
            f"cannot use {path}: {text}",
            hint="free some space or permissions, then try again; nothing was half-written, and what was charged stays",
        )
    return StoreError(
        f"{path} cannot be read: {text}",
        hint="restore it from a backup. It knows which rows were examined; without it, use rows that no run has seen",
    )


class AccountFile:
    """Transactions on the file in a runs folder; it is opened for each, and made by the first that writes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """One state of the file, read-only; None when there is no file.

        Raises:
            StoreError: It cannot be read.
        """
        if not self.path.exists():
            yield None
            return
        # What a killed process left half-written can only be rolled back by who may write.
        half = self.path.with_name(f"{self.path.name}-journal").exists()
        with self._open("rw" if half else "ro") as db:
            db.execute("BEGIN")
            self._check(db)
            yield db

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that waits for its turn; durable when the block is left, or nothing when it raises.

        Raises:
            StoreError: The file cannot be made or written, or another process kept it for 30 seconds.
        """
        try:
            self._make()
        except (OSError, sqlite3.Error) as error:
            raise explain(error, self.path) from None
        with self._open("rw") as db:
            # EXTRA is FULL and a sync of the folder: without it a power cut may bring back the old file.
            db.execute("PRAGMA synchronous=EXTRA")
            db.execute("BEGIN IMMEDIATE")
            for number in range(self._check(db), len(MIGRATIONS)):
                MIGRATIONS[number](db)
                db.execute(f"PRAGMA user_version={number + 1}")
            yield db
            db.execute("COMMIT")

    @contextlib.contextmanager
    def _open(self, mode: str) -> Iterator[sqlite3.Connection]:
        try:
            uri = f"{self.path.resolve().as_uri()}?mode={mode}"
            with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=WAIT)) as db:
                yield db  # closing it rolls back what was not committed
        except sqlite3.Error as error:
            raise explain(error, self.path) from None

    def _check(self, db: sqlite3.Connection) -> int:
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self.path} was written by a newer version (schema {version})",
                hint="upgrade: pip install -U truegain",
            )
        if version == 0:
            raise sqlite3.DatabaseError("it is empty")
        return version

    def _make(self) -> None:
        """Make the file whole or not at all, so that an empty one is always damage and never a fresh start."""
        folder = self.path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        local(folder)
        if self.path.exists():
            return
        lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.path.exists():
                return
            new = folder / f"{FILE}.new"
            for left in (new, folder / f"{new.name}-journal"):
                left.unlink(missing_ok=True)
            os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
                db.execute("PRAGMA synchronous=EXTRA")
                db.execute("BEGIN")
                for migration in MIGRATIONS:
                    migration(db)
                db.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
                db.execute("COMMIT")
            os.replace(new, self.path)
            os.fsync(lock)
        finally:
            os.close(lock)


class Features:
    """What an example is known by.

    Args:
        keys: Hashes of its content in full: without all labels, and without the usual ones.
        content: What it is compared by with rows that are not equal.
    """

    def __init__(self, keys: tuple[bytes, ...], content: Any) -> None:
        self.keys = keys
        self._content = content

    @cached_property
    def shingles(self) -> frozenset[int]:
        """The hashed shingles of the content."""
        return shingles(self._content, ())


def features(examples: Sequence[Example], labels: Sequence[str]) -> list[Features]:
    """What examples are known by.

    Args:
        examples: A data set, or a part of it.
        labels: Further top-level fields that only label a row, or that are not to be compared.
    """
    # Fields that are equal in all rows count for equality alone. Which these are depends on the rows at hand, so
    # only a row that is new is compared by what is left; for a stored one its stored shingles stand.
    every = tuple(dict.fromkeys((*LABELS, *labels)))
    compared = contents([example.row for example in examples], every)
    return [
        Features(tuple(dict.fromkeys((_key(example.row, every), _key(example.row, LABELS)))), content)
        for example, content in zip(examples, compared, strict=True)
    ]


def _key(row: Any, labels: Sequence[str]) -> bytes:
    """16 bytes that stand for what a row says: without labels, in one case, blanks as one."""
    if isinstance(row, Mapping):
        row = {name: value for name, value in row.items() if name not in labels} or row
    text = _EDGE.sub('"', _BLANK.sub(" ", canonical(row).casefold()))
    return sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def stored(db: sqlite3.Connection, wanted: Sequence[Features]) -> list[int | None]:
    """The number under which each row is stored, by its first key that is; None for a new one."""
    keys = list(dict.fromkeys(key for item in wanted for key in item.keys))
    found = dict(select(db, "SELECT key, row FROM keys WHERE key IN ({})", keys))
    return [next((found[key] for key in item.keys if key in found), None) for item in wanted]


class Twins:
    """Finds the stored rows that are near-duplicates of a row, copies included.

    Args:
        db: A transaction, in which no row is added while this is used.
        among: SQL condition on `rows.id` and `rows.role`: the stored rows that count.
    """

    def __init__(self, db: sqlite3.Connection, among: str = "1") -> None:
        self._db, self._among = db, among
        self._sets: dict[int, frozenset[int]] = {}
        self._empty = db.execute("SELECT 1 FROM rows LIMIT 1").fetchone() is None

    def of(self, hashes: frozenset[int]) -> list[int]:
        """The numbers of the near-duplicates of a row with these shingles."""
        likely: set[int] = set()
        bounds = (-(-4 * len(hashes) // 5), 5 * len(hashes) // 4)  # sets of other sizes are never similar
        for part in _parts(() if self._empty else map(_signed, prefix(hashes))):
            query = (
                "SELECT DISTINCT rows.id FROM prefixes JOIN rows ON rows.id = prefixes.row"
                f" WHERE prefixes.hash IN ({marks(part)}) AND rows.size BETWEEN ? AND ? AND {self._among}"
            )
            likely.update(number for (number,) in self._db.execute(query, (*part, *bounds)))
        return [number for number in sorted(likely) if similar(hashes, self._set(number))]

    def _set(self, number: int) -> frozenset[int]:
        if number not in self._sets:  # rows with a common text are compared with many others
            if len(self._sets) >= _KEPT:
                self._sets.clear()
            self._sets[number] = hashes_of(self._db, number)
        return self._sets[number]


def insert(db: sqlite3.Connection, row: Features, role: str, searched: bool, run: str) -> int:
    """Store a row; gives its number."""
    blob = struct.pack(f"<{len(row.shingles)}Q", *sorted(row.shingles))
    added = db.execute(
        "INSERT INTO rows (size, shingles, role, searched, run) VALUES (?, ?, ?, ?, ?)",
        (len(row.shingles), blob, role, searched, run),
    )
    number = int(added.lastrowid or 0)
    db.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?)", [(key, number) for key in row.keys])
    db.executemany("INSERT INTO prefixes VALUES (?, ?)", [(_signed(value), number) for value in prefix(row.shingles)])
    return number


def select(db: sqlite3.Connection, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The results of a query with one `IN (…)`, written `{}`, over any number of values."""
    return [row for part in _parts(values) for row in db.execute(query.format(marks(part)), part)]


def marks(values: Sequence[Any]) -> str:
    """Question marks for an IN (…)."""
    return ",".join("?" * len(values))


def _parts(values: Iterable[_T]) -> Iterator[tuple[_T, ...]]:
    rest = iter(values)
    while part := tuple(islice(rest, _CHUNK)):
        yield part


def hashes_of(db: sqlite3.Connection, number: int) -> frozenset[int]:
    """The shingles of a stored row."""
    (blob,) = db.execute("SELECT shingles FROM rows WHERE id = ?", (number,)).fetchone()
    return frozenset(struct.unpack(f"<{len(blob) // 8}Q", blob))


def _signed(value: int) -> int:
    """An unsigned 64-bit integer as SQLite keeps it."""
    return value - (1 << 64) if value >= 1 << 63 else value
