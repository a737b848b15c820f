"""What holds over a night: its limits, its order, and what earlier processes have left unaccounted."""

from __future__ import annotations

from collections.abc import Sequence

from agent.batch import work
from agent.batch.order import Past, Place, cost, order
from agent.batch.place import deadline
from agent.batch.plan import Entry, Plan
from agent.batch.spend import Spend
from agent.batch.treasury import Grant, NightRow, Scope, Treasury, tally
from agent.errors import StoreError
from agent.results.result import Result, load_state

GOES_ON = 20 * 3600.0
"""Seconds in which a night that was interrupted, and has no end of its own, goes on as the same night."""
INTERRUPTED = (None, 130, 143)
"""How a night ended that goes on."""


def going_on(plan: Plan, treasury: Treasury, now: float) -> NightRow | None:
    """The last night, if it was interrupted and is not over: its caps are one night's."""
    nights = treasury.nights()
    if not nights or nights[-1].code not in INTERRUPTED:
        return None
    row = nights[-1]
    end = deadline(plan.until, row.began)
    return row if now < (end if end is not None else row.began + GOES_ON) else None


def scopes(plan: Plan, entry: Entry, night: int, month: str) -> list[Scope]:
    """The limits that hold over a problem in a night."""
    return [
        Scope("caps", plan.caps, night=night),
        Scope("caps.month", plan.month, month=month),
        Scope("problems.budget", entry.budget, night=night, problem=entry.name),
        Scope("problems.month", entry.month, month=month, problem=entry.name),
    ]


def places(plan: Plan, treasury: Treasury, entries: Sequence[Entry], resuming: bool) -> list[Place]:
    """The order of the next night."""
    nights = [row.id for row in treasury.nights()]
    grants, caps = treasury.grants(), plan.caps or plan.month
    gains = {(at, name): body.get("gain", 0.0) for at, name, body in treasury.outcomes("search") if body["final"]}
    past: dict[str, list[Past]] = {}
    for entry in entries:
        for place, night in enumerate(nights):
            mine = [g for g in grants if (g.night, g.problem, g.role) == (night, entry.name, "search")]
            if mine:
                spent = tally(mine)
                used = {kind: spent.counts(kind) for kind in caps}
                paid = cost(used, caps, 1 / len(entries))
                past.setdefault(entry.name, []).append(
                    Past(len(nights) - place, gains.get((night, entry.name), 0.0), paid)
                )
    unfinished = [entry.name for entry in entries if resuming and _last(plan, treasury, entry) is not None]
    return order([(entry.name, entry.priority) for entry in entries], past, unfinished)


def settle_leftovers(plan: Plan, treasury: Treasury, now: float) -> list[str]:
    """Settle the grants whose process died, and keep the results of runs that ended just before it did.

    Returns:
        A sentence for each.
    """
    said = []
    for grant in treasury.grants():
        if grant.settled is None:
            treasury.settle(grant, now, *found(plan, treasury, grant))
            said.append(f"{grant.problem}: the process that worked on {grant.run or 'its drift'} died; it is accounted")
    for entry in plan.entries:
        last = _last(plan, treasury, entry)
        if last is not None and last.state.ended is not None:
            result = Result.of(last.state, plan.runs / last.run)
            if not result.saved:
                result.save()
            night = next(grant.night for grant in reversed(treasury.grants()) if grant.run == last.run)
            treasury.outcome(night, entry.name, "search", now, work.told(result, {}))
    return said


def _last(plan: Plan, treasury: Treasury, entry: Entry) -> work.Unfinished | None:
    """The run that a problem's next search would go on with; a damaged one is not."""
    try:
        return work.last_run(entry, treasury, plan.runs)
    except StoreError:
        return None


def standing(plan: Plan, run: str) -> tuple[Spend, Spend]:
    """What a run has spent so far, whoever drove it: all of it, and what may be told of that while the run is open.

    Raises:
        StoreError: It cannot be read.
    """
    folder = plan.runs / run
    state = work.read_state(folder) if run else None
    if state is None:
        return Spend(), Spend()
    return Spend.of(state.ledger), Spend.of(load_state(folder).ledger)


def found(plan: Plan, treasury: Treasury, grant: Grant) -> tuple[Spend, Spend | None]:
    """What a grant came to, by the run's journal or the drift's file, and what may be told of it while the run is open.

    In full where there is none to ask.
    """
    if grant.role == "drift":
        night = next(row.name for row in treasury.nights() if row.id == grant.night)
        mine = (g for g in treasury.grants() if (g.role, g.problem, g.night) == ("drift", grant.problem, grant.night))
        used = sum((g.settled for g in mine if g.settled is not None), Spend())
        return measured(plan, grant.problem, night).less(used), None
    if not (plan.runs / grant.run).is_dir():
        return Spend(possibly=grant.limits), None
    try:
        now = standing(plan, grant.run)
    except StoreError:
        return Spend(possibly=grant.limits), None
    return now[0].less(grant.base[0]), now[1].less(grant.base[1])


def measured(plan: Plan, problem: str, night: str) -> Spend:
    """What a night's re-scoring of a problem took so far, by its own file."""
    from agent.batch.rescore import spent

    told = spent(plan.folder / work.DRIFTS, problem, night)
    possibly = {"evaluations": told.possibly} if told.possibly else {}
    return Spend({"evaluations": told.evaluations, "usd": told.usd, "seconds": told.seconds}, possibly)
