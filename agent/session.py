"""Puts a run together: journal, executor, proposer and models. The API and the command line use this."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import doors, refusals
from agent.control.server import Steering, obeying, serving
from agent.datasets import pools
from agent.errors import ConfigError
from agent.evaluating import uses
from agent.evaluation import Executor
from agent.evaluators.loading import refuse_nested_search
from agent.events import EpochStarted, Event, RunResumed, RunStarted
from agent.folders import alone, ignored
from agent.journal import Journal
from agent.ledger import Budget
from agent.loop import Observer, Run
from agent.paying import Measuring, measuring
from agent.problem import Example, Problem
from agent.proposers import demosets
from agent.proposers.table import TABLE, canonical, load, talks
from agent.results import wholeset
from agent.results.result import Result, load_result, load_state
from agent.settings import Settings
from agent.versions import versions
from agent.warm import START, Earlier, chosen, starting_points, take

if TYPE_CHECKING:
    from agent.gate.checks import Check, Context
    from agent.gate.custody import Custody
    from agent.llm.gateway import Llm
    from agent.llm.types import Recorder
    from agent.setup import Setup

SET_UP = ("problem", "settings", "budget", "seed", "env", "checks", "shares", "starts", "warm_from", "origin")
"""What a session takes from a problem file that was read."""


@dataclass
class Session:
    """Everything a run needs besides its journal.

    Args:
        problem: With its evaluator.
        settings: Who proposes, how much at once, how strict.
        budget: Limits.
        seed: Of all random numbers.
        model: A model object to use instead of those that `settings.models` names, as `agent.llm.scripted` gives one;
            or a mapping of such objects by name.
        executor: An executor to use instead of what fits the evaluator.
        observers: Told of every event.
        progress: Told how far a download of weights is: bytes so far, bytes in all (0: unknown), a sentence; and, as
            a sentence alone, how far a batch of model calls is.
        env: Environment variables for the evaluator's processes.
        checks: Of the user's own, which a candidate must pass before it is measured.
        shares: For val and test, as in `agent.datasets.data.split`; None for what fits the number of rows.
        starts: Points that are measured right after the initial candidate; what one leaves out is at its default.
        warm_from: An earlier run to take good and failed points from, or such points: see `agent.warm`.
        origin: How the run came about, for `RunStarted.origin`.
        service: Other processes may find and steer this run: it holds the problem's lock, so that nobody else runs the
            same problem in the same folder of runs, and answers on a socket while it is driven (`agent.control`).
    """

    problem: Problem
    settings: Settings = field(default_factory=Settings)
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    model: Any = None
    executor: Executor | None = None
    observers: tuple[Observer, ...] = ()
    progress: Callable[[int, int, str], None] | None = None
    env: Mapping[str, str] | None = None
    checks: tuple[Check, ...] = ()
    shares: Mapping[str, float] | None = None
    starts: Sequence[Mapping[str, Any]] = ()
    warm_from: Earlier | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    service: bool = False
    warm: dict[str, Any] = field(default_factory=dict, init=False)
    """What was taken from the earlier run."""
    notes: list[str] = field(default_factory=list, init=False)
    """What the user should know about the data, one sentence each."""
    _held: tuple[Problem, dict[str, frozenset[int]]] | None = field(default=None, init=False, repr=False)
    _removed: tuple[Any, ...] = field(default=(), init=False, repr=False)
    custody: Custody | None = field(default=None, init=False)
    sandbox: Mapping[str, Any] = field(default_factory=dict, init=False)
    """What the evaluator's sandbox is here (see `Evaluator`); {} where candidates are no programs."""

    @classmethod
    def of(cls, setup: Setup, **more: Any) -> Session:
        """The session of a problem file; `more` goes first."""
        return cls(**{**{name: getattr(setup, name) for name in SET_UP}, **more})

    def divide(self, folder: Path | None = None) -> None:
        """Give the rows their splits; those of a run's folder are remembered beside it, for all later runs.

        Args:
            folder: Of the run; without one nothing is remembered.

        Raises:
            ConfigError: The shares are not possible.
            StoreError: The accounts beside the runs cannot be read or written.
        """
        problem = self.problem
        if not problem.by_rows:
            return
        from agent.datasets.data import split

        def splitter(examples: Any) -> Any:
            return split(examples, self.shares, problem.labels)

        if all(example.split != "train" for example in problem.data):
            raise ConfigError(
                "all rows are val or test, and the search needs rows of its own",
                hint="give train rows too, or rows without splits to have them divided",
            )
        if folder is None:
            self._place(splitter(problem.data))
            return
        from agent.gate.accounts import Accounts
        from agent.gate.custody import Custody

        accounts = Accounts(folder.parent, problem.labels)
        found = accounts.assign(problem.data, folder.name, splitter=splitter)
        self.notes = list(found.notes)
        self._place(found.examples)
        unique = f"{folder.name}#{os.urandom(4).hex()}"  # a folder may be deleted and its name used again
        self.custody = Custody(accounts, unique, self.problem, self.settings.level, found.searched)

    def _place(self, examples: Sequence[Example]) -> None:
        """Take the divided rows, and keep what a stricter split took out of them: no prompt may show that either."""
        left = {example.id for example in examples}
        self._removed += tuple(example.row for example in self.problem.data if example.id not in left)
        self.problem = replace(self.problem, data=tuple(examples))

    def __post_init__(self) -> None:
        if (name := canonical(self.settings.proposer)) != self.settings.proposer:
            self.settings = replace(self.settings, proposer=name)  # what is journalled is the name of the table
        self.starts = starting_points(self.problem.space, self.starts)

    def warm_up(self, runs: Path) -> None:
        """Take what an earlier run knows, where one was named.

        Args:
            runs: The folder of runs, where its name is looked for.

        Raises:
            ConfigError: There is no such run, or it knows nothing of this space.
            StoreError: It cannot be read.
        """
        if self.warm_from is not None and not self.warm:
            self.warm = take(self.problem, self.warm_from, runs)

    @property
    def begins(self) -> list[dict[str, Any]]:
        """Points that are measured before the first proposal is asked for, as they stand in `run.started`."""
        own = [{"values": dict(point), "source": START} for point in self.starts]
        total = math.inf if self.budget.evaluations is None else self.budget.evaluations
        known = [self.problem.initial(), *self.starts]
        each = refusals.floor(self.problem, self.settings, total)[2]
        return own + chosen(self.problem.space, self.warm, known, total, each)

    def check(self) -> None:
        """Refuse what cannot work, before anything is spent.

        Raises:
            ConfigError: No limit at all, or a budget that cannot pay for the baseline and the exam.
            PrerequisiteError: The sandbox is too weak here, and nobody asked for `unsafe`.
        """
        self.guard()
        refusals.check_budget(self.problem, self.settings, self.budget, len(self.begins))
        choosing = demosets.demos_of(self.problem.space).items()
        strange = [name for name, item in choosing if not demosets.rows_of(self.problem, item)]
        told = pools.note(self.problem, self._pools(), strange)
        self.notes = [*(line for line in self.notes if line not in told), *told]
        refusals.check_secrets(self.problem, self.starts)
        proposer = refusals.check_proposer(self.problem, self.settings)
        refusals.check_evaluator(self.problem, self.settings)
        if self.settings.proposer in TABLE:  # its options are wrong, or a package is missing: it says so here
            proposer.forecast(self.problem, 1, self.settings.options)

    def guard(self) -> None:
        """Refuse a sandbox that is too weak, and a search inside of an import; keep what the records say of a sandbox.

        Raises:
            ConfigError, PrerequisiteError: As the evaluator's `guard`.
        """
        refuse_nested_search()
        guard = getattr(self.problem.evaluator, "guard", None)
        self.sandbox = guard() if guard is not None else {}
        metric = wholeset.metric_of(self.problem)
        if metric is not None and metric.note not in self.notes:
            self.notes = [*self.notes, metric.note]
        if lacking := self.sandbox.get("not_stopped"):
            note = f"nothing here keeps candidate code from {', or '.join(lacking)}; it runs all the same (unsafe)"
            self.notes = [*(known for known in self.notes if known != note), note]

    def _pools(self) -> dict[str, frozenset[int]]:
        """The examples that no candidate may choose; looked for once for the same rows."""
        if self._held is None or self._held[0] is not self.problem:
            self._held = (self.problem, pools.held_out(self.problem, self._removed))
        return self._held[1]

    def _checks(self) -> tuple[list[Check], Context]:
        """The checks that need more than the space, and what they know."""
        from agent.gate.checks import Check, leaking
        from agent.gate.duplicates import same_program

        same, places = same_program(self.problem.space), self._pools()
        checks = [*([same] if same is not None else []), *self.checks]
        if places:
            checks = [Check("examples", lambda candidate, context: pools.chooses(places, candidate)), *checks]
        leaks, context = leaking(self.problem.space, self.problem.data)
        return [*leaks, *checks], context

    def started(self, name: str) -> RunStarted:
        """The first event of a new run."""
        return RunStarted(
            run=name,
            problem=self.problem.to_json(),
            fingerprints=self.problem.fingerprints,
            seed=self.seed,
            budget=self.budget.to_json(),
            settings=self.settings.to_json(),
            initial=self.problem.initial().values_json,
            versions=versions(),
            checks=[check.name for check in self._checks()[0]],
            starts=self.begins,
            warm=self.warm,
            origin={
                **self.origin,
                **({"sandbox": dict(self.sandbox)} if self.sandbox else {}),
                **({"notes": [metric.note]} if (metric := wholeset.metric_of(self.problem)) is not None else {}),
            },
        )

    def _alone(self, runs: Path) -> contextlib.AbstractContextManager[None]:
        """Be the only service that runs this problem in a folder of runs."""
        # The first of the files that the run comes from is the problem's own.
        file = next(iter(self.origin.get("files") or ()), "problem.toml")
        return alone(runs, self.problem.folder / file) if self.service else contextlib.nullcontext()

    async def run(self, folder: Path, hold: Callable[[Run], Any] | None = None) -> Result:
        """A new run in `folder`.

        Args:
            folder: Must not hold a run yet.
            hold: Is given the run before it is driven, to stop it from outside.

        Raises:
            ConfigError, PrerequisiteError, StoreError, RunLocked: See there.
        """
        young = not folder.parent.exists()
        with self._alone(folder.parent):
            new = not folder.exists()
            self.divide(folder)
            self.warm_up(folder.parent)
            self.check()
            with contextlib.closing(Journal(folder)) as journal:
                try:
                    run = self._make(journal)
                    run.start(self.started(folder.name))
                    await run.prepare()
                except BaseException:  # Ctrl-C too
                    if new:  # nothing was measured: there is no run to keep
                        shutil.rmtree(folder, ignore_errors=True)
                    raise
                if young:
                    ignored(folder.parent)
                return await self._drive(run, folder, hold)

    async def resume(
        self,
        folder: Path,
        *,
        changes: Mapping[str, Any] | None = None,
        accept_change: bool = False,
        hold: Callable[[Run], Any] | None = None,
    ) -> Result:
        """Go on with a run that was cut off, interrupted, or ended at a limit that is now higher.

        Args:
            folder: Of the run.
            changes: "budget" (all limits) or "workers" for the rest of the run.
            accept_change: Whether a changed evaluator, data or problem starts a new epoch; the
                search then begins again from the champion.
            hold: As for `run`.

        Raises:
            RunChanged: Evaluator, data or problem changed, and `accept_change` is false.
        """
        with self._alone(folder.parent):
            return await self._resumed(folder, dict(changes or {}), accept_change, hold)

    async def _resumed(
        self, folder: Path, changes: dict[str, Any], accept_change: bool, hold: Callable[[Run], Any] | None
    ) -> Result:
        self.guard()
        self.divide(folder)
        before = load_state(folder, everything=True)
        if before.origin.get("initial_from"):  # the problem file has another initial candidate
            values = before.history[before.history.initial].candidate
            self.problem = replace(self.problem, space=self.problem.space.starting(values))
        if self.custody is not None:
            self.custody.run = before.gate.standing.get("id", self.custody.run)
        changed = refusals.check_changes(before, self.problem, accept_change)
        if before.ended is not None and not changed and not changes.get("budget"):
            result = Result.of(before, folder)
            if not result.saved:  # it was cut off between its last event and its summary
                return await self._kept(result)
            raise ConfigError(
                f"the run has ended ({before.ended.reason})",
                hint=f"truegain show {folder.name} shows what it found; more budget continues it: --evaluations N",
            )
        more: list[Event] = []
        if changed:
            more.append(EpochStarted(before.epoch + 1, self.problem.fingerprints, self.problem.to_json(), changed))
        with contextlib.closing(Journal(folder)) as journal:
            # The journal holds a server's address without its credentials; what the caller gives goes first.
            server = self.settings.base_url or before.settings.base_url
            settings = replace(before.settings.placed(self.settings), base_url=server)
            run = self._make(journal, settings, before.seed)
            if self.sandbox and self.sandbox != before.origin.get("sandbox"):
                changes["sandbox"] = dict(self.sandbox)
            run.resume(RunResumed(changes), *more)
            await run.prepare()
            return await self._drive(run, folder, hold)

    def _make(self, journal: Journal, settings: Settings | None = None, seed: int | None = None) -> Run:
        settings = settings or self.settings
        proposer = load(settings.proposer, self.problem.folder)
        executor = self.make_executor(settings)
        spoken = talks(proposer) and "propose" in settings.models
        asked = uses(self.problem.evaluator)
        use = self.models(settings, self.seed if seed is None else seed, spoken) if spoken or asked else None
        checks, context = self._checks()
        return Run(
            journal,
            self.problem,
            executor,
            proposer,
            use,
            observers=self.observers,
            custody=self.custody,
            checks=checks,
            check_context=context,
        )

    def make_executor(self, settings: Settings) -> Executor:
        """Where the evaluations of this problem run."""
        return doors.executor(self.problem, settings, self.env) if self.executor is None else self.executor

    def models(self, settings: Settings, seed: int, spoken: bool = True) -> Callable[[Recorder], Llm]:
        """Makes the door to the models, for a run or another recorder.

        Args:
            settings: Which models.
            seed: Of the run.
            spoken: Whether the proposer asks; else its model is neither connected to nor loaded.
        """
        given, progress = self.model, self.progress
        return doors.models(self.problem, settings, seed, spoken=spoken, given=given, progress=progress)

    def measuring(self, usd: float | None = None) -> contextlib.AbstractAsyncContextManager[Measuring]:
        """Where evaluations outside of a run are made, and what models they ask is paid; see `agent.paying`."""
        return measuring(self, usd)

    async def _drive(self, run: Run, folder: Path, hold: Callable[[Run], Any] | None) -> Result:
        steering = Steering(run)
        async with serving(steering, folder) if self.service else contextlib.nullcontext():
            with obeying(steering):
                if hold is not None:
                    hold(run)
                try:
                    await run.drive()
                finally:
                    await run.close()
        # What an open run has spent on an exam is nobody's business: it is told what the search may know.
        result = Result.of(run.state, folder) if run.state.ended is not None else load_result(folder)
        return await self._kept(result)

    async def _kept(self, result: Result) -> Result:
        """A result with its files written."""
        if result.status != "open":
            found = await asyncio.to_thread(wholeset.compute, result.folder, self.problem, result.initial, result.best)
            if found is not None:
                result.keep_whole(found)
        result.save()
        return result
