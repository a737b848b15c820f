"""Puts a run together: journal, executor, proposer and models. The API and the command line use this."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import AgentError, ConfigError, RunChanged
from agent.evaluation import Executor
from agent.events import EpochStarted, Event, RunResumed, RunStarted, StopRequested
from agent.gate import exam
from agent.journal import Journal
from agent.ledger import Budget
from agent.loop import Observer, Run
from agent.problem import Problem
from agent.proposers.base import TABLE, load
from agent.redact import redact
from agent.result import Result, load_state
from agent.settings import Settings

if TYPE_CHECKING:
    from agent.llm.gateway import Llm
    from agent.llm.types import Adapter

SHOWN_VERSIONS = ("truegain", "openai", "anthropic", "xllamacpp", "numpy")


@dataclass
class Session:
    """Everything a run needs besides its journal.

    Args:
        problem: With its evaluator.
        settings: Who proposes, how much at once, how strict.
        budget: Limits.
        seed: Of all random numbers.
        model: A model object to use instead of `settings.models`, as `agent.llm.scripted` gives one.
        executor: An executor to use instead of what fits the evaluator.
        observers: Told of every event.
        progress: Told how far a download of weights is: bytes so far, bytes in all (0: unknown), a sentence.
        env: Environment variables for the evaluator's processes.
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

    def check(self) -> None:
        """Refuse what cannot work, before anything is spent.

        Raises:
            ConfigError: No limit at all, or a budget that cannot pay for the baseline and the exam.
        """
        if self.budget.evaluations is None and self.budget.seconds is None:
            # Limits on the model alone do not end a search: the classical proposers go on without it.
            raise ConfigError(
                "neither evaluations nor seconds are limited, so the search would never end",
                hint="set budget.evaluations or budget.seconds (on the command line: --evaluations 100)",
            )
        if self.budget.evaluations is not None:
            held = exam.reserve(self.problem, self.settings.exam_pairs)
            rows = max(1, len(self.problem.data))
            baseline = rows * (1 if self.problem.deterministic else self.settings.baseline)
            need = held + baseline + rows
            if self.budget.evaluations < need:
                raise ConfigError(
                    f"{self.budget.evaluations} evaluations cannot pay for a run: the initial candidate takes"
                    f" {baseline}" + (f", the final exam {held}" if held else "") + f", and one new candidate {rows}",
                    hint=f"allow at least {need} evaluations" + (", or lower gate.exam_pairs" if held else ""),
                )
        initial = self.problem.initial().values_json
        if redact(initial) != initial:
            raise ConfigError(
                "the initial candidate holds what looks like a key or a credential, and the journal would mask it",
                hint="take it out of the space: the evaluator can read it from its environment",
            )
        load(self.settings.proposer)
        if self.settings.proposer in TABLE and not self.problem.space.numeric:
            raise ConfigError(
                f"the proposer {self.settings.proposer!r} changes numbers and choices, and the space has none",
                hint="add a float, int or categorical parameter, or name a proposer of your own as module:attr",
            )

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
        )

    @contextlib.contextmanager
    def _journal(self, folder: Path) -> Iterator[Journal]:
        journal = Journal(folder)
        try:
            yield journal
        finally:
            journal.close()

    async def run(self, folder: Path, hold: Callable[[Run], Any] | None = None) -> Result:
        """A new run in `folder`.

        Args:
            folder: Must not hold a run yet.
            hold: Is given the run before it is driven, to stop it from outside.

        Raises:
            ConfigError, PrerequisiteError, StoreError, RunLocked: See there.
        """
        self.check()
        new = not folder.exists()
        with self._journal(folder) as journal:
            try:
                run = self._make(journal)
                run.start(self.started(folder.name))
                await run.prepare()
            except AgentError:
                if new:  # nothing was measured: there is no run to keep
                    shutil.rmtree(folder, ignore_errors=True)
                raise
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
        before = load_state(folder)
        changed = [k for k, v in self.problem.fingerprints.items() if before.fingerprints.get(k) != v]
        if changed and not accept_change:
            raise RunChanged(
                f"the {' and the '.join(changed)} changed since the run began, so its measurements no longer apply",
                hint="undo the change (repeat each --set of the run), start a new run, "
                "or resume with --accept-change to go on from the champion",
            )
        if before.ended is not None and not changed and not (changes or {}).get("budget"):
            result = Result.of(before, folder)
            if not result.saved:  # it was cut off between its last event and its summary
                result.save()
                return result
            raise ConfigError(
                f"the run has ended ({before.ended.reason})",
                hint=f"truegain show {folder.name} shows what it found; more budget continues it: --evaluations N",
            )
        more: list[Event] = []
        if changed:
            more.append(EpochStarted(before.epoch + 1, self.problem.fingerprints, self.problem.to_json(), changed))
        with self._journal(folder) as journal:
            # The journal holds a server's address without its credentials; what the caller gives goes first.
            server = self.settings.base_url or before.settings.base_url
            run = self._make(journal, replace(before.settings, base_url=server), before.seed)
            run.resume(RunResumed(dict(changes or {})), *more)
            await run.prepare()
            return await self._drive(run, folder, hold)

    def _make(self, journal: Journal, settings: Settings | None = None, seed: int | None = None) -> Run:
        settings = settings or self.settings
        proposer = load(settings.proposer)
        executor = self.make_executor(settings)
        use = self._llm(settings, self.seed if seed is None else seed) if proposer.needs_model else None
        return Run(journal, self.problem, executor, proposer, use, observers=self.observers)

    def make_executor(self, settings: Settings) -> Executor:
        """Where the evaluations of this problem run."""
        if self.executor is not None:
            return self.executor
        from agent.executors.select import executor_for

        exclusive = self.problem.evaluator.exclusive
        return executor_for(
            self.problem.evaluator,
            workers=1 if exclusive else settings.workers,
            isolate=settings.isolate,
            kind=settings.executor,  # type: ignore[arg-type]
            env=self.env,
        )

    def _llm(self, settings: Settings, seed: int) -> Callable[[Run], Llm]:
        def connect(name: str) -> Adapter:
            if self.model is not None:
                scripted: Adapter = self.model
                return scripted
            from agent.llm.connect import connect as by_name

            if name.startswith("local:"):
                return by_name(name, options={"progress": self.progress})
            mine = settings.base_url is not None and name.startswith("openai")
            return by_name(name, options={"base_url": settings.base_url} if mine else {})

        def make(run: Run) -> Llm:
            from agent.llm.gateway import Llm

            return Llm(run, settings.models, connect, self.problem.prices, seed)

        return make

    async def _drive(self, run: Run, folder: Path, hold: Callable[[Run], Any] | None) -> Result:
        with _signals(run):
            if hold is not None:
                hold(run)
            try:
                await run.drive()
            finally:
                await run.close()
        result = Result.of(run.state, folder)
        result.save()
        return result


@contextlib.contextmanager
def _signals(run: Run) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM finishes what is in flight and saves; the second one stops at once."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    seen: list[int] = []

    def stop(number: int) -> None:
        seen.append(number)
        if len(seen) == 1:
            reason = "interrupted" if number == signal.SIGINT else "terminated"
            run.record(StopRequested(reason, "finishing what is in flight; once more stops at once"))
        elif task is not None:
            task.cancel()

    numbers = [signal.SIGINT, signal.SIGTERM]
    try:
        for number in numbers:
            loop.add_signal_handler(number, stop, number)
    except (ValueError, RuntimeError, NotImplementedError):  # not the main thread: the caller's signals stay theirs
        numbers = []
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def versions() -> dict[str, str]:
    """Versions of what a result may depend on."""
    out = {"python": platform.python_version(), "platform": sys.platform}
    for name in SHOWN_VERSIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            out[name] = metadata.version(name)
    return out
