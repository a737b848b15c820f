"""The effect runner: it does what `decide` asks for and journals what comes back.

All state is in the journal. `record` appends an event from outside and then everything that follows
from it, so the journal's order is fixed by the order of the outside events alone. An evaluation
begins only after its `Started` event is on the disk; a model call likewise (`agent.llm.gateway`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from agent.decide import decide
from agent.effects import alone, calling
from agent.errors import AgentError
from agent.evaluating import confided, evaluate, refusal, starts_work, uses, withheld
from agent.evaluation import Executor
from agent.events import (
    CallEnded,
    CheckEnded,
    CheckStarted,
    EvaluationEnded,
    EvaluationStarted,
    Event,
    ProposalStarted,
    RunResumed,
    RunStarted,
    StopRequested,
)
from agent.journal import Journal, read
from agent.ledger import Ledger
from agent.moments import Moment, fold, lean, replies
from agent.problem import Problem
from agent.proposers.base import Proposer
from agent.proposing import propose
from agent.rehearsal import rehearse
from agent.space import Candidate
from agent.state import State
from agent.waits import Waits, until_deadline

if TYPE_CHECKING:
    from agent.gate.checks import Check
    from agent.gate.checks import Context as CheckContext
    from agent.gate.custody import Custody
    from agent.llm.gateway import Llm

Observer = Callable[[Event, State], None]
"""Called after each event was folded; for displays. It must not raise."""

QUIET = 0.005
"""Seconds after which what was recorded is made durable although nothing waits for it."""


LEAVE = 3.0
"""Seconds that the reply of a model call under way is waited for after the end; it is paid, and nobody needs it."""


def steady() -> Callable[[], float]:
    """A clock of seconds since 1970 that goes evenly from now on: a step of the machine's own spends nothing."""
    began = time.time() - time.monotonic()
    return lambda: began + time.monotonic()


