"""One night of a batch: re-score what is in use, then search, one problem after another, under shared caps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.batch import accounts, limits, summary, work
from agent.batch.outcome import Night, Say, exit_code, internal, judge_drift, silent
from agent.batch.place import deadline, month_of
from agent.batch.plan import Entry, Plan
from agent.batch.spend import Spend
from agent.batch.stopping import Cut, Deadline, Signals, abrupt
from agent.batch.treasury import Grant, NightRow, Scope, Treasury, room
from agent.batch.work import Job, Unfinished
from agent.control.server import BY_REQUEST, listening
from agent.errors import AgentError, RunChanged, StoreError
from agent.results.result import Result

if TYPE_CHECKING:
    from agent.loop import Observer

Progress = Callable[[int, int, str], None]


async def night(
    plan: Plan,
    *,
    now: Callable[[], float] = time.time,
    search: bool = True,
    resume: bool = True,
    say: Say = silent,
    observers: Sequence[Observer] = (),
    progress: Progress | None = None,
    command: Sequence[str] = (),
    tell: Callable[[Night], None] | None = None,
) -> Night:
    """Work through a batch once, or go on with a night that was interrupted.

    Args:
        plan: The batch.
        now: Seconds since 1970.
        search: Whether anything is searched; without it the night only re-scores.
        resume: Whether unfinished runs of this batch go on; otherwise new ones begin.
        say: Told what happens.
        observers: Told of every event of every run.
        progress: Told how far a download of weights is.
        command: The words that started it, for the runs' first events.
        tell: Told of the night before it counts as ended: if that is cut off, the same command tells it again.

    Raises:
        ConfigError: The ledger belongs to another batch file.
        RunLocked: Another process works on this batch.
        StoreError: Its ledger cannot be read or written. What was stored before is safe.
    """
    treasury = Treasury(plan.folder)
    try:
        return await _Night(
            plan, treasury, now, search, resume, say, tuple(observers), progress, tuple(command), tell
        ).through()
    finally:
        treasury.close()


LEVELS = {0: "info", 75: "info", 130: "warning", 143: "warning"}
"""How loudly an end is told, by its exit code; any other is an error."""


class _Night:
    def __init__(
        self,
        plan: Plan,
        treasury: Treasury,
        now: Callable[[], float],
        searching: bool,
        resuming: bool,
        say: Say,
        observers: tuple[Observer, ...],
        progress: Progress | None,
        command: tuple[str, ...],
        tell: Callable[[Night], None] | None,
    ) -> None:
        self.plan, self.treasury, self.now = plan, treasury, now
        self.searching, self.resuming, self.command, self.tell = searching, resuming, command, tell
        self.say, self.observers, self.progress = say, observers, progress
        self.stop = Signals()
        self.row: NightRow
        self.end: float | None = None
        self.reports: dict[str, dict[str, Any]] = {}
        self.touched: set[str] = set()
        """Problems of which this process had something to tell."""
        self.refused: dict[tuple[str, str], str] = {}
        """Providers that refused for good tonight, and what they said."""

    # The night as a whole.

    async def through(self) -> Night:
        self.stop.task = asyncio.current_task()
        with listening(self.stop.hear):
            self._begin()
            jobs = [work.begin(entry, self.treasury) for entry in self.plan.entries]
            try:
                await self._work(self._ordered(jobs))
            except asyncio.CancelledError:  # the second signal
                self.stop.code = self.stop.code or 143
            return self._finish(jobs)

    async def _work(self, jobs: list[Job]) -> None:
        work.fix_splits(jobs, self.plan, self.row.name)
        for todo in (self._check, self._search):
            for job in jobs:
                if not self._over:
                    await todo(job)

    @property
    def _over(self) -> bool:
        return bool(self.stop.code)

    def remaining(self) -> float | None:
        """Seconds until the night is over; None when it has no end."""
        return None if self.end is None else self.end - self.now()

    def _begin(self) -> None:
        self.treasury.check_owner(self.plan.file)
        now, nights = self.now(), self.treasury.nights()
        last = accounts.going_on(self.plan, self.treasury, now)
        leftover = accounts.settle_leftovers(self.plan, self.treasury, now)
        if last is not None:
            self.row = last
        else:
            order = accounts.places(self.plan, self.treasury, self.plan.entries, self.resuming)
            names = {row.name for row in nights}
            date = time.strftime("%Y-%m-%d", time.localtime(now))
            name = next(f"{date}-{n}" for n in range(1, len(names) + 2) if f"{date}-{n}" not in names)
            body = {"order": [place.to_json() for place in order], "until": self.plan.until}
            body["file"] = str(self.plan.file)
            number = self.treasury.begin(name, now, body)
            self.row = NightRow(number, name, now, body, None, None)
        self.end = deadline(self.plan.until, self.row.began)
        verb = "goes on" if last is not None else "begins"
        self.say("info", f"night.{verb.replace(' ', '_')}", f"night {self.row.name} of {self.plan.name} {verb}")
        for text in leftover:
            self.say("warning", "grant.settled", text)
        done = {name: body for at, name, body in self.treasury.outcomes("search") if at == self.row.id}
        done = {name: body for name, body in done.items() if body["status"] != "abandoned"}
        self.reports |= done
        for at, name, body in self.treasury.outcomes("drift"):
            if at == self.row.id:
                self._report(name)["drift"] = body

    def _ordered(self, jobs: list[Job]) -> list[Job]:
        known = [place["problem"] for place in self.row.body["order"]]
        return sorted(jobs, key=lambda job: known.index(job.name) if job.name in known else len(known))

    def scopes(self, entry: Entry) -> list[Scope]:
        """The limits that hold over a problem tonight."""
        return accounts.scopes(self.plan, entry, self.row.id, month_of(self.now()))

    def _report(self, name: str) -> dict[str, Any]:
        status = "waiting" if self.searching else "not searched"
        return self.reports.setdefault(name, {"status": status, "exit_code": 0, "final": False})

    def _tell(self, job: Job, **fields: Any) -> None:
        """What became of a problem; kept, and said."""
        report = {**self._report(job.name), **fields, "notes": list(job.notes)}
        self.reports[job.name] = report
        self.touched.add(job.name)
        drift = report.pop("drift", None)
        self.treasury.outcome(self.row.id, job.name, "search", self.now(), report)
        if drift is not None:
            report["drift"] = drift
        level = LEVELS.get(report["exit_code"], "error")
        text = report.get("sentence") or report.get("detail") or ""
        self.say(level, "problem.ended", f"{job.name}: {report['status']}: {text}", problem=job.name)

    def _failed(self, job: Job, error: Mapping[str, Any], code: int, **more: Any) -> None:
        text = error["message"] + (f" ({error['hint']})" if error.get("hint") else "")
        self._tell(job, status="failed", detail=text, error=dict(error), exit_code=code, **more)

    # Drift.

    async def _check(self, job: Job) -> None:
        if job.setup is None:
            if not self.searching:
                assert job.error is not None
                self._failed(job, job.error, job.error["exit_code"])
            return
        if self.plan.split == "off" or "drift" in self._report(job.name):
            return
        used = accounts.measured(self.plan, job.name, self.row.name)
        wanted = {"evaluations": max(0.0, work.measured_again(job.setup, self.plan.rows) - used.counts("evaluations"))}
        scopes, remaining = self.scopes(job.entry), self.remaining()
        found = room(wanted, scopes, self.treasury.grants())
        kinds = ("usd", "seconds") if self.treasury.spend(problem=job.name).measuring_costs else ("seconds",)
        barred = any(found.limits.get(kind, 1) <= 0 for kind in kinds)
        if barred or (remaining is not None and remaining <= 0):
            wanted = {"evaluations": 0}  # what has changed but the scores can be told for nothing
        grant = self.treasury.grant(self.row.id, job.name, "drift", "", self.now(), wanted, scopes)
        body = await work.rescored(
            job,
            self.plan,
            self.row.name,
            int(used.counts("evaluations") + grant.limits["evaluations"]),
            limits.least(self.remaining(), grant.limits.get("seconds")) if grant.limits["evaluations"] else None,
            grant.limits.get("usd"),
            self.stop.heard,
        )
        self.treasury.settle(grant, self.now(), accounts.measured(self.plan, job.name, self.row.name).less(used))
        self._report(job.name)["drift"] = body
        if self._over and "error" in body:
            return  # it goes on when the night does
        self.treasury.outcome(self.row.id, job.name, "drift", self.now(), body)
        for item in body.get("drifts", ()):
            self.say("warning", "drift", f"{job.name}: {item['sentence']}", problem=job.name, kind=item["kind"])
        if "error" in body:
            self.say("error", "drift.failed", f"{job.name}: {body['error']}", problem=job.name)

    # Search.

    async def _search(self, job: Job) -> None:
        report = self._report(job.name)
        if not self.searching or report["final"]:
            return
        if job.setup is None:
            assert job.error is not None
            self._failed(job, job.error, job.error["exit_code"])
            return
        provider = job.provider
        if provider in self.refused:
            self._tell(
                job, status="skipped", detail=f"{provider[0]} refused tonight: {self.refused[provider]}", exit_code=69
            )
            return
        try:
            await self._attempt(job)
        except (AgentError, OSError) as error:
            told = error.to_json() if isinstance(error, AgentError) else internal(error)
            if getattr(error, "exit_code", 1) == 69 and provider is not None:
                self.refused[provider] = told["message"]
            self._failed(job, told, getattr(error, "exit_code", 1))
        except Exception as error:  # one problem never stops the others
            self._failed(job, internal(error), 1)

    async def _attempt(self, job: Job) -> None:
        try:
            last = work.last_run(job.entry, self.treasury, self.plan.runs) if self.resuming else None
        except StoreError as error:
            last = None
            self._give_up(job, error)
        if last is not None:
            job.notes.append(f"{last.run} was unfinished, and goes on")
            try:
                await self._try(job, last)
                return
            except RunChanged as error:
                job.notes.pop()
                self._give_up(job, error)
        await self._try(job, None)

    def _give_up(self, job: Job, error: AgentError) -> None:
        run = work.runs_of(job.name, self.treasury)[-1]
        body = {"run": run, "status": "abandoned", "final": True, "exit_code": 0, "detail": error.message}
        self.treasury.outcome(self.row.id, job.name, "search", self.now(), body)
        job.notes.append(f"{run} is given up, and a new run begins: {error.message}")

    async def _try(self, job: Job, unfinished: Unfinished | None) -> None:
        assert job.setup is not None
        if self._late(job):
            return
        wanted = limits.wanted(job.setup, unfinished)
        found = room(wanted, self._searched(job), self.treasury.grants())
        why = await work.short(
            job, found, unfinished, self.plan.runs, self.treasury.spend(problem=job.name).measuring_costs
        )
        if why:
            self._tell(job, status="waiting", detail=why, exit_code=0)
            return
        if self._late(job):  # it took a while to find out
            return
        run = unfinished.run if unfinished is not None else work.fresh(job, self.treasury, self.plan.runs, self.now())
        base = accounts.standing(self.plan, run)
        scopes, before = self._searched(job), self.treasury.grants()
        grant = self.treasury.grant(self.row.id, job.name, "search", run, self.now(), wanted, scopes, base)
        changed: Mapping[str, Any] = {}
        if unfinished is not None:
            most = limits.least(self.remaining(), room({}, self.scopes(job.entry), before).limits.get("seconds"))
            tonight = self.treasury.charged(run, self.row.id)
            changed = limits.changes(grant.limits, unfinished, most, tonight)
        self.say("info", "problem.started", f"{job.name}: {run}", problem=job.name, granted=dict(grant.limits))
        watchers = (self.observers, self.progress, self.command)
        task = asyncio.create_task(
            work.search(
                job,
                run,
                grant.limits,
                unfinished,
                self.plan.runs,
                changed,
                Deadline(self.remaining, self.stop),
                *watchers,
            )
        )
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})
            raise
        finally:
            if task.done():
                self.treasury.settle(grant, self.now(), *self._left(grant, task))
        await self._ended(job, run, task, grant)

    def _late(self, job: Job) -> bool:
        remaining = self.remaining()
        if remaining is not None and remaining <= 0:
            self._tell(job, status="waiting", detail="the night was over before its turn came", exit_code=0)
            return True
        return self._over

    def _searched(self, job: Job) -> list[Scope]:
        """The limits that hold over a search from now on."""
        return [*self.scopes(job.entry), Scope("until", limits.until_scope(self.remaining()), night=-1)]

    def _left(self, grant: Grant, task: asyncio.Task[Any]) -> tuple[Spend, Spend | None]:
        gone = not (self.plan.runs / grant.run).exists()
        if gone and not task.cancelled() and task.exception() is not None:
            return Spend(), None  # nothing was measured, and the folder was taken away again
        return accounts.found(self.plan, self.treasury, grant)

    async def _ended(self, job: Job, run: str, task: asyncio.Task[tuple[Result, bool]], grant: Grant) -> None:
        state = None
        if task.cancelled():
            state = work.read_state(self.plan.runs / run)
            halt = state.halt if state is not None else None
            alone = halt is not None and halt.detail in BY_REQUEST and not self._over
            code = 75 if alone else self.stop.code or (130 if halt and halt.reason == "interrupted" else 143)
            self._tell(job, run=run, status="open", detail="stopped at once", exit_code=code)
            if not alone:
                self.stop.code = code
                raise asyncio.CancelledError
            return
        result, passed = task.result()
        told = {**work.told(result, job.files), "granted": dict(grant.limits)}
        if result.status == "open":
            if result.reason == "provider":
                told["exit_code"] = 69
                if job.provider is not None:
                    self.refused[job.provider] = result.detail
            elif passed or result.detail in BY_REQUEST:
                told["exit_code"] = 75
            else:
                self.stop.code = result.exit_code
        if result.trials:
            self._models(job, result.folder)
        self._tell(job, **told)

    def _models(self, job: Job, folder: Path) -> None:
        """Whether another model answered than in earlier nights."""
        from agent.batch.rescore import note_models

        try:
            found = note_models(self.plan.folder / work.DRIFTS, job.name, self.row.name, folder)
        except StoreError as error:
            job.notes.append(f"which models answered is not known: {error.message}")
            return
        for item in found:
            self._report(job.name).setdefault("models", []).append(item.to_json())
            self.say("warning", "drift", f"{job.name}: {item.sentence}", problem=job.name, kind=item.kind)

    # The end.

    def _finish(self, jobs: list[Job]) -> Night:
        for job in jobs:
            judge_drift(self._report(job.name))
        measured = bool(self.treasury.spend(night=self.row.id).counts("evaluations"))
        code = self.stop.code or exit_code(self.reports, self.touched, measured)
        document = summary.document(self.plan, self.treasury, self.row, self.now(), code, self.reports, self.searching)
        folder = summary.write(self.plan.folder, self.row.name, document)
        self.say(LEVELS.get(code, "error"), "night.ended", document["sentence"], exit_code=code)
        done = Night(self.row.name, folder, code, document)
        if self.tell is not None:
            try:
                with abrupt():
                    self.tell(done)
            except Cut as cut:
                return replace(done, code=cut.code, document={**document, **summary.verdict(cut.code)})
        self.treasury.end(self.row.id, self.now(), code)
        return done
