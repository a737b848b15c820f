"""One candidate measured on all train rows, or on a share of them. Val and test rows are not measured here."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from agent.errors import BudgetExceeded, ConfigError
from agent.evaluating import uses
from agent.evaluation import Output, Request
from agent.gate.preview import copied
from agent.problem import Example, Problem
from agent.redact import redact
from agent.session import Session
from agent.setup import Setup
from agent.shardfiles import FORMAT, Record, Row, Shard, opened, read, write
from agent.space import Candidate, digest

LONGEST = 200
"""Characters of a failure that are kept."""
PASSING = ("cancelled", "hopeless", "unpaid")
"""Failures by us, which say nothing of the row."""


def prepared(setup: Setup, runs: Path | None) -> Session:
    """The problem with its rows divided as the runs in that folder have them; nothing is written there.

    Raises:
        ConfigError: There are no train rows, or outputs are only compared with the initial candidate's.
    """
    if hasattr(setup.problem.evaluator, "begins"):
        raise ConfigError(
            "outputs that are only compared with the initial candidate's have no value of their own to report",
            hint="truegain run compares candidates",
        )
    session = Session.of(setup)
    session.guard()
    with ExitStack() as stack:
        session.divide(stack.enter_context(copied(runs)) / "eval" if runs is not None else None)
    if session.problem.data and not session.problem.split("train"):
        raise ConfigError(
            "there are no train rows, and val and test rows are not measured here", hint="give train rows"
        )
    return session


def head(session: Session, candidate: Candidate, shard: Shard) -> dict[str, Any]:
    """The first line of a result file.

    Raises:
        ConfigError: There are more shards than rows, or no rows.
    """
    problem = session.problem
    ids = [example.id for example in _rows(problem)]
    if shard.of > 1 and not problem.data:
        raise ConfigError("this problem has no rows to share out", hint="leave --shard out")
    if shard.of > len(ids):
        raise ConfigError(
            f"--shard {shard}: there are only {len(ids)} train rows to share out",
            hint="leave --shard out, or take less",
        )
    goals: dict[str, float | None] = {item.name: item.failed for item in problem.objectives}
    goals |= {item.name: None for item in problem.constraints}
    return {
        "format": FORMAT,
        "problem": problem.name,
        "fingerprints": problem.fingerprints,
        "candidate": candidate.id,
        "values": redact(candidate.values_json),
        "set": digest(sorted(ids)),
        "seed": session.seed,
        "models": {role: session.settings.models.get(role) for role in uses(problem.evaluator)},
        "rows": len(ids),
        "shard": shard.number,
        "shards": shard.of,
        "goals": goals,
    }


def _rows(problem: Problem) -> tuple[Example, ...]:
    """The train rows; for a problem without data the one thing there is to measure."""
    return problem.split("train") if problem.data else (Example("", None),)


async def evaluate(
    session: Session, candidate: Candidate, shard: Shard, path: Path, say: Callable[[str], Any] = lambda _: None
) -> Record:
    """Measure a candidate on a shard's rows that the file does not have yet.

    Args:
        session: From `prepared`; its budget limits what the file holds in the end.
        candidate: What is measured.
        shard: On which rows.
        path: The result file; made, or gone on with.
        say: Is told, in sentences.

    Raises:
        ConfigError: The file holds something else; or so many evaluations are not allowed.
        BudgetExceeded: A limit was reached on the way; what was measured is in the file.
        RunLocked: Another process writes the file.
        StoreError: The file cannot be read or written.
    """
    problem, budget = session.problem, session.budget
    first = head(session, candidate, shard)
    with opened(path) as file:
        record = read(path, file)
        if record is None:
            record = Record(first)
            write(file, first)
        elif record.head != first:
            raise ConfigError(f"{path} holds another evaluation", hint="name another file with --out, or remove it")
        missing = [row for row in shard.rows(_rows(problem)) if row.id not in record.rows]
        if budget.evaluations is not None and missing and record.begun + len(missing) > budget.evaluations:
            raise ConfigError(
                f"this takes {record.begun + len(missing)} evaluations, and {budget.evaluations} are allowed",
                hint=f"--evaluations {record.begun + len(missing)} allows them, or --shard K/N measures a share",
            )
        if record.rows:
            say(f"{len(record.rows)} rows are in {path} already")
        if missing:
            await _Measuring(session, candidate, record, file).all(missing)
    return record


class _Measuring:
    """Measures rows, and writes each down when it begins and when it has ended."""

    def __init__(self, session: Session, candidate: Candidate, record: Record, file: IO[bytes]) -> None:
        self._session, self._candidate, self._record, self._file = session, candidate, record, file
        self._over: BudgetExceeded | None = None
        self._began = time.monotonic()

    async def all(self, rows: Sequence[Example]) -> None:
        session = self._session
        spent = math.fsum(row.usd for row in self._record.rows.values())
        limit = session.budget.usd
        slots = asyncio.Semaphore(1 if session.problem.evaluator.exclusive else session.settings.workers)
        try:
            left = None if limit is None else max(0.0, limit - spent)
            async with session.measuring(left) as executor, asyncio.TaskGroup() as group:
                for row in rows:
                    group.create_task(self._one(row, executor, slots))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        if self._over is not None:
            raise BudgetExceeded(
                self._over.limit_kind,
                self._over.limit,
                self._over.spent,
                hint="the same command with a higher limit goes on with what was measured so far",
            )

    async def _one(self, row: Example, executor: Any, slots: asyncio.Semaphore) -> None:
        problem = self._session.problem
        request = Request(
            self._candidate,
            example=row.id if problem.data else None,
            row=row.row,
            seed=int(digest([self._session.seed, row.id, "eval"], 8), 16),
            limits=problem.limits,
        )
        async with slots:
            if not self._allowed():
                return
            self._record.begun += 1
            write(self._file, {"begun": row.id})
            try:
                output: Output = await executor.submit(request)
            except BudgetExceeded as error:
                self._over = self._over or error
                return
            if output.failure is not None and output.failure.kind in PASSING:
                return
            found = _judged(problem, row.id, output)
            self._record.rows[row.id] = found
            write(self._file, found.line())

    def _allowed(self) -> bool:
        budget = self._session.budget
        passed = time.monotonic() - self._began
        usd = math.fsum(row.usd for row in self._record.rows.values())
        if self._over is None and budget.seconds is not None and passed >= budget.seconds:
            self._over = BudgetExceeded("seconds", budget.seconds, passed)
        if self._over is None and budget.usd is not None and usd > 0 and usd >= budget.usd:
            self._over = BudgetExceeded("usd", budget.usd, usd)
        return self._over is None


def _judged(problem: Problem, name: str, output: Output) -> Row:
    more: dict[str, Any] = {"seconds": output.seconds, "usd": output.usd}
    try:
        if output.failure is not None:
            raise ValueError(f"{output.failure.kind}: {output.failure.message}")
        values = dict(problem.evaluator.score(output).values)
        if lacking := [name for name in problem.names if name not in values]:
            raise ValueError(f"invalid: {lacking[0]} is missing")
        return Row(name, values, **more)
    except (ValueError, TypeError, KeyError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        return Row(name, None, redact(lines[0])[:LONGEST], **more)


def values_of(path: Path, problem: Problem) -> Candidate:
    """The candidate that a JSON file holds: parameters with values, or what `truegain export --json` prints.

    Raises:
        ConfigError: It cannot be read, or does not fit the space; parameters that it leaves out have their defaults.
    """
    hint = "a JSON object of parameters with values, or what truegain export --json prints"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"--values {path} cannot be read: {error.strerror}", hint=f"name a file with {hint}"
        ) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ConfigError(f"--values {path} is not JSON: {where}: {error.msg}", hint=f"it must be {hint}") from None
    except ValueError as error:
        raise ConfigError(f"--values {path}: {error}", hint=f"it must be {hint}") from None
    if isinstance(found, dict) and "candidate" not in problem.space and isinstance(found.get("candidate"), dict):
        found = found["candidate"]
    if not isinstance(found, dict):
        raise ConfigError(f"--values {path}: it holds no JSON object", hint=f"it must be {hint}")
    try:
        return problem.space.candidate({**problem.initial(), **found})
    except (ValueError, TypeError) as error:
        raise ConfigError(f"--values {path}: {error}", hint=f"the space has {', '.join(problem.space)}") from None
