"""What was measured night after night, to compare with: one append-only file for all problems of a batch.

A measurement has a row when it begins and another one when it ended, so nothing that was paid for is lost
with a process that dies, and what was cut off is known. Of the data it holds hashes, of the evaluations
numbers and the first line of a failure.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.batch.drift import Drift
from agent.errors import StoreError
from agent.lock import local
from agent.redact import redact


def _m001(db: sqlite3.Connection) -> None:
    for statement in (
        # A night of a candidate under one evaluator and one state of the data.
        "CREATE TABLE nights (id INTEGER PRIMARY KEY, problem TEXT NOT NULL, night TEXT NOT NULL,"
        " candidate TEXT NOT NULL, evaluator TEXT NOT NULL, data TEXT NOT NULL, time REAL NOT NULL,"
        " UNIQUE (problem, night, candidate, evaluator, data))",
        "CREATE TABLE datasets (hash TEXT PRIMARY KEY, rows TEXT NOT NULL) WITHOUT ROWID",
        # `unit` is a row's id or a repeat; `content` is the hash of the row.
        "CREATE TABLE begun (id INTEGER PRIMARY KEY, night INTEGER NOT NULL REFERENCES nights, unit TEXT NOT NULL,"
        " content TEXT NOT NULL, time REAL NOT NULL)",
        # `scores` is NULL for a failure.
        "CREATE TABLE ended (begun INTEGER PRIMARY KEY REFERENCES begun, scores TEXT, failure TEXT NOT NULL,"
        " usd REAL NOT NULL, seconds REAL NOT NULL, time REAL NOT NULL)",
        "CREATE TABLE drifts (night INTEGER NOT NULL REFERENCES nights, kind TEXT NOT NULL, sentence TEXT NOT NULL,"
        " evidence TEXT NOT NULL, time REAL NOT NULL)",
        "CREATE TABLE served (problem TEXT NOT NULL, night TEXT NOT NULL, asked TEXT NOT NULL, model TEXT NOT NULL,"
        " time REAL NOT NULL, PRIMARY KEY (problem, night, asked, model)) WITHOUT ROWID",
        "CREATE INDEX begun_by_night ON begun (night)",
    ):
        db.execute(statement)
    for table in ("nights", "datasets", "begun", "ended", "drifts", "served"):
        for verb in ("UPDATE", "DELETE"):
            db.execute(
                f"CREATE TRIGGER no_{verb.lower()}_{table} BEFORE {verb} ON {table}"
                " BEGIN SELECT RAISE(ABORT, 'what was measured stays'); END"
            )


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_m001,)
"""Applied once each, in this order; the file's `user_version` counts those that were."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A measurement that ended.

    Args:
        unit: A row's id, or a repeat's name.
        scores: By name; None when it failed.
        failure: What it said then, in one line.
    """

    unit: str
    scores: Mapping[str, float] | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a problem's measurements of one night took.

    Args:
        evaluations: That ended.
        possibly: That were begun and never ended: possibly spent.
        usd: Dollars that the evaluator told.
        seconds: In which any of those that ended ran, as a clock on the wall tells them.
    """

    evaluations: int = 0
    possibly: int = 0
    usd: float = 0.0
    seconds: float = 0.0


