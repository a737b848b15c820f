"""One problem of a night: where it begins, what it may spend, and its search."""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.batch.limits import budget_of
from agent.batch.order import relative_gain
from agent.batch.place import Limits
from agent.batch.plan import Entry, Plan
from agent.batch.stopping import Deadline
from agent.batch.treasury import Room, Treasury
from agent.errors import AgentError, ConfigError, StoreError
from agent.folders import new_run
from agent.forecast import forecast
from agent.journal import FILE
from agent.ledger import KINDS, Budget
from agent.lock import problem_lock
from agent.proposers.table import load, talks
from agent.refusals import floor
from agent.results.result import Result, load_state
from agent.session import Session

if TYPE_CHECKING:
    from agent.loop import Observer
    from agent.setup import Setup
    from agent.state import State

DRIFTS = "drift.sqlite"


@dataclass
class Job:
    """A problem on its way through a night.

    Args:
        entry: From the batch file.
        setup: What it means, begun where the last night ended; None when it cannot be read.
        error: Why it cannot be read, as JSON.
        notes: What the user should know, one sentence each.
        files: Hashes of the user's files, as they are now.
        since: The run whose released candidate is the initial one; "" when the files' own is.
    """

    entry: Entry
    setup: Setup | None = None
    error: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    files: Mapping[str, str] = field(default_factory=dict)
    since: str = ""

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def provider(self) -> tuple[str, str] | None:
        """Who is asked for candidates: the provider and its server; None where no model is, or it runs here."""
        assert self.setup is not None
        settings = self.setup.settings
        model = settings.models.get("propose", "")
        if not model or model.startswith("local:") or not talks(load(settings.proposer, self.setup.problem.folder)):
            return None
        return model.partition(":")[0], settings.base_url or ""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A run that can go on: its name, and its state with what the gate knows."""

    run: str
    state: State


def begin(entry: Entry, treasury: Treasury) -> Job:
    """Read a problem, and begin where its last finished run ended, unless the user's files changed since.

    Each run of the batch has a random seed of its own, one more than the run before: a search that found nothing
    would otherwise look at the same candidates again.
    """
    try:
        setup = entry.load()
    except AgentError as error:
        return Job(entry, error={**error.to_json(), "exit_code": error.exit_code})
    over = [body for _, name, body in treasury.outcomes("search") if name == entry.name and body["final"]]
    setup = replace(setup, seed=setup.seed + len({body["run"] for body in over}))
    job = Job(entry, setup, notes=list(setup.notes), files=dict(setup.origin.get("files", {})))
    known = [body for body in over if "released" in body]
    if not known:
        return job
    last = known[-1]
    if dict(last["files"]) != dict(job.files):
        job.notes.append(
            f"the problem's files changed since {last['run']}, so this begins with them and not with what it released"
        )
        return job
    try:
        job.setup, job.since = setup.starting(last["released"], last["run"]), last["run"]
    except ConfigError as error:
        job.notes.append(f"this begins with the problem's files: {error.message}")
    return job


def runs_of(problem: str, treasury: Treasury) -> list[str]:
    """The names of the runs that this batch began for a problem, oldest first."""
    return [grant.run for grant in treasury.grants() if grant.problem == problem and grant.role == "search"]


def last_run(entry: Entry, treasury: Treasury, runs: Path) -> Unfinished | None:
    """The run that this batch began last and that has no result yet; None when there is none.

    Raises:
        StoreError: It cannot be read.
    """
    names = runs_of(entry.name, treasury)
    over = {body.get("run") for _, _, body in treasury.outcomes("search") if body["final"]}
    if not names or names[-1] in over:
        return None
    state = read_state(runs / names[-1])
    return Unfinished(names[-1], state) if state is not None else None


def read_state(folder: Path) -> State | None:
    """The state of a run with what the gate knows, for its ledger; None when it never began or is gone.

    Raises:
        StoreError: It cannot be read.
    """
    if not (folder / FILE).exists():
        return None
    try:
        return load_state(folder, everything=True)
    except StoreError as error:
        if "has no events yet" in error.message or "no such table" in error.message:
            return None  # its process died before its first event
        raise


def fresh(job: Job, treasury: Treasury, runs: Path, now: float) -> str:
    """The name of a new run. Its folder is there before its grant, so that a missing one was deleted.

    Args:
        job: The problem.
        treasury: The batch's ledger.
        runs: The folder of runs.
        now: Seconds since 1970.
    """
    assert job.setup is not None
    names = runs_of(job.name, treasury)
    if names and (runs / names[-1]).is_dir() and not _begun(runs / names[-1]):
        return names[-1]  # cut off before its first event
    folder = new_run(runs, job.setup.problem.name, now)
    folder.mkdir(mode=0o700, parents=True)
    return folder.name


def _begun(folder: Path) -> bool:
    """Whether a run has events, readable or not."""
    try:
        return read_state(folder) is not None
    except StoreError:
        return True


def session_of(setup: Setup, budget: Budget, observers: tuple[Observer, ...] = (), progress: Any = None) -> Session:
    """The session of a problem with this budget."""
    return Session.of(setup, budget=budget, observers=observers, progress=progress, service=True)


def measured_again(setup: Setup, rows: int) -> int:
    """Evaluations that a re-scoring takes at most: see `agent.batch.measuring.units`."""
    from agent.batch.measuring import REPEATS

    problem = setup.problem
    return min(rows, len(problem.data)) if problem.data else 2 if problem.deterministic else min(rows, REPEATS)


async def short(job: Job, room: Room, unfinished: Unfinished | None, runs: Path, costs: bool) -> str:
    """Why what may be granted is not enough for a search, in one sentence; "" when it is.

    Args:
        job: The problem.
        room: What may be granted.
        unfinished: The run that would go on.
        runs: The folder of runs.
        costs: Whether measuring is known to cost money.

    Raises:
        ConfigError: The problem's own limits are not enough, or it cannot be run at all.
    """
    assert job.setup is not None
    setup = job.setup
    asks = talks(load(setup.settings.proposer, setup.problem.folder)) and "propose" in setup.settings.models
    priced = costs or (asks and not setup.settings.models["propose"].startswith("local:"))
    state = unfinished.state if unfinished is not None else None
    rest = math.inf
    if state is not None and state.ledger.budget.evaluations is not None:
        rest = max(0, state.ledger.budget.evaluations - state.ledger.evaluations)
    over = state is not None and (state.stop is not None or not rest)  # what is left is the exam
    for kind in KINDS:
        asked = kind == "seconds" or (priced if kind == "usd" else asks)
        matters = not over and (state is None if kind == "evaluations" else asked)
        if matters and room.limits.get(kind, 1) <= 0 and setup.budget.to_json().get(kind) != 0:
            return f"nothing is left of {room.why[kind]}.{kind}"
    if state is not None:
        given = room.limits.get("evaluations", math.inf)
        if given >= rest:
            return ""
        session = session_of(setup, state.ledger.budget)
        await forecast(session, False, runs)
        held, _, each = floor(session.problem, session.settings, given + state.ledger.evaluations)
        need = rest if over else min(rest, held + each)
        return f"{room.why['evaluations']}.evaluations leaves {given:g}, and it needs {need:g}" if given < need else ""
    # The night's end and the caps may bound what the problem's own file leaves open.
    own = {**room.limits, **setup.budget.to_json()}
    await forecast(session_of(setup, budget_of(own)), False, runs)
    try:
        await forecast(session_of(setup, budget_of(room.limits)), False, runs)
    except ConfigError as error:
        return f"{room.why.get('evaluations', 'caps')}.evaluations: {error.message}"
    return ""


def fix_splits(jobs: Sequence[Job], plan: Plan, night: str) -> None:
    """Give the rows of all problems their splits, before any is measured: what is val for one is measured for none."""
    if plan.split != "off":
        from agent.batch.rescore import fix_splits

        fix_splits([job.setup for job in jobs if job.setup is not None], plan.runs, f"night {night}")


async def rescored(
    job: Job, plan: Plan, night: str, most: int, seconds: float | None, usd: float | None, heard: asyncio.Event
) -> dict[str, Any]:
    """Measure a problem's initial candidate again.

    Args:
        job: The problem.
        plan: The batch.
        night: Tonight's name.
        most: Evaluations of this night at most, those of earlier processes included.
        seconds: That it may take.
        usd: Dollars that it may spend.
        heard: Set when it is to come to rest.

    Returns:
        `Rescore.to_json()`, or "error"; and the "exit_code" that it means for the night.
    """
    from agent.batch.rescore import rescore

    assert job.setup is not None
    setup = replace(job.setup, problem=replace(job.setup.problem, name=job.name))
    lock = None
    try:
        # While another process measures this problem, times would be disturbed.
        lock = problem_lock(plan.runs, setup.problem.folder / next(iter(setup.origin["files"])))
        found = await rescore(
            setup,
            setup.problem.initial(),
            store=plan.folder / DRIFTS,
            night=night,
            most=most,
            seconds=seconds,
            usd=usd,
            rest=heard,
            rows=plan.rows,
            split=plan.split,
            runs=plan.runs,
        )
        return {**found.to_json(), "exit_code": 3 if found.failed and not found.scored else 0}
    except AgentError as error:
        return {"error": error.message, "exit_code": error.exit_code}
    except Exception as error:  # an evaluator may do anything; the other problems go on
        return {"error": f"{type(error).__name__}: {error}", "exit_code": 1}
    finally:
        if lock is not None:
            lock.release()


async def search(
    job: Job,
    run: str,
    granted: Limits,
    unfinished: Unfinished | None,
    runs: Path,
    changed: Mapping[str, Any],
    deadline: Deadline,
    observers: tuple[Observer, ...],
    progress: Callable[[int, int, str], None] | None,
    command: tuple[str, ...],
) -> tuple[Result, bool]:
    """Run a problem, or go on with its run.

    Args:
        run: Name of the run.
        granted: What it may spend on top of what it has.
        unfinished: The run to go on with.
        changed: What a resume changes.
        deadline: Stops it when the night is over.
        observers: Told of its events.
        progress: Told how far a download of weights is.
        command: The words that started it.

    Returns:
        The result, and whether the night's end stopped it.

    Raises:
        RunChanged: It cannot go on; nothing was spent.
        AgentError: As `Session.run` and `Session.resume`.
    """
    assert job.setup is not None
    folder = runs / run
    with deadline.watched() as hold:
        if unfinished is not None:
            before = unfinished.state
            server = job.setup.settings.base_url or before.settings.base_url
            setup = replace(job.setup, settings=replace(before.settings, base_url=server), seed=before.seed)
            session = session_of(setup, before.ledger.budget, observers, progress)
            return await session.resume(folder, changes=changed, hold=hold), deadline.passed
        origin = {**job.setup.origin, "command": list(command)} if command else job.setup.origin
        session = session_of(replace(job.setup, origin=origin), budget_of(granted), observers, progress)
        try:
            return await session.run(folder, hold), deadline.passed
        except AgentError:
            if not _spent(folder):  # nothing was measured: there is no run to keep
                shutil.rmtree(folder, ignore_errors=True)
            raise


def _spent(folder: Path) -> bool:
    with contextlib.suppress(StoreError):
        state = read_state(folder)
        return state is not None and bool(state.ledger.evaluations or state.next_call > 1)
    return True


def told(result: Result, job_files: Mapping[str, str]) -> dict[str, Any]:
    """What is kept of a search's result: for the summary, for the order, and for where the next night begins."""
    over = result.status != "open"
    exams = result.gate["exams"] if over else []
    gains = [relative_gain(e["before"], e["after"], e["effect"]) for e in exams if e["accepted"]]
    out: dict[str, Any] = {
        "run": result.run,
        "status": "failed" if result.reason == "evaluator" else result.status,
        "reason": result.reason,
        "detail": result.detail,
        "sentence": result.sentence,
        "final": over,
        "exit_code": result.exit_code,
        "gain": min(1.0, math.fsum(gains)),
    }
    if over and result.reason != "evaluator":
        origin = result._state.origin
        out |= {"released": result.released.values_json, "files": dict(origin.get("files") or job_files)}
        out["initial_from"] = origin.get("initial_from", "")
    return out
