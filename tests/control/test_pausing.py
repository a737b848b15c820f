"""A pause changes no result, is nobody's work, and is understood by whoever folds the journal later."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from agent.control.server import Steering
from agent.decide import decide
from agent.events import EvaluationEnded, EvaluationStarted, RunContinued, RunPaused, StopRequested
from agent.folders import listing
from agent.journal import Journal
from agent.ledger import Budget
from agent.loop import Run
from agent.replay import Replay, compare, replay
from agent.results.result import load_state
from agent.session import Session
from agent.state import State
from tests.support import Direct, bodies, entries, noisy, problem, session

pytestmark = pytest.mark.timeout(120)  # a run that stays paused waits for ever

PAUSES = ("run.paused", "run.continued")


class Pausing(Direct):
    """Has the run paused in each of some measurements, and lets it go on when nothing is in flight."""

    def __init__(self, chosen: Any, at: range) -> None:
        super().__init__(chosen)
        self.at = at
        self.steering: Steering
        self._later: set[asyncio.Task[None]] = set()
        self.pauses = self.quiet = 0
        """How often it was paused, and how often nothing was started meanwhile."""

    def hold(self, run: Run) -> None:
        self.steering = Steering(run)

    async def submit(self, request: Any) -> Any:
        if len(self.requests) in self.at:
            self.steering.pause()
            self._later.add(asyncio.create_task(self._continue()))
        return await super().submit(request)

    async def _continue(self) -> None:
        run = self.steering.run
        while run.busy:
            await asyncio.sleep(0)
        before = len(self.requests)
        for _ in range(20):
            await asyncio.sleep(0)
        self.quiet += len(self.requests) == before and run.state.paused and run.state.ended is None
        self.pauses += 1
        self.steering.go()


def made(chosen: Any, executor: Any, **more: Any) -> Session:
    return session(problem=chosen, executor=executor, **more)


async def test_pausing_in_every_measurement_changes_no_event(tmp_path: Path) -> None:
    chosen = problem()
    await made(chosen, Direct(chosen)).run(tmp_path / "quiet")
    executor = Pausing(chosen, range(60))
    result = await made(chosen, executor).run(tmp_path / "paused", executor.hold)
    assert executor.pauses == executor.quiet == 60 and result.status == "exact"
    assert bodies(entries(tmp_path / "paused"), skip=PAUSES) == bodies(entries(tmp_path / "quiet"))
    for workers in (1, 8):
        assert (await replay(tmp_path / "paused", workers))[1] is None


async def test_a_pause_in_an_exam_goes_on_with_the_exam(tmp_path: Path) -> None:
    chosen = problem(noisy, deterministic=False)
    executor = Pausing(chosen, range(60))
    result = await made(chosen, executor, proposer="coordinate").run(tmp_path / "run", executor.hold)
    assert executor.pauses == executor.quiet == 60 and result.status != "open" and result.verdict is not None
    assert (await replay(tmp_path / "run"))[1] is None


async def test_several_workers_pause_and_replay(tmp_path: Path) -> None:
    chosen = problem(noisy, deterministic=False)
    executor = Pausing(chosen, range(5, 50, 9))
    executor.pause = 0.003
    result = await made(chosen, executor, workers=4).run(tmp_path / "run", executor.hold)
    assert result.spent["evaluations"] == 60 and executor.pauses == executor.quiet >= 3
    assert (await replay(tmp_path / "run", 4))[1] is None


async def test_a_paused_run_cut_off_at_any_event_goes_on_exactly(tmp_path: Path) -> None:
    chosen = problem()
    executor = Pausing(chosen, range(3, 40, 5))
    await made(chosen, executor, proposer="coordinate", budget=Budget(evaluations=40)).run(
        tmp_path / "run", executor.hold
    )
    whole = entries(tmp_path / "run")
    for cut in range(1, len(whole)):
        events = await Replay(whole, begin=cut).replayed()
        assert compare(whole, events) is None, f"cut after event {cut}: {whole[cut - 1].event.type}"


async def test_a_process_that_dies_in_a_pause_loses_nothing_and_a_resume_goes_on(tmp_path: Path) -> None:
    chosen = problem()
    quiet = await made(chosen, Direct(chosen), proposer="coordinate").run(tmp_path / "quiet")

    class Dies(Pausing):
        async def _continue(self) -> None:
            while self.steering.run.busy:
                await asyncio.sleep(0)
            await self.steering.run.flush()
            self.steering._task.cancel()  # type: ignore[union-attr]

    executor = Dies(chosen, range(9, 10))
    with pytest.raises(asyncio.CancelledError):
        await made(chosen, executor, proposer="coordinate").run(tmp_path / "run", executor.hold)
    state = load_state(tmp_path / "run")
    assert state.paused and not decide(state)
    assert listing(tmp_path / "run").state == "lost"
    lock = Journal(tmp_path / "run")
    assert listing(tmp_path / "run").state == "paused"
    lock.close()
    result = await made(chosen, Direct(chosen), proposer="coordinate").resume(tmp_path / "run")
    assert result.best == quiet.best and result.spent["evaluations"] == 60
    assert bodies(entries(tmp_path / "run"), skip=(*PAUSES, "run.resumed")) == bodies(entries(tmp_path / "quiet"))
    assert (await replay(tmp_path / "run"))[1] is None


def begun() -> State:
    """A state of the fold at second 100, with one measurement in flight since then."""
    started = session().started("run")
    state = State(started, 100.0)
    (event, *_) = decide(state)
    assert isinstance(event, EvaluationStarted)
    state.apply(event, 100.0)
    return state


def measured(state: State) -> EvaluationEnded:
    (number,) = state.evaluations
    return EvaluationEnded(number, "search", {"value": 1.0}, {"values": {"value": 1.0}})


def test_what_is_in_flight_is_work_and_the_rest_of_a_pause_is_not() -> None:
    state = begun()
    state.apply(RunPaused(), 102.0)
    state.apply(measured(state), 105.0)
    assert state.ledger.seconds == 5.0
    state.apply(RunContinued(), 1_000.0)
    assert state.ledger.seconds == 5.0
    state.apply(RunPaused(), 1_001.0)
    assert state.ledger.seconds == 6.0, "before the pause it was work"


def test_going_on_while_something_is_still_in_flight_leaves_no_gap() -> None:
    state = begun()
    state.apply(RunPaused(), 102.0)
    state.apply(RunContinued(), 110.0)
    state.apply(measured(state), 120.0)
    assert state.ledger.seconds == 20.0


def test_a_run_that_is_stopped_in_a_pause_does_not_pay_for_it() -> None:
    state = begun()
    state.apply(measured(state), 103.0)
    state.apply(RunPaused(), 103.0)
    state.apply(StopRequested("terminated"), 500.0)
    assert state.ledger.seconds == 3.0


async def test_the_deadline_moves_on_with_a_pause(tmp_path: Path) -> None:
    """An hour passes in the pause of a run that has a minute."""
    shift = 0.0
    chosen = problem()

    class Hour(Pausing):
        def hold(self, run: Run) -> None:
            super().hold(run)
            run.clock = lambda: time.time() + shift

        async def _continue(self) -> None:
            nonlocal shift
            while self.steering.run.busy:
                await asyncio.sleep(0)
            shift += 3600.0
            self.steering.run._wake.set()  # something else happens meanwhile, and it looks at the clock
            await asyncio.sleep(0.05)
            self.steering.go()

    executor = Hour(chosen, range(10, 12))
    limits = Budget(evaluations=60, seconds=60.0)
    result = await made(chosen, executor, budget=limits, proposer="coordinate").run(tmp_path / "run", executor.hold)
    assert shift == 7200.0 and result.reason != "seconds" and result.spent["evaluations"] == 60
    assert result.spent["seconds"] < 60 and (await replay(tmp_path / "run"))[1] is None


async def test_an_hour_that_is_no_pause_ends_the_search(tmp_path: Path) -> None:
    """The counterpart of the test above: the same clock, without a pause."""
    chosen = problem()

    class Hour(Direct):
        def hold(self, run: Run) -> None:
            run.clock = lambda: time.time() + (3600.0 if len(self.requests) > 10 else 0.0)

    executor = Hour(chosen)
    limits = Budget(evaluations=60, seconds=60.0)
    result = await made(chosen, executor, budget=limits, proposer="coordinate").run(tmp_path / "run", executor.hold)
    assert result.reason == "seconds" and result.spent["evaluations"] < 20
