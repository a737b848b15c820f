"""What the next night would do, worked out without spending or writing anything: `truegain batch FILE --dry-run`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.batch import limits as allowed
from agent.batch import work
from agent.batch.accounts import found, going_on, places, scopes
from agent.batch.place import deadline, month_of
from agent.batch.plan import Plan
from agent.batch.treasury import Grant, Room, Scope, Treasury, room
from agent.errors import AgentError
from agent.forecast import forecast
from agent.lock import is_locked

NEW = 0
"""Stands for a night that has not begun; stored ones count from 1."""


async def preview(plan: Plan, now: float, *, search: bool = True, resume: bool = True) -> dict[str, Any]:
    """The order of the next night, and what each problem would be granted and why.

    Each grant is told as if the problems before had used theirs in full, but for the time, which nobody knows.

    Raises:
        StoreError: The ledger cannot be read.
    """
    treasury = Treasury(plan.folder, write=False)
    try:
        treasury.check_owner(plan.file)
        row = going_on(plan, treasury, now)
        night, month = (row.id if row is not None else NEW), month_of(now)
        end = deadline(plan.until, row.began if row is not None else now)
        remaining = None if end is None else end - now
        order = places(plan, treasury, plan.entries, resume)
        dead = not is_locked(plan.folder)  # whoever did not settle a grant; the night will, by the run's journal
        given = [_settled(plan, treasury, grant) if dead else grant for grant in treasury.grants()]
        entries = {entry.name: entry for entry in plan.entries}
        out = []
        for place in order:
            entry = entries[place.problem]
            drift, job = 0.0, work.begin(entry, treasury)
            if plan.split != "off" and job.setup is not None:
                wanted = {"evaluations": work.measured_again(job.setup, plan.rows)}
                told = room(wanted, scopes(plan, entry, night, month), given)
                drift = told.limits["evaluations"]
                given.append(Grant(0, night, entry.name, "drift", "", now, month, {"evaluations": drift}))
            out.append({**place.to_json(), "drift_evaluations_at_most": drift})
        for item in out if search else ():
            entry = entries[item["problem"]]
            limits = [*scopes(plan, entry, night, month), Scope("until", allowed.until_scope(remaining), night=-1)]
            outlook = await _one(plan, treasury, entry, limits, given, resume)
            item.update(outlook)
            if "error" not in outlook and not outlook["waits"]:
                used = {kind: amount for kind, amount in outlook["granted"].items() if kind != "seconds"}
                given.append(Grant(0, night, entry.name, "search", "", now, month, used))
    finally:
        treasury.close()
    return {
        "name": plan.name,
        "file": str(plan.file),
        "folder": str(plan.folder),
        "goes_on": row.name if row is not None else None,
        "until": end,
        "caps": {"night": dict(plan.caps), "month": dict(plan.month)},
        "problems": out,
        "next": f"truegain batch {plan.file}",
    }


def _settled(plan: Plan, treasury: Treasury, grant: Grant) -> Grant:
    return grant if grant.settled is not None else replace(grant, settled=found(plan, treasury, grant)[0])


async def _one(
    plan: Plan, treasury: Treasury, entry: Any, limits: list[Scope], given: list[Grant], resume: bool
) -> dict[str, Any]:
    job = work.begin(entry, treasury)
    if job.setup is None:
        return {"error": job.error, "granted": {}}
    try:
        last = work.last_run(entry, treasury, plan.runs) if resume else None
        found: Room = room(allowed.wanted(job.setup, last), limits, given)
        waits = await work.short(job, found, last, plan.runs, treasury.spend(problem=entry.name).measuring_costs)
        plans = None
        if not waits and last is None:
            plans = (
                await forecast(work.session_of(job.setup, allowed.budget_of(found.limits)), False, plan.runs)
            ).to_json()
    except AgentError as error:
        return {"error": error.to_json(), "granted": {}}
    return {
        "does": f"resume {last.run}" if last is not None else "begin a new run",
        "initial_from": job.since,
        "notes": job.notes,
        "granted": dict(found.limits),
        "because": dict(found.why),
        "waits": waits,
        "forecast": plans,
    }
