"""Exams and the accounts that they are charged to, in the file of `agent.gate.accounts`."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent.gate.accountfile import Features, Twins, hashes_of, insert, select, stored

Member = tuple[Features, int | None, frozenset[int]]
"""A row, its number if it is stored, and its accounts: its own, or those of its near-duplicates."""


def members(db: sqlite3.Connection, kind: str, rows: Sequence[Features]) -> list[Member]:
    """The accounts of each row.

    A row that is a member counts by its own accounts alone: it joined those of the near-duplicates that
    were members before it, and those that came later joined its own.
    """
    numbers = stored(db, rows)
    own: dict[int, set[int]] = {}
    query = (
        "SELECT members.row, members.account FROM members JOIN accounts ON accounts.id = members.account"
        f" WHERE accounts.kind = '{kind}' AND members.row IN "
    )
    for number, account in select(db, query + "({})", [number for number in numbers if number is not None]):
        own.setdefault(number, set()).add(account)
    any_member = db.execute("SELECT 1 FROM accounts WHERE kind = ? LIMIT 1", (kind,)).fetchone()
    twins = Twins(db, f"EXISTS ({query} (rows.id))")
    out: list[Member] = []
    for row, number in zip(rows, numbers, strict=True):
        accounts = own.get(number, set()) if number is not None else set()
        if not accounts and any_member:
            hashes = row.shingles if number is None else hashes_of(db, number)
            accounts = {account for _, account in select(db, query + "({})", twins.of(hashes))}
        out.append((row, number, frozenset(accounts)))
    return out


def touched(found: Iterable[Member]) -> set[int]:
    """All accounts of some rows."""
    return {account for _, _, accounts in found for account in accounts}


def join(db: sqlite3.Connection, kind: str, rows: Sequence[Features], run: str) -> list[int]:
    """The accounts that rows belong to, after those without one have joined."""
    found = members(db, kind, rows)
    accounts = touched(found)
    if not accounts:
        accounts = {int(db.execute("INSERT INTO accounts (kind) VALUES (?)", (kind,)).lastrowid or 0)}
    for row, number, own in found:
        stored_as = insert(db, row, "val" if kind == "gate" else "test", False, run) if number is None else number
        joins = [(stored_as, account) for account in own or {min(accounts)}]
        db.executemany("INSERT OR IGNORE INTO members VALUES (?, ?)", joins)
    return sorted(accounts)


def exams(db: sqlite3.Connection, accounts: Iterable[int]) -> list[dict[str, Any]]:
    """Exams that are charged to any of these accounts, each once, in the order they began."""
    query = "SELECT exams.* FROM charges JOIN exams ON exams.id = charges.exam WHERE charges.account IN ({})"
    found = {exam["id"]: exam for exam in _named(db, select(db, query, sorted(accounts)))}
    return [found[number] for number in sorted(found)]


def exam(db: sqlite3.Connection, run: str, number: int) -> dict[str, Any] | None:
    """A gate exam by its run and its number there."""
    rows = db.execute("SELECT * FROM exams WHERE kind = 'gate' AND run = ? AND exam = ?", (run, number)).fetchall()
    return next(iter(_named(db, rows)), None)


def _named(db: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> list[dict[str, Any]]:
    names = [column[1] for column in db.execute("PRAGMA table_info(exams)")]
    return [dict(zip(names, row, strict=True)) for row in rows]


def counts(db: sqlite3.Connection, accounts: Iterable[int]) -> tuple[int, int, int]:
    """Exams begun, accepted, and not ended."""
    bits = [exam["accepted"] for exam in exams(db, accounts)]
    return len(bits), bits.count(1), bits.count(None)


def place(db: sqlite3.Connection, account: int, run: str) -> tuple[int, int]:
    """The run's number among those that examined in an account, and its interim exams since its last final one."""
    latest = db.execute(
        "SELECT charges.number, charges.taken, exams.last FROM charges JOIN exams ON exams.id = charges.exam"
        " WHERE charges.account = ? AND exams.run = ? ORDER BY exams.id DESC LIMIT 1",
        (account, run),
    ).fetchone()
    if latest is not None and not latest[2]:
        return latest[0], latest[1] + 1
    (runs,) = db.execute("SELECT coalesce(max(number), 0) FROM charges WHERE account = ?", (account,)).fetchone()
    return runs + 1, 0


def charge(db: sqlite3.Connection, values: Sequence[Any], places: Mapping[int, tuple[int, int]]) -> None:
    """Store an exam as begun now, charged to accounts, in each as a run's how-many-eth exam."""
    columns = "kind, run, exam, rows, alpha, last, planned, level, tests, accepts, pending, number, taken, begun"
    marked = ", ".join("?" * (len(values) + 1))
    added = db.execute(f"INSERT INTO exams ({columns}) VALUES ({marked})", (*values, time.time())).lastrowid
    charged = [(account, added, *place) for account, place in places.items()]
    db.executemany("INSERT INTO charges VALUES (?, ?, ?, ?)", charged)