class Measurements:
    """The file. Made by the first that opens it; close it, or use it as a context.

    Raises:
        StoreError: A network mount, a damaged or newer file, or no space; says what to do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            local(path.parent)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=10)
        except (OSError, sqlite3.Error) as error:
            raise self._explained(error) from None
        try:
            path.chmod(0o600)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._migrate()
        except (OSError, sqlite3.Error) as error:
            self._db.close()
            raise self._explained(error) from None
        except StoreError:
            self._db.close()
            raise

    def __enter__(self) -> Measurements:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """May be called twice."""
        self._db.close()

    def _migrate(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self.path} was written by a newer version (schema {version})",
                hint="upgrade: pip install -U truegain",
            )
        for number, migration in enumerate(MIGRATIONS[version:], version + 1):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                if self._db.execute("PRAGMA user_version").fetchone()[0] < number:  # else another process did it
                    migration(self._db)
                    self._db.execute(f"PRAGMA user_version={number}")
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def _explained(self, error: Exception) -> StoreError:
        text = str(error)
        if "locked" in text or "busy" in text:
            return StoreError(f"{self.path} is busy: {text}", hint="another program holds the file open; close it")
        if isinstance(error, OSError) or any(word in text for word in ("full", "I/O", "readonly", "unable to open")):
            return StoreError(
                f"cannot use {self.path}: {text}",
                hint="free some space or permissions, then go on: what was measured tonight is not measured twice",
            )
        return StoreError(
            f"{self.path} cannot be read: {text}",
            hint="restore it from a backup, or move it away: the next night is then the first to compare with",
        )

    def _run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise self._explained(error) from None

    def _all(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._explained(error) from None

    # Nights

    def night(
        self, problem: str, night: str, candidate: str, evaluator: str, data: str, rows: Mapping[str, Any]
    ) -> int:
        """The number of a night, which is remembered when it is new; numbers rise with time."""
        key = (problem, night, candidate, evaluator, data)
        self._run("INSERT OR IGNORE INTO datasets VALUES (?, ?)", (data, json.dumps(rows)))
        self._run(
            "INSERT OR IGNORE INTO nights (problem, night, candidate, evaluator, data, time) VALUES (?, ?, ?, ?, ?, ?)",
            (*key, time.time()),
        )
        where = "problem = ? AND night = ? AND candidate = ? AND evaluator = ? AND data = ?"
        return int(self._all(f"SELECT id FROM nights WHERE {where}", key)[0][0])

    def before(self, problem: str, night: str) -> tuple[str, dict[str, list[str]]] | None:
        """The evaluator and the rows of the problem's last night that is not this one."""
        found = self._all(
            "SELECT evaluator, rows FROM nights JOIN datasets ON hash = data WHERE problem = ? AND night != ?"
            " ORDER BY id DESC LIMIT 1",
            (problem, night),
        )
        return (str(found[0][0]), json.loads(found[0][1])) if found else None

    def earlier(self, number: int) -> list[tuple[int, frozenset[str]]]:
        """The nights before one, of the same candidate and evaluator, and the kinds of drift found in each."""
        found = self._all(
            "SELECT other.id, (SELECT group_concat(kind) FROM drifts WHERE drifts.night = other.id)"
            " FROM nights AS this JOIN nights AS other USING (problem, candidate, evaluator)"
            " WHERE this.id = ? AND other.id < this.id AND other.night != this.night ORDER BY other.id",
            (number,),
        )
        return [(night, frozenset((kinds or "").split(","))) for night, kinds in found]

    def ago(self, problem: str, night: str) -> int:
        """How many nights of the problem were before this one, whatever was measured in them."""
        found = self._all(
            "SELECT COUNT(DISTINCT night) FROM nights WHERE problem = ?"
            " AND id < (SELECT MIN(id) FROM nights WHERE problem = ? AND night = ?)",
            (problem, problem, night),
        )
        return int(found[0][0])

    # Measurements

    def begin(self, number: int, unit: str, content: str) -> int:
        """A measurement begins; durable before it returns."""
        cursor = self._run(
            "INSERT INTO begun (night, unit, content, time) VALUES (?, ?, ?, ?)", (number, unit, content, time.time())
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def end(self, begun: int, found: Measured, usd: float, seconds: float) -> None:
        """It ended."""
        scores = None if found.scores is None else json.dumps(dict(found.scores))
        failure = str(redact(found.failure))
        self._run("INSERT INTO ended VALUES (?, ?, ?, ?, ?, ?)", (begun, scores, failure, usd, seconds, time.time()))

    def of(self, number: int) -> dict[tuple[str, str], Measured]:
        """What ended in a night, by unit and content."""
        return {
            (unit, content): Measured(unit, None if scores is None else json.loads(scores), failure)
            for unit, content, scores, failure in self._all(
                "SELECT unit, content, scores, failure FROM begun JOIN ended ON begun = id WHERE night = ? ORDER BY id",
                (number,),
            )
        }

    def spent(self, problem: str, night: str) -> Spent:
        """What a problem's measurements of one night took, over all calls."""
        found = self._all(
            "SELECT begun.time, ended.time, usd FROM begun LEFT JOIN ended ON begun = begun.id"
            " JOIN nights ON nights.id = begun.night WHERE problem = ? AND nights.night = ? ORDER BY begun.time",
            (problem, night),
        )
        over = [(begun, ended, usd) for begun, ended, usd in found if ended is not None]
        seconds, until = 0.0, -math.inf
        for begun, ended, _ in over:  # those that ran side by side took their time once
            seconds += max(0.0, ended - max(begun, until))
            until = max(until, ended)
        return Spent(len(over), len(found) - len(over), math.fsum(usd for *_, usd in over), seconds)

    def taken(self, problem: str) -> Spent:
        """What the problem's measurements of all nights took; the seconds are of each by itself."""
        ended, usd, seconds = self._all(
            "SELECT COUNT(*), COALESCE(SUM(usd), 0), COALESCE(SUM(seconds), 0) FROM ended"
            " JOIN begun ON begun.id = begun JOIN nights ON nights.id = begun.night WHERE problem = ?",
            (problem,),
        )[0]
        return Spent(ended, 0, usd, seconds)

    # What was found

    def add(self, number: int, drifts: Sequence[Drift]) -> None:
        """Remember what changed; a kind that the night has already is left as it is."""
        for drift in drifts:
            self._run(
                "INSERT INTO drifts SELECT ?, ?, ?, ?, ? WHERE NOT EXISTS"
                " (SELECT 1 FROM drifts WHERE night = ? AND kind = ?)",
                (number, drift.kind, drift.sentence, json.dumps(drift.evidence), time.time(), number, drift.kind),
            )

    def served(self, problem: str, night: str) -> dict[str, set[str]]:
        """The models that answered in the problem's other nights, by the name that was asked for."""
        out: dict[str, set[str]] = {}
        for asked, model in self._all(
            "SELECT asked, model FROM served WHERE problem = ? AND night != ?", (problem, night)
        ):
            out.setdefault(asked, set()).add(model)
        return out

    def serve(self, problem: str, night: str, found: Mapping[str, set[str]]) -> None:
        """Remember which models answered tonight."""
        for asked, names in found.items():
            for name in names:
                self._run(
                    "INSERT OR IGNORE INTO served VALUES (?, ?, ?, ?, ?)", (problem, night, asked, name, time.time())
                )