class Run:
    """One optimization in its folder, from the first event or from where it was cut off.

    Args:
        journal: Opened for writing. Empty: call `start`. Otherwise: `resume`.
        problem: With its evaluator and rows.
        executor: Where evaluations run.
        proposer: Who proposes.
        llm: Model calls; None when the proposer needs none. Given the run, it journals and pays through it.
        clock: Seconds since 1970; None for `steady`.
        observers: Told of every event.
        custody: The accounts of held-out rows, where there are any.
        checks: What a candidate must pass beyond the space's own rules, and
        check_context: what those checks know.
    """

    def __init__(
        self,
        journal: Journal,
        problem: Problem,
        executor: Executor,
        proposer: Proposer,
        llm: Callable[[Run], Llm] | None = None,
        clock: Callable[[], float] | None = None,
        observers: Iterable[Observer] = (),
        custody: Custody | None = None,
        checks: Iterable[Check] = (),
        check_context: CheckContext | None = None,
    ) -> None:
        self.custody = custody
        self.checks = tuple(checks)
        self.check_context = check_context
        self.journal = journal
        self.problem = problem
        self.executor = executor
        self.proposer = proposer
        self.clock = clock or steady()
        self.observers = tuple(observers)
        self.state: State
        self.rows = {example.id: example.row for example in problem.data}
        self._train = {example.id: example.row for example in problem.split("train")}
        self._replies: dict[tuple[str, str, int], CallEnded] = {}
        self.llm = llm(self) if llm is not None else None
        """The door to the models, where there are any."""
        self._launch: list[tuple[Event, Moment | None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._error: BaseException | None = None
        self._leaving = False
        self._places: dict[int, int] = {}
        """Where the journal has the ends of the search's evaluations."""
        self.waits = Waits(self._wake.set)

    @property
    def ledger(self) -> Ledger:
        return self.state.ledger

    def next_call(self) -> int:
        """The number of the next model call."""
        return self.state.next_call

    def recorded(self, scope: str, key: str, ordinal: int) -> CallEnded | None:
        """The reply of a model call that was paid for before this process."""
        return self._replies.get((scope, key, ordinal))

    def withheld(self, scope: str) -> dict[str, float]:
        """What a call must leave; see `agent.evaluating.withheld`."""
        return withheld(self.state, scope)

    async def flush(self) -> None:
        """Return when everything recorded is durable."""
        await self.journal.flush()

    async def turn(self, event: str, *key: object) -> None:
        """Wait until an outside event may be recorded. Live, that is at once; a replay keeps the recorded order."""

    async def rest(self) -> None:
        """Wait before another step of a proposal; see `Waits.rest`."""
        await self.waits.rest(self.state)

    async def alone(self) -> None:
        """Wait before a look; see `agent.effects.alone`."""
        await alone(self)

    def calling(self) -> contextlib.AbstractAsyncContextManager[None]:
        """While a proposal calls a model; see `agent.effects.calling`."""
        return calling(self)

    async def stored(self, evaluation: int) -> EvaluationEnded:
        """The end of an evaluation of the search, with all of its output."""
        before = self._places[evaluation] - 1
        found = await asyncio.to_thread(lambda: next(read(self.journal.folder, after=before), None))
        if found is None:  # it is not on the disk yet
            await self.flush()
            found = await asyncio.to_thread(lambda: next(read(self.journal.folder, after=before), None))
        assert found is not None and isinstance(found.event, EvaluationEnded)
        return found.event

    def record(self, event: Event) -> None:
        """Append an event from outside, and all that follows from it."""
        self._append(confided(self.state, event))
        self.settle()
        self._wake.set()
        self.waits.changed()

    def settle(self) -> None:
        """Append all that follows from what is recorded."""
        while following := decide(self.state):
            for event in following:
                self._append(event)

    def _append(self, event: Event, time: float | None = None) -> None:
        now = self.clock() if time is None else time
        event = self.journal.append(event, now)
        self.state.apply(event, now)
        if isinstance(event, ProposalStarted):
            self._launch.append((event, Moment.of(self.state)))
        elif self._starts_work(event):
            self._launch.append((event, None))
        elif isinstance(event, EvaluationEnded) and event.purpose == "search":
            self._places[event.id] = self.journal.place
        for observer in self.observers:
            observer(event, self.state)

    @staticmethod
    def _starts_work(event: Event) -> bool:  # a replay says otherwise
        return starts_work(event)

    # Beginning, going on, ending.

    def start(self, started: RunStarted) -> None:
        """Begin a new run."""
        now = self.clock()
        stored = self.journal.append(started, now)
        assert isinstance(stored, RunStarted)
        self.state = State(stored, now)
        for observer in self.observers:
            observer(stored, self.state)
        if self.custody is not None:
            self._append(self.custody.fixed())

    def resume(self, event: RunResumed, *more: Event) -> None:
        """Fold the journal and take up what was in flight; `event` says what the user changed.

        Args:
            event: Recorded first.
            more: Recorded after it, such as the start of a new epoch.
        """
        known = [lean(entry) for entry in self.journal.entries()]
        ends = (entry for entry in known if isinstance(entry.event, EvaluationEnded))
        self._places = {e.event.id: e.seq for e in ends if e.event.purpose == "search"}  # type: ignore[attr-defined]
        self.state, moments = fold(known)
        self._replies = replies(known)
        for started in self.state.proposals.values():
            self._launch.append((started, moments[started.id]))
        self._launch.extend((started, None) for started in self.state.evaluations.values())
        self._launch.extend((event, None) for event in self.state.unanswered())
        while following := decide(self.state):  # what the journal, if it was cut off in between, does not have yet
            for due in following:
                self._append(due, self.state.last)  # the time between two sessions is nobody's work
        if self.state.ended is not None and not event.changes and not more:
            return  # it was cut off just before its last event, which stays the last
        for extra in (event, *more):
            self._append(extra)
            if extra.type == "epoch.started":
                self._launch.clear()
                if self.custody is not None:
                    self._append(self.custody.fixed())

    async def prepare(self) -> None:
        """Find out what would stop the run before anything is measured: missing packages, keys, weights, prices.

        Weights are fetched and loaded here.

        Raises:
            PrerequisiteError, ConfigError, ProviderError: Say how to mend it.
            EvaluatorError: The evaluator's judge is of no use; see `agent.rehearsal`.
        """
        if self.llm is not None:
            self.llm.check()
            await self.llm.start()
        if (ready := getattr(self.executor, "ready", None)) is not None:
            await ready()
        await rehearse(self)

    async def drive(self) -> State:
        """Run until the end, or until a halt (interruption, provider) lets nothing more be in flight.

        Raises:
            StoreError: The journal cannot be written any more; what was committed is safe.
        """
        if not self.state.ended:
            self.settle()
        try:
            while True:
                if self._launch:
                    await self._start_effects()
                    continue
                if self._error is not None:
                    raise self._error
                if self.finished:
                    break
                await self._rest()
            await self.flush()
        finally:
            await self._abandon()
        return self.state

    async def close(self) -> None:
        """Stop the executor and the models; leaves no process behind."""
        await self.executor.close()
        if self.llm is not None:
            await self.llm.close()
        self.llm = None

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen in this process."""
        return not self._tasks and (self.state.ended is not None or self.state.halt is not None)

    @property
    def busy(self) -> bool:
        """Whether anything is in flight, or about to be."""
        return bool(self._tasks or self._launch or not self.state.idle or self.state.unanswered())

    async def _start_effects(self) -> None:
        if self._until_deadline() == 0.0:  # a fast evaluator never lets `_rest` see it
            self.record(StopRequested("seconds", "the time for the search is up"))
        launch, self._launch = self._launch, []
        # A proposal costs nothing before its first model call, which flushes for itself.
        # Nor does an evaluation that does nothing else than ask models.
        measures = not getattr(self.problem.evaluator, "only_asks", False)
        if measures and any(isinstance(event, EvaluationStarted) for event, _ in launch):
            await self.flush()
        # Evaluations first: a proposer may compute for a while, and the slots are to be busy meanwhile.
        for event, moment in sorted(launch, key=lambda item: not isinstance(item[0], EvaluationStarted)):
            if isinstance(event, EvaluationStarted):
                effect = self._evaluate(event)
            elif isinstance(event, ProposalStarted):
                assert moment is not None
                effect = propose(self, event, moment)
            elif isinstance(event, CheckStarted):
                effect = self._check(event)
            else:
                effect = self._ask_account(event)
            task = asyncio.create_task(effect, name=f"{event.type} {getattr(event, 'id', '')}")
            self._tasks.add(task)
            task.add_done_callback(self._done)
        del launch

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and self._error is None:
            self._error = task.exception()
        self._wake.set()

    async def _rest(self) -> None:
        self._wake.clear()
        self._let_go()
        if not self._tasks and not self.journal.dirty and not self.state.paused:
            raise AgentError("the run waits for nothing", hint="this is a defect; please report it with the run folder")
        wait = QUIET if self.journal.dirty else self._until_deadline()
        try:
            async with asyncio.timeout(wait):
                await self._wake.wait()
        except TimeoutError:
            if self.journal.dirty:
                await self.flush()
            elif self._until_deadline() == 0.0:
                self.record(StopRequested("seconds", "the time for the search is up"))

    def _let_go(self) -> None:
        """A run that is over waits for no proposal; and one that rests, or searches no more, for no batch of calls.

        A batch may take a day. A proposal that waits for what will not come in this process is let go too.
        """
        state = self.state
        waits = self.waits.parked or (state.halt is not None and state.looks.waiting)
        if waits and (state.halt or state.ended) and not state.calls and not state.evaluations:
            self._cancel(ProposalStarted)
        if self.llm is None:
            return
        if self.llm.batched and self.state.stop is not None and self.state.halt is None:
            self.llm.give_up()
        if self.state.ended is not None:
            if not self._leaving:
                self._leaving = True
                asyncio.get_running_loop().call_later(LEAVE, self._cancel, ProposalStarted)
        elif self.llm.batched and self.state.halt is not None:  # a resume takes the results
            self._cancel(ProposalStarted)
            if uses(self.problem.evaluator):
                self._cancel(EvaluationStarted)

    def _cancel(self, kind: type[Event]) -> None:
        for task in self._tasks:
            if task.get_name().startswith(kind.type):
                task.cancel()

    def _until_deadline(self) -> float | None:
        return until_deadline(self.state, self.clock())

    async def _abandon(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _check(self, started: CheckStarted) -> None:
        values = self.state.unchecked[0][1]["values"]
        found = await refusal(self, self.state.problem.space.candidate(values))
        self.record(CheckEnded(started.id, found.check if found else "", found.reason if found else ""))

    async def _ask_account(self, event: Event) -> None:
        """What the accounts of held-out rows say; a verdict is on the disk there before its bit is told."""
        assert self.custody is not None, "held-out rows have an account"
        await self.flush()
        self.record(await self.custody.answer(event, self.state.leaks, self.state.gate.exams))

    async def _evaluate(self, started: EvaluationStarted) -> None:
        await evaluate(self, started)

    async def carried(self, proposal: int, place: tuple[str, int, int], name: str, arguments: Any) -> bool:
        """Whether a tool was not run because its record was taken instead, as a replay does."""
        return False

    async def look_check(self, proposal: int, key: str, candidate: Candidate) -> str:
        """Name and reason of the check that refuses a candidate which a proposer wants to look at, or ""."""
        found = await refusal(self, candidate)
        return f"{found.check}: {found.reason}" if found is not None else ""

    async def row(self, proposal: int, example: str) -> Any:
        """The content of a row of train; a replay has what was recorded for the proposal."""
        return self._train[example]
