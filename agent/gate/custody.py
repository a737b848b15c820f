"""What ties a run to the accounts of its held-out rows: levels are asked for and verdicts stored here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from agent.events import (
    Event,
    ExamDecided,
    ExamPlanned,
    ExamStarted,
    HoldoutFixed,
    ReportPlanned,
    ReportStarted,
    VerdictReached,
)
from agent.gate.accounts import Accounts
from agent.gate.checks import LEAKS_ALLOWED
from agent.problem import Example, Problem

INTERVALS = 0.05
"""Error level of the final report's intervals, over all openings of the same test rows."""


class Custody:
    """The held-out rows of one run, and their accounts.

    Args:
        accounts: Of the folder that the run lies in.
        run: A name for the run that no other run ever has, even when this one is deleted.
        problem: With its rows divided.
        level: Chance of any false claim on the same rows, over all runs.
        searched: Ids of val rows that an earlier search has read.
    """

    def __init__(
        self, accounts: Accounts, run: str, problem: Problem, level: float, searched: Sequence[str] = ()
    ) -> None:
        self.accounts = accounts
        self.run = run
        self.level = level
        self.problem = problem
        self.searched = tuple(searched)
        self.val = sorted(problem.split("val"), key=_place)
        self.test = sorted(problem.split("test"), key=_place)
        self._leaks = 0
        self._opened = False

    def fixed(self) -> HoldoutFixed:
        """The event that names the rows, with what is left for them."""
        known: dict[str, Any] = {"tests": 0, "accepts": 0, "run": 1}
        if self.val:
            found = self.accounts.standing(self.val, self.level)
            known = {"tests": found.tests, "accepts": found.accepts, "run": found.runs + 1}
        known["id"] = self.run
        train = self.problem.split("train")
        known["units"] = len({item.cluster or item.id for item in train})
        val, test = ([[item.id, item.cluster or item.id] for item in rows] for rows in (self.val, self.test))
        return HoldoutFixed(val, test, known)

    async def answer(self, event: Event, leaks: int, exams: int) -> Event:
        """What the accounts say to a plan or a verdict, as the event that follows it.

        Args:
            event: A planned exam or report, or an exam's verdict.
            leaks: As for `begin`.
            exams: Exams of this run that were decided.

        Raises:
            StoreError: The account cannot be written.
        """
        if isinstance(event, ExamPlanned):
            return await self.begin(event, leaks)
        if isinstance(event, ReportPlanned):
            return await self.report(event)
        assert isinstance(event, VerdictReached)
        number, accepted = exams + 1, bool(event.verdict["accepted"])
        await self.end(number, accepted)
        return ExamDecided(number, accepted)

    async def begin(self, planned: ExamPlanned, leaks: int) -> ExamStarted:
        """Charge an exam, and say at which level it may be held.

        Args:
            planned: The exam.
            leaks: Candidates of this run that were refused because they repeat held-out answers.

        Raises:
            StoreError: The account cannot be written; nothing is charged.
        """
        begun = await asyncio.to_thread(
            self.accounts.begin,
            run=self.run,
            exam=planned.id,
            rows=self.val,
            alpha=self.level,
            last=planned.last,
            planned=planned.pairs,
        )
        account: dict[str, Any] = {
            "tests": begun.tests,
            "accepts": begun.accepts,
            "pending": begun.pending,
            "run": begun.number_of_run,
            "taken": begun.taken,
        }
        barred = self._barred(begun.opened, leaks)
        if barred:
            account["barred"] = barred
        return ExamStarted(planned.id, planned.champion, planned.released, planned.pairs, begun.level, account)

    def _barred(self, opened: Sequence[Any], leaks: int) -> str:
        if leaks > LEAKS_ALLOWED:
            return f"{leaks} proposals repeated held-out answers"
        if opened:
            return f"the gate's rows were opened for reading in run {opened[0].run}"
        if self.searched:
            return f"an earlier search has read {len(self.searched)} of the gate's rows"
        return ""

    async def leaked(self, before: int) -> None:
        """Count a refusal by the leak check. After too many of them the run knows much of what its rows answer, and so
        does whoever starts the next one: they are opened for all runs, on the disk before the refusal is told.

        Args:
            before: Refusals of this run that its journal has.

        Raises:
            StoreError: The account cannot be written.
        """
        self._leaks = max(self._leaks, before) + 1  # those under way beside this one are not in the journal yet
        if self._leaks > LEAKS_ALLOWED and self.val and not self._opened:
            await asyncio.to_thread(self.accounts.open_gate, run=self.run, rows=self.val)
            self._opened = True

    async def end(self, exam: int, accepted: bool) -> None:
        """Store the bit. When this returns it is on the disk, and may be told.

        Raises:
            StoreError: The account cannot be written.
        """
        await asyncio.to_thread(self.accounts.end, run=self.run, exam=exam, accepted=accepted, note={})

    async def report(self, planned: ReportPlanned) -> ReportStarted:
        """Which opening of the test rows this is, and the level for its intervals.

        Raises:
            StoreError: The account cannot be written.
        """
        rows = self.test[: planned.rows]
        # A run that goes on after its report chose its next candidates knowing the rows: that opens them once more.
        run = f"{self.run} {_mixed(' '.join(sorted(planned.candidates)))}"
        found = await asyncio.to_thread(self.accounts.report, run=run, rows=rows, alpha=INTERVALS)
        return ReportStarted(found.number, found.level)

    def to_json(self) -> dict[str, Any]:
        """What is left of the account, for display after the end."""
        return {**asdict(self.accounts.standing(self.val, self.level))} if self.val else {}


def _place(example: Example) -> tuple[str, str]:
    """Rows of a cluster side by side, clusters in an order that their content does not explain."""
    cluster = example.cluster or example.id
    return _mixed(cluster), _mixed(example.id)  # an exam may end within a cluster: that part is a random one, too


def _mixed(name: str) -> str:
    return sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
