"""SQLite under the journal: a connection, a group of rows in few statements, and what a failure means."""

from __future__ import annotations

import contextlib
import sqlite3
from itertools import chain
from pathlib import Path
from typing import Any

from agent.errors import StoreError

STATEMENTS = 8
"""Compiled statements kept: each size of a group is one of its own, of up to half a megabyte."""


def connect(path: Path, read_only: bool) -> sqlite3.Connection:
    """A connection to a file, which a writer makes when it does not exist."""
    uri = f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    db = sqlite3.connect(
        uri, uri=True, isolation_level=None, timeout=10, check_same_thread=False, cached_statements=STATEMENTS
    )
    try:
        if not read_only:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
    except sqlite3.Error:
        db.close()
        raise
    return db


ROWS = 1000
"""Events that one statement takes; SQLite allows 32,766 values in it."""


def insert(db: sqlite3.Connection, rows: list[tuple[Any, ...]], query: str) -> None:
    """Append a group, whole or not at all.

    All of it in one statement as far as possible: after each one, and each row of `executemany`, this thread has to
    wait for the interpreter, 5 ms and more while the event loop computes.
    """
    if not rows:
        return
    if len(rows) <= ROWS:
        _append(db, rows, query)  # a transaction by itself
        return
    try:
        db.execute("BEGIN IMMEDIATE")
        for start in range(0, len(rows), ROWS):
            _append(db, rows[start : start + ROWS], query)
        db.execute("COMMIT")
    except sqlite3.Error:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def _append(db: sqlite3.Connection, rows: list[tuple[Any, ...]], query: str) -> None:
    head, _, row = query.partition(" VALUES ")
    db.execute(f"{head} VALUES {', '.join([row] * len(rows))}", list(chain.from_iterable(rows)))


def explain(error: Exception, folder: Path) -> StoreError:
    """What a failure of SQLite or of the disk means for the journal in a folder, and what to do."""
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
