"""What a batch has spent: one ledger over all its nights and months.

Rows are only ever added. Before a problem may spend, what it is granted is on the disk and counts in full
against every cap; when it is done, a settlement puts what was spent, and what was possibly spent, in the
grant's place. A grant whose process died stays in full until the run's own journal settles it. A run that
goes on another night is granted, and charged, what it takes then: the difference to its ledger as the grant
found it. So what was done with the run by hand in between is charged to no night.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.batch.place import Limits, month_of
from agent.batch.spend import Spend
from agent.errors import ConfigError, RunLocked, StoreError
from agent.lock import Lock, holder, local
from agent.sqlitefile import connect

FILE = "nights.sqlite"
WHOLE = ("evaluations", "calls", "tokens")


def _m001(db: sqlite3.Connection) -> None:
    for table in (
        "nights (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, began REAL NOT NULL, body TEXT NOT NULL)",
        "ends (id INTEGER PRIMARY KEY, night INTEGER NOT NULL, time REAL NOT NULL, code INTEGER NOT NULL)",
        "grants (id INTEGER PRIMARY KEY, night INTEGER NOT NULL, problem TEXT NOT NULL, role TEXT NOT NULL,"
        " run TEXT NOT NULL, time REAL NOT NULL, month TEXT NOT NULL, limits TEXT NOT NULL, base TEXT NOT NULL)",
        # `shown` is what may be told of the spend while the run is open.
        "settlements (grant_id INTEGER PRIMARY KEY, time REAL NOT NULL, spend TEXT NOT NULL, shown TEXT NOT NULL)",
        "outcomes (id INTEGER PRIMARY KEY, night INTEGER NOT NULL, problem TEXT NOT NULL, role TEXT NOT NULL,"
        " time REAL NOT NULL, body TEXT NOT NULL)",
    ):
        db.execute(f"CREATE TABLE {table}")
        name = table.partition(" ")[0]
        for verb in ("UPDATE", "DELETE"):
            db.execute(
                f"CREATE TRIGGER {name}_no_{verb.lower()} BEFORE {verb} ON {name}"
                " BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
            )


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_m001,)
"""Applied once each, in this order; the file's `user_version` counts those that were."""


class BatchLocked(RunLocked):
    """Another live process works on this batch."""

    def __init__(self, name: str, folder: Path, pid: int | None) -> None:
        super().__init__(str(folder), pid)
        self.message = f"process {pid} works on the batch {name}" if pid else f"another process works on {name}"
        self.hint = "wait for it to finish, or stop that process; truegain batch FILE --status can always be asked"
        self.args = (self.message,)


@dataclass(frozen=True, slots=True)
class Grant:
    """What one piece of work may spend. `limits` is the worst case by kind; a kind without a limit is absent."""

    id: int
    night: int
    problem: str
    role: str
    run: str
    time: float
    month: str
    limits: Mapping[str, float]
    settled: Spend | None = None
    shown: Spend | None = None
    """What may be told of the settlement while the run is open: without what the gate has spent."""
    base: tuple[Spend, Spend] = (Spend(), Spend())
    """What the run had spent before, whoever drove it: all of it, and what may be told of that."""

    @property
    def spend(self) -> Spend:
        """What it counts as: its settlement, or the worst case while there is none."""
        return self.settled if self.settled is not None else Spend(possibly=self.limits)


def tally(grants: Iterable[Grant], shown: Callable[[Grant], Spend] = lambda grant: grant.spend) -> Spend:
    """The sum over grants, where no run counts less than nothing.

    A call in a provider's batch counts as possibly spent in the night that sent it, and as spent in the one that reads
    its answer. The later night's settlement is then below zero by what was held back; it gives nothing to that night
    or its month.
    """
    runs: dict[tuple[str, str, str], Spend] = {}
    for grant in grants:
        key = grant.problem, grant.role, grant.run
        runs[key] = runs.get(key, Spend()) + shown(grant)
    return sum((spend.at_least_0 for spend in runs.values()), Spend())


@dataclass(frozen=True, slots=True)
class NightRow:
    """A night as it is stored; `code` is None while it has not ended."""

    id: int
    name: str
    began: float
    body: Mapping[str, Any]
    code: int | None
    ended: float | None


@dataclass(frozen=True, slots=True)
class Scope:
    """A set of limits, and which spend counts against them; None means any."""

    label: str
    limits: Limits
    night: int | None = None
    month: str | None = None
    problem: str | None = None

    def covers(self, grant: Grant) -> bool:
        return (
            self.night in (None, grant.night)
            and self.month in (None, grant.month)
            and self.problem in (None, grant.problem)
        )


