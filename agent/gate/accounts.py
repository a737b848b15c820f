"""Accounts: the gate's error level belongs to rows, and outlives runs.

The level of an exam follows from all earlier exams on the same rows, in whatever run (see
`agent.gate.levels`), so they are kept in `accounts.sqlite` beside the runs. An exam is charged when
it begins, before its first evaluation, and its bit is on the disk before anyone hears the verdict:
a process that is killed at any moment never gives level back.

Rows are known by what they say, not by their ids. A gate set belongs to the account of every row
that it shares with examined ones, near-duplicates included; its other rows join that account, or a
new one when no row is known. Which rows are train, val and test is fixed at their first use, for
all runs in the folder.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from agent.errors import StoreError
from agent.gate import charges
from agent.gate.accountfile import AccountFile, Features, Twins, features, select, stored
from agent.gate.levels import level
from agent.gate.membership import Assigned, Splitter, assign
from agent.problem import Example

NOTES = frozenset({"metric", "method", "candidate", "released"})
"""What `end` may note of an exam: names, and never what was measured."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A human looked at the gate's rows one by one, or a run repeated too much of them: which, and when (seconds since
    1970)."""

    run: str
    time: float


@dataclass(frozen=True, slots=True)
class Begun:
    """An exam that is charged.

    Args:
        level: Its error level, of alpha.
        tests: Exams on these rows that had begun before, in any run.
        accepts: How many of them had accepted.
        pending: How many of them had not ended; the level is the smallest over what these may turn out to be.
        number_of_run: This run is the how-many-eth that takes an exam on these rows, from 1.
        taken: Interim exams that this run had taken before, since its last final one.
        accounts: The accounts it is charged to.
        opened: Who had looked at the gate's rows before; with any, what it accepts is `unproven`.
        accepted: Its bit; None until it has ended.
    """

    level: float
    tests: int
    accepts: int
    pending: int
    number_of_run: int
    taken: int
    accounts: tuple[int, ...]
    opened: tuple[Opened, ...]
    accepted: bool | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left for a set of rows.

    Args:
        accounts: Accounts that the rows belong to; none when no run has examined them.
        tests, accepts, pending: As in `Begun`.
        runs: Runs that took an exam.
        spent: Sum of the levels charged so far.
        left: alpha less `spent`.
        next: Level of the final exam of a new run that takes no other.
        needed: Wins without a loss that the exact sign test needs at `next`.
        exhausted: Whether there are fewer rows than that, so that no exam on them can accept.
        opened: Who has looked at the gate's rows.
    """

    accounts: tuple[int, ...]
    tests: int
    accepts: int
    pending: int
    runs: int
    spent: float
    left: float
    next: float
    needed: int
    exhausted: bool
    opened: tuple[Opened, ...]


@dataclass(frozen=True, slots=True)
class Exam:
    """One exam for display; `accepted` is None while it has not ended, `time` is when it began."""

    run: str
    exam: int
    last: bool
    planned: int
    alpha: float
    level: float
    accepted: bool | None
    time: float
    note: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ReportLevel:
    """The level of a report, and the how-many-eth opening of its rows it is, from 1."""

    level: float
    number: int


