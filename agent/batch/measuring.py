"""What a night measures again, and how: within its limits, and each measurement is written down as it goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.batch.measured import Measured, Measurements, Spent
from agent.errors import AgentError, BudgetExceeded, ConfigError
from agent.evaluation import Output, Request
from agent.problem import Example, Problem, Split
from agent.session import Session
from agent.space import Candidate, digest

REPEATS = 12
"""Measurements of a noisy problem without rows. Fewer could not show anything in the second night: 12 signs that
all agree have a chance of 1 in 2048."""
ROUNDING = 1e-9
"""Sums of dollars this close, relative to the limit, are the limit."""
LONGEST = 200
"""Characters of a failure that are kept."""


class Interrupted(AgentError):
    """It was asked to come to rest before all of it was measured; a second call goes on."""

    kind = "interrupted"
    exit_code = 130


@dataclass(frozen=True, slots=True)
class Unit:
    """One thing to measure each night.

    Args:
        name: Id of the row, or a repeat.
        content: Hash of the row: a row that changed is another one.
        example: The row, or None for a repeat.
    """

    name: str
    content: str
    example: Example | None


def units(problem: Problem, rows: int, split: Split) -> list[Unit]:
    """The same each night: at most so many rows of a split, or the repeats of a problem without rows.

    Raises:
        ConfigError: The split has no rows.
    """
    if problem.data:
        there = problem.split(split)
        if not there:
            raise ConfigError(f"drift.split: the problem has no {split} rows", hint="take train, or give test rows")
        chosen = sorted(there, key=lambda example: digest(["drift", example.id]))[:rows]
        return [Unit(example.id, digest(example.row), example) for example in chosen]
    count = 2 if problem.deterministic else min(rows, REPEATS)
    return [Unit(f"repeat {place}", "", None) for place in range(1, count + 1)]


@dataclass
class Allowance:
    """What one call may spend, and whether another evaluation would fit into it.

    Args:
        seconds: That may pass; None when they are not limited.
        usd: Dollars.
        rest: Set when nothing more may begin.
        before: What this problem's evaluations took so far, to know what the next one will.
    """

    seconds: float | None = None
    usd: float | None = None
    rest: asyncio.Event | None = None
    before: Spent = field(default_factory=Spent)
    ended: int = 0
    flying: int = 0
    usd_spent: float = 0.0
    seconds_spent: float = 0.0
    began: float = field(default_factory=lambda: time.monotonic())

    @property
    def blind(self) -> bool:
        """Whether the dollars are limited, and nothing is known of what an evaluation costs."""
        return self.usd is not None and not (self.before.evaluations or self.ended)

    @property
    def interrupted(self) -> bool:
        return self.rest is not None and self.rest.is_set()

    def admits(self) -> bool:
        """Whether one more may begin beside those in flight."""
        if self.interrupted:
            return False
        if self.ended:
            seconds, usd = self.seconds_spent / self.ended, self.usd_spent / self.ended
        else:
            count = max(1, self.before.evaluations)
            seconds, usd = self.before.seconds / count, self.before.usd / count
        passed = time.monotonic() - self.began
        if self.seconds is not None and (passed >= self.seconds or passed + seconds > self.seconds):
            return False
        if self.usd is None or usd == 0:
            return True
        return self.usd_spent + (self.flying + 1) * usd <= self.usd * (1 + ROUNDING)

    def end(self, usd: float, seconds: float) -> None:
        """One has ended."""
        self.ended += 1
        self.usd_spent += usd
        self.seconds_spent += seconds


async def measure(
    session: Session,
    candidate: Candidate,
    missing: Sequence[Unit],
    known: Measurements,
    number: int,
    replicate: int,
    allowance: Allowance,
) -> None:
    """Measure as much as is allowed, and write down each measurement before it begins and after it ended.

    Args:
        session: The problem, and where its evaluations run.
        candidate: What is measured.
        missing: What of.
        known: Where it is written down.
        number: Of the night, there.
        replicate: Another one each night, so that no cache of the evaluator's answers.
        allowance: What may be spent.
    """
    problem = session.problem
    slots = asyncio.Semaphore(1 if problem.evaluator.exclusive else max(1, session.settings.workers))

    async def one(unit: Unit) -> None:
        row = unit.example
        request = Request(
            candidate,
            example=row.id if row is not None else None,
            row=row.row if row is not None else None,
            # The same each night: what an evaluator draws from its seed is no drift.
            seed=int(digest([unit.name, "drift"], 8), 16),
            # Repeats differ among themselves too.
            replicate=replicate if row is not None else replicate * 100 + int(unit.name.split()[1]),
            purpose="search" if row is None or row.split == "train" else "report",
            limits=problem.limits,
        )
        async with slots:
            if not allowance.admits():
                return
            begun = known.begin(number, unit.name, unit.content)
            started = time.monotonic()
            allowance.flying += 1
            try:
                output = await executor.submit(request)
            except BudgetExceeded:  # its calls may cost more than is left; the row is told as not reached
                return
            finally:
                allowance.flying -= 1
            if output.failure is not None and output.failure.kind == "cancelled":
                return  # by us, so it says nothing of the row
            seconds = time.monotonic() - started
            allowance.end(output.usd, seconds)
            known.end(begun, _judged(problem, unit, output), output.usd, output.seconds or seconds)

    alone = 1 if allowance.blind else 0  # the first one tells what the others will take
    try:
        async with session.measuring(allowance.usd) as executor:
            for part in (missing[:alone], missing[alone:]):
                async with asyncio.TaskGroup() as group:
                    for unit in part:
                        group.create_task(one(unit))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _judged(problem: Problem, unit: Unit, output: Output) -> Measured:
    try:
        if output.failure is not None:
            raise ValueError(f"{output.failure.kind}: {output.failure.message}")
        return Measured(unit.name, dict(problem.evaluator.score(output).values))
    except (ValueError, TypeError, KeyError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        return Measured(unit.name, None, lines[0][:LONGEST])