@dataclass(frozen=True, slots=True)
class Room:
    """What may be granted, and which limit says so, by kind; a kind without a limit is absent."""

    limits: Mapping[str, float]
    why: Mapping[str, str]


def room(wanted: Limits, scopes: Iterable[Scope], grants: Sequence[Grant], own: str = "its own budget") -> Room:
    """The least of what is wanted and of what each scope has left.

    Args:
        wanted: What the work would take at most.
        scopes: Limits that hold over it.
        grants: All that were given so far.
        own: What to call `wanted` where it is the least.
    """
    limits, why = dict(wanted), dict.fromkeys(wanted, own)
    for scope in scopes:
        used = tally(grant for grant in grants if scope.covers(grant))
        for kind, cap in scope.limits.items():
            left = max(0.0, cap - used.counts(kind))
            left = math.floor(left + 1e-9) if kind in WHOLE else left
            if kind not in limits or left < limits[kind]:
                limits[kind], why[kind] = left, scope.label
    return Room(limits, why)


class Treasury:
    """The ledger of a batch. Opened for writing it holds the batch's lock until `close`.

    Args:
        folder: Of the batch; made when it does not exist.
        write: False reads it, whoever holds the lock.

    Raises:
        BatchLocked: Another live process works on this batch.
        StoreError: The file is damaged, newer or busy, the disk is full, or the folder is on a network mount.
    """

    def __init__(self, folder: Path, *, write: bool = True) -> None:
        self.folder = folder
        self._lock: Lock | None = None
        self._db: sqlite3.Connection | None = None
        if not write and not (folder / FILE).exists():
            return
        with self._explained():
            if write:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                local(folder)
                self._lock = self._locked()
            with contextlib.ExitStack() as undo:
                undo.callback(self.close)
                self._db = connect(folder / FILE, read_only=not write)
                version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
                if version > len(MIGRATIONS):
                    raise StoreError(
                        f"the ledger in {folder} was written by a newer version (schema {version})",
                        hint="upgrade: pip install -U truegain",
                    )
                if write:
                    for number, migration in enumerate(MIGRATIONS[version:], version + 1):
                        with self._transaction():
                            migration(self._db)
                            self._db.execute(f"PRAGMA user_version={number}")
                    self._db.execute("SELECT count(*) FROM outcomes").fetchone()
                elif not version:  # it is being made
                    self._db.close()
                    self._db = None
                undo.pop_all()

    def _locked(self) -> Lock:
        try:
            return Lock(self.folder)
        except RunLocked as error:
            raise BatchLocked(self.folder.name, self.folder, error.pid) from None

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, KeyError, TypeError) as error:
            text = str(error)
            full = "full" in text or "I/O" in text or "readonly" in text or isinstance(error, OSError)
            raise StoreError(
                f"the ledger {self.folder / FILE} cannot be {'written' if full else 'read'}: {text}",
                hint="free some space or permissions, then run the batch again: what was stored is safe"
                if full
                else "it is busy: close the program that holds it open"
                if "locked" in text
                else "it is damaged, so nothing is spent before it is mended: restore it from a backup, or move it "
                "away to begin a new ledger that knows nothing of the past (the runs themselves are safe)",
            ) from None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        assert self._db is not None, "opened for writing"
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def pid(self) -> int | None:
        """The process that works on the batch by its own word, as far as it can be told."""
        return holder(self.folder)

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        if self._db is None:
            return []
        with self._explained():
            return self._db.execute(query, values).fetchall()

    # What is known.

    def nights(self) -> list[NightRow]:
        """All nights, oldest first."""
        ends = {row[0]: row[1:] for row in self._rows("SELECT night, code, time FROM ends ORDER BY id")}
        with self._explained():
            return [
                NightRow(row[0], row[1], row[2], json.loads(row[3]), *ends.get(row[0], (None, None)))
                for row in self._rows("SELECT id, name, began, body FROM nights ORDER BY id")
            ]

    def grants(self) -> list[Grant]:
        """All grants with their settlements, oldest first."""
        with self._explained():
            return [
                Grant(
                    number,
                    night,
                    problem,
                    role,
                    run,
                    at,
                    month,
                    json.loads(limits),
                    Spend(**json.loads(spend)) if spend is not None else None,
                    Spend(**json.loads(shown)) if shown is not None else None,
                    _pair(json.loads(base)),
                )
                for number, night, problem, role, run, at, month, limits, base, spend, shown in self._rows(
                    "SELECT id, night, problem, role, run, grants.time, month, limits, base, spend, shown FROM grants"
                    " LEFT JOIN settlements ON grant_id = id ORDER BY id"
                )
            ]

    def outcomes(self, role: str) -> list[tuple[int, str, dict[str, Any]]]:
        """Night, problem and outcome of each piece of work that was finished, oldest first."""
        with self._explained():
            return [
                (row[0], row[1], json.loads(row[2]))
                for row in self._rows("SELECT night, problem, body FROM outcomes WHERE role = ? ORDER BY id", role)
            ]

    def spend(self, *, night: int | None = None, month: str | None = None, problem: str | None = None) -> Spend:
        """The sum over grants; one that is not settled counts as possibly spent, in full."""
        scope = Scope("", {}, night, month, problem)
        return tally(grant for grant in self.grants() if scope.covers(grant))

    def shown(self, *, night: int | None = None, month: str | None = None, problem: str | None = None) -> Spend:
        """The same for people: of runs that are open without what the gate has spent."""
        scope = Scope("", {}, night, month, problem)
        over = {body.get("run") for _, _, body in self.outcomes("search") if body["final"]}

        def part(grant: Grant) -> Spend:
            return grant.spend if grant.shown is None or grant.run in over else grant.shown

        return tally((grant for grant in self.grants() if scope.covers(grant)), part)

    def charged(self, run: str, night: int | None = None) -> Spend:
        """What settlements took of a run's ledger, in all nights or in one."""
        mine = (g for g in self.grants() if g.run == run and g.settled is not None and night in (None, g.night))
        return sum((g.spend for g in mine), Spend())

    def check_owner(self, file: Path) -> None:
        """Refuse a batch file if another one of the same name keeps its ledger here.

        Raises:
            ConfigError: It belongs to a file that is still there.
        """
        nights = self.nights()
        owner = Path(nights[-1].body.get("file", file)) if nights else file
        if owner != file and owner.exists():
            raise ConfigError(
                f"{self.folder} belongs to another batch of the same name: {owner}",
                hint=f'give one of them another name (name = "…" in {file}) or a folder of runs of its own',
            )

    # What happens.

    def begin(self, name: str, now: float, body: Mapping[str, Any]) -> int:
        """A night begins; its id."""
        with self._transaction() as db:
            found = db.execute("INSERT INTO nights VALUES (NULL, ?, ?, ?)", (name, now, _json(body))).lastrowid
        assert found is not None
        return found

    def grant(
        self,
        night: int,
        problem: str,
        role: str,
        run: str,
        now: float,
        wanted: Limits,
        scopes: Sequence[Scope],
        base: tuple[Spend, Spend] = (Spend(), Spend()),
    ) -> Grant:
        """Hold back what a piece of work may spend: the least of what it wants and of what each scope has left.

        Args:
            base: As in `Grant`.
        """
        with self._transaction() as db:
            limits = room(wanted, scopes, self.grants()).limits
            values = (night, problem, role, run, now, month_of(now), _json(limits), _json([s.stored() for s in base]))
            found = db.execute("INSERT INTO grants VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", values).lastrowid
        assert found is not None
        return Grant(found, night, problem, role, run, now, month_of(now), limits, base=base)

    def settle(self, grant: Grant, now: float, spend: Spend, shown: Spend | None = None) -> None:
        """What a grant came to. A second settlement of the same grant is refused by the file.

        Args:
            shown: What may be told of it while the run is open; None for all of it.
        """
        body = [_json(part.stored()) for part in (spend, spend if shown is None else shown)]
        with self._transaction() as db:
            db.execute("INSERT INTO settlements VALUES (?, ?, ?, ?)", (grant.id, now, *body))

    def outcome(self, night: int, problem: str, role: str, now: float, body: Mapping[str, Any]) -> None:
        """A piece of work is finished."""
        with self._transaction() as db:
            db.execute("INSERT INTO outcomes VALUES (NULL, ?, ?, ?, ?, ?)", (night, problem, role, now, _json(body)))

    def end(self, night: int, now: float, code: int) -> None:
        """A night ends, or was interrupted."""
        with self._transaction() as db:
            db.execute("INSERT INTO ends VALUES (NULL, ?, ?, ?)", (night, now, code))


def _pair(stored: list[Any]) -> tuple[Spend, Spend]:
    first, second = (Spend(**each) for each in stored)
    return first, second


def _json(value: Mapping[str, Any] | list[Any]) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