class Accounts:
    """The accounts of a runs folder, for any number of processes at once.

    Args:
        folder: The runs folder. The file in it is made by the first call that has something to store.
        labels: Top-level fields of a row that only label it, as in `Dataset.labels`.

    Raises:
        StoreError: From every method: the file is damaged, newer or busy, the disk is full, or the
            folder is on a network mount; says what to do. Nothing is half-written then.
    """

    def __init__(self, folder: Path, labels: Sequence[str] = ("id",)) -> None:
        self._file = AccountFile(folder)
        self._labels = tuple(labels)

    # Which rows are train, val and test.

    def assign(self, examples: Sequence[Example], run: str, *, splitter: Splitter) -> Assigned:
        """Give each example its split: that of its first use, in any run of this folder.

        Rows that are near-duplicates of known ones take their split. New rows go to train as soon
        as any row here is known as val. The user's val and test count for new rows, and for known
        ones where they are stricter (test over val over train). Then `agent.datasets.splits.divide` takes out
        what a stricter split has as well, and makes near-duplicates one cluster.

        Args:
            examples: The data, with the user's val and test; all else is train.
            run: Who asks; remembered with rows that are new.
            splitter: Divides rows when none is known, or, with no known row in val, the unknown ones.
        """
        with self._file.reading() as db:
            if db is not None and None not in stored(db, features(examples, self._labels)):
                assigned, change = assign(db, examples, self._labels, splitter)
                if not change.raised:
                    return assigned
        with self._file.writing() as db:
            assigned, change = assign(db, examples, self._labels, splitter)
            change.write(db, run)
            return assigned

    def new_gate(self, examples: Sequence[Example]) -> int:
        """Retire the val rows among these, and their near-duplicates, to train; the next `assign` splits unknown rows.

        Returns:
            How many stored rows were retired.
        """
        with self._file.writing() as db:
            rows = features(examples, self._labels)
            numbers = {number for number in stored(db, rows) if number is not None}
            retired = Twins(db, "rows.role = 'val'")
            for row in rows:
                numbers.update(retired.of(row.shingles))
            query = "UPDATE rows SET role = 'train', searched = 1 WHERE role = 'val' AND id IN ({}) RETURNING id"
            return len(select(db, query, sorted(numbers)))

    # Exams.

    def begin(self, *, run: str, exam: int, rows: Sequence[Example], alpha: float, last: bool, planned: int) -> Begun:
        """Charge an exam: from here on it counts as taken, whatever becomes of it.

        The same run and exam give the same answer again and charge nothing, so a run that was
        killed in an exam goes on with it.

        Args:
            run: The run, by a name that is never used again.
            exam: Number of the exam in its run.
            rows: The whole gate set.
            alpha: Bound on the probability of any false claim on these rows, in (0, 1).
            last: Whether it is the run's final exam, which takes all that is left of its share.
            planned: Rows it will read.

        Raises:
            StoreError: This exam was begun with other rows, another alpha, `last` or `planned`.
        """
        if not rows or not 0 < alpha < 1:
            raise ValueError(f"an exam needs rows and 0 < alpha < 1; found {len(rows)} rows and alpha = {alpha!r}")
        keyed, what = self._keyed(rows)
        with self._file.writing() as db:
            found = charges.exam(db, run, exam)
            if found is None:
                accounts = charges.join(db, "gate", keyed, run)
                tests, accepts, pending = charges.counts(db, accounts)
                # A run's share is smaller in an account where it came later, so the smallest level binds. All use the
                # counts of all these exams: whoever chose this pair knew their bits, whichever account they are in.
                places = {account: charges.place(db, account, run) for account in accounts}
                charged, (number, taken) = min(
                    (level(alpha, accepts=accepts, tests=tests, run=r, taken=t, last=last, pending=pending), (r, t))
                    for r, t in places.values()
                )
                counted = (tests, accepts, pending, number, taken)
                values = ("gate", run, exam, what, alpha, last, planned, charged, *counted)
                charges.charge(db, values, places)
                found = charges.exam(db, run, exam)
            assert found is not None
            if (found["rows"], found["alpha"], bool(found["last"]), found["planned"]) != (what, alpha, last, planned):
                raise StoreError(
                    f"exam {exam} of run {run} was begun with other rows, another alpha, size or place",
                    hint="a begun exam goes on as it was begun; continue with the data and settings of its start",
                )
            return _begun(db, found)

    def end(self, *, run: str, exam: int, accepted: bool, note: Mapping[str, str]) -> None:
        """Store an exam's bit. When this returns it is on the disk, and the verdict may be told.

        The same bit again does nothing.

        Args:
            note: Names for display, by a key of `NOTES`; at most 100 characters each.

        Raises:
            StoreError: The exam never began, or ended with the other bit.
            ValueError: The note holds something else, such as a measured value.
        """
        if not note.keys() <= NOTES or not all(isinstance(text, str) and len(text) <= 100 for text in note.values()):
            raise ValueError(f"a note holds short strings by the keys {', '.join(sorted(NOTES))}; found {dict(note)!r}")
        with self._file.writing() as db:
            found = charges.exam(db, run, exam)
            if found is None:
                raise StoreError(f"exam {exam} of run {run} was never begun", hint="was accounts.sqlite replaced?")
            if found["accepted"] is None:
                given = (accepted, time.time(), json.dumps(dict(note)), found["id"])
                db.execute("UPDATE exams SET accepted = ?, ended = ?, note = ? WHERE id = ?", given)
            elif bool(found["accepted"]) != accepted:
                raise StoreError(
                    f"exam {exam} of run {run} has ended with the other verdict, which stands",
                    hint="the first verdict counts; examine again only as a new exam",
                )

    def open_gate(self, *, run: str, rows: Sequence[Example]) -> None:
        """The gate's rows are known one by one, by a human or through a run: every later exam on them is marked."""
        keyed, _ = self._keyed(rows)
        with self._file.writing() as db:
            for account in charges.join(db, "gate", keyed, run):
                db.execute(
                    "INSERT OR IGNORE INTO openings SELECT ?, ?, ?, coalesce(max(id), 0) FROM exams",
                    (account, run, time.time()),
                )

    def report(self, *, run: str, rows: Sequence[Example], alpha: float) -> ReportLevel:
        """The level of the k-th opening of these test rows: alpha · 6/(π²k²), which sums to alpha over all k.

        Every row shared with an earlier report, and every near-duplicate, makes this a later
        opening. The same run with the same rows is the same opening.
        """
        keyed, what = self._keyed(rows)
        with self._file.writing() as db:
            query = "SELECT level, number FROM exams WHERE kind = 'report' AND run = ? AND rows = ? AND alpha = ?"
            found = db.execute(query, (run, what, alpha)).fetchone()
            if found is None:
                accounts = charges.join(db, "report", keyed, run)
                number = 1 + charges.counts(db, accounts)[0]
                found = (alpha * 6 / (math.pi * number) ** 2, number)
                (exam,) = db.execute("SELECT count(*) FROM exams WHERE kind = 'report' AND run = ?", (run,)).fetchone()
                values = ("report", run, exam, what, alpha, True, len(rows), found[0], number - 1, 0, 0, number, 0)
                charges.charge(db, values, dict.fromkeys(accounts, (number, 0)))
        return ReportLevel(*found)

    # Reading.

    def standing(self, rows: Sequence[Example], alpha: float) -> Standing:
        """What is left of alpha for these gate rows; writes nothing."""
        accounts: set[int] = set()
        tests = accepts = pending = runs = 0
        spent = 0.0
        opened: tuple[Opened, ...] = ()
        with self._file.reading() as db:
            if db is not None:
                accounts = charges.touched(charges.members(db, "gate", self._keyed(rows)[0]))
                tests, accepts, pending = charges.counts(db, accounts)
                opened = _opened(db, accounts)
                spent = sum(exam["level"] for exam in charges.exams(db, accounts))
                query = "SELECT max(number) FROM charges WHERE account IN ({})"
                runs = max((number or 0 for (number,) in select(db, query, sorted(accounts))), default=0)
        following = level(alpha, accepts=accepts, tests=tests, run=runs + 1, taken=0, last=True, pending=pending)
        needed = max(1, math.ceil(-math.log2(following) - 1e-9))
        return Standing(
            accounts=tuple(sorted(accounts)),
            tests=tests,
            accepts=accepts,
            pending=pending,
            runs=runs,
            spent=spent,
            left=max(0.0, alpha - spent),
            next=following,
            needed=needed,
            exhausted=needed > len(rows),
            opened=opened,
        )

    def history(self, rows: Sequence[Example]) -> list[Exam]:
        """The exams on these gate rows in all runs, in the order they began; writes nothing."""
        with self._file.reading() as db:
            if db is None:
                return []
            return [
                Exam(
                    run=item["run"],
                    exam=item["exam"],
                    last=bool(item["last"]),
                    planned=item["planned"],
                    alpha=item["alpha"],
                    level=item["level"],
                    accepted=None if item["accepted"] is None else bool(item["accepted"]),
                    time=item["begun"],
                    note=json.loads(item["note"]),
                )
                for item in charges.exams(db, charges.touched(charges.members(db, "gate", self._keyed(rows)[0])))
            ]

    def _keyed(self, rows: Sequence[Example]) -> tuple[list[Features], bytes]:
        """What rows are known by, each once, and a hash of them all."""
        keyed = {item.keys[0]: item for item in features(rows, self._labels)}
        return list(keyed.values()), sha256(b"".join(sorted(keyed))).digest()[:16]


def _opened(db: sqlite3.Connection, accounts: Iterable[int], before: int | None = None) -> tuple[Opened, ...]:
    """Who had opened the gate of these accounts, before an exam or until now."""
    query = "SELECT time, run, after FROM openings WHERE account IN ({}) ORDER BY time"
    found = {run: when for when, run, after in select(db, query, sorted(accounts)) if before is None or after < before}
    return tuple(Opened(run, when) for run, when in found.items())


def _begun(db: sqlite3.Connection, exam: Mapping[str, Any]) -> Begun:
    query = "SELECT account FROM charges WHERE exam = ? ORDER BY account"
    accounts = tuple(account for (account,) in db.execute(query, (exam["id"],)))
    return Begun(
        level=exam["level"],
        tests=exam["tests"],
        accepts=exam["accepts"],
        pending=exam["pending"],
        number_of_run=exam["number"],
        taken=exam["taken"],
        accounts=accounts,
        opened=_opened(db, accounts, exam["id"]),
        accepted=None if exam["accepted"] is None else bool(exam["accepted"]),
    )
