"""A proposer measures while it works: paid exactly, compared with nothing, and found again by its key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.errors import AgentError, BudgetExceeded
from agent.evaluators.function import FunctionEvaluator
from agent.events import Event, StopRequested
from agent.gate.checks import Check
from agent.goals import Objective
from agent.ledger import Budget
from agent.llm.scripted import Scripted
from agent.loop import Run
from agent.problem import Example, Problem
from agent.proposers.base import Context, Proposal
from agent.replay import Replay, compare, replay
from agent.results.result import load_result
from agent.space import Space
from agent.texts import Code
from tests.row_support import ACCURACY, answered, rows
from tests.row_support import problem as problem_on
from tests.row_support import run as run_on
from tests.row_support import session as session_on
from tests.support import Direct, entries, loss, noisy, problem, session

TOLD: list[Any] = []
"""What the looks of a test gave, in order."""
PLAN: list[Callable[[Context], Any]] = []
"""What the proposer of a test does in its first decision; it then proposes nothing new."""


class Looker:
    """Does what the test says, once, and proposes x = 0 after it."""

    name = "looker"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        context.exhausted = True
        for act in PLAN:
            try:
                TOLD.append(await act(context))
            except (AgentError, ValueError) as error:
                TOLD.append(error)
        return [Proposal({**context.champion.values_json, "x": 0.0}, self.name)]

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 0, 0, 0


LOOKER = "tests.test_looks:Looker"


@pytest.fixture(autouse=True)
def _fresh() -> None:
    TOLD.clear()
    PLAN.clear()


def at(context: Context, x: float) -> dict[str, Any]:
    return {**context.champion.values_json, "x": x}


def looks(x: float, key: str, examples: tuple[str, ...] = ()) -> Callable[[Context], Any]:
    return lambda context: context.look(at(context, x), examples, key=key)


def events(folder: Path, *types: str) -> list[Any]:
    return [entry.event for entry in entries(folder) if entry.event.type in types]


def stages(folder: Path) -> list[str]:
    return [event.stage for event in events(folder, "evaluation.started")]


async def replays(folder: Path) -> bool:
    return all([(await replay(folder, workers))[1] is None for workers in (1, 4)])


async def test_a_look_is_paid_and_no_candidate(tmp_path: Path) -> None:
    PLAN.append(looks(0.2, "a"))
    result = await session(proposer=LOOKER, budget=Budget(evaluations=20)).run(tmp_path / "run")
    (found,) = TOLD
    assert found.values["x"] == 0.2 and found.mean == {"value": pytest.approx(loss(found.values))}
    assert [row.example for row in found.rows] == [None]
    assert stages(tmp_path / "run").count("look") == 1
    assert result.spent["evaluations"] == len(stages(tmp_path / "run")), "it is charged as any other"
    assert found.candidate not in {trial.id for trial in result.trials}
    assert await replays(tmp_path / "run")


async def test_looking_at_a_candidate_changes_nothing_of_it(tmp_path: Path) -> None:
    """On a noisy problem a look at the champion is a measurement of its own, and its mean stays as it was."""
    PLAN.append(lambda context: context.look(context.champion.values_json, key="again"))
    chosen = session(problem=problem(noisy, deterministic=False), proposer=LOOKER, budget=Budget(evaluations=60))
    await chosen.run(tmp_path / "run")
    (found,) = TOLD
    initial = load_result(tmp_path / "run").trials[0]
    races = [e for e in events(tmp_path / "run", "evaluation.started") if e.candidate == initial.id]
    counted = sum(e.purpose == "search" and e.stage != "look" for e in races)
    assert found.candidate == initial.id and initial.count == counted
    (look,) = [e for e in races if e.stage == "look"]
    assert look.seed not in {e.seed for e in races if e is not look}
    assert await replays(tmp_path / "run")


async def test_what_is_known_costs_nothing(tmp_path: Path) -> None:
    PLAN.append(lambda context: context.look(context.champion.values_json, key="champion"))
    PLAN.append(looks(0.2, "first"))
    PLAN.append(looks(0.2, "second"))
    PLAN.append(lambda context: asyncio.gather(*(looks(0.4, key)(context) for key in ("side", "by side"))))
    await session(proposer=LOOKER, workers=4).run(tmp_path / "run")
    champion, first, second, (side, by_side) = TOLD
    assert champion.mean == {"value": pytest.approx(loss(champion.values))}
    assert first == second and side == by_side
    assert stages(tmp_path / "run").count("look") == 2, "0.2 and 0.4 once each, and the champion not at all"
    assert len(events(tmp_path / "run", "look.asked")) == 5
    assert await replays(tmp_path / "run")


def program(candidate: Any, example: Any) -> tuple[float, str]:
    return float(len(candidate["code"])), f"row {example['number']} went so"


@pytest.mark.parametrize("refused", [False, True])
async def test_a_program_that_was_measured_is_no_duplicate_of_itself(tmp_path: Path, refused: bool) -> None:
    """OptoPrime looks at the champion on the rows of a suite, whose results are known."""
    asked: list[str] = []

    def reply(request: Any) -> str:
        asked.append(request.messages[0].text)
        return json.dumps({"reasoning": "", "changes": {"code": f"def run():\n    return {len(asked)}\n"}})

    given = Problem(
        name="suite",
        space=Space({"code": Code("def run():\n    return None\n", entry="run")}),
        evaluator=FunctionEvaluator(program, names=("value",)),
        objectives=(Objective("value"),),
        deterministic=True,
        data=tuple(replace(row, split="train") for row in rows(4)),
    )
    no = [Check("no", lambda candidate, _: "never" if "None" in str(candidate["code"]) else "")] if refused else []
    made = session(problem=given, proposer="optoprime", model=Scripted(reply), budget=Budget(evaluations=40), checks=no)
    await made.run(tmp_path / "run")
    assert asked and ("row row-" in asked[0]) == (not refused)
    assert not [event.error for event in events(tmp_path / "run", "proposal.ended") if event.error]
    (first, *_) = events(tmp_path / "run", "look.asked")
    assert first.check == ("no: never" if refused else "")
    assert await replays(tmp_path / "run")


async def test_on_a_noisy_problem_each_look_measures_and_its_key_gives_the_seed(tmp_path: Path) -> None:
    PLAN.extend([looks(0.2, "a"), looks(0.2, "b"), looks(0.2, "a")])
    seen = []
    for name in ("one", "two"):
        TOLD.clear()
        chosen = session(problem=problem(noisy, deterministic=False), proposer=LOOKER, budget=Budget(evaluations=60))
        await chosen.run(tmp_path / name)
        first, other, again = TOLD
        assert first == again != other, "a key gives what is there"
        assert stages(tmp_path / name).count("look") == 2
        seen.append([e.seed for e in events(tmp_path / name, "evaluation.started") if e.stage == "look"])
    assert seen[0] == seen[1] and len(set(seen[0])) == 2


@pytest.mark.parametrize("workers", [1, 4])
async def test_the_search_share_holds_to_the_last_evaluation(tmp_path: Path, workers: int) -> None:
    """24 evaluations of 60 are the exam's, one is what is proposed, and no look gets one of them."""
    every = [looks(number / 100, f"look {number}") for number in range(60)]
    PLAN.append(lambda context: asyncio.gather(*(look(context) for look in every), return_exceptions=True))
    chosen = session(
        problem=problem(noisy, deterministic=False), proposer=LOOKER, budget=Budget(evaluations=60), workers=workers
    )
    await chosen.run(tmp_path / "run")
    good = [found for found in TOLD[0] if not isinstance(found, Exception)]
    assert 0 < len(good) < 60 and stages(tmp_path / "run").count("look") == len(good)
    assert all(isinstance(error, BudgetExceeded) for error in TOLD[0][len(good) :])
    assert len([e for e in events(tmp_path / "run", "evaluation.started") if e.purpose == "search"]) == 36
    refused = [e.refused for e in events(tmp_path / "run", "look.asked") if e.refused]
    assert set(refused) == {"it takes 1 evaluation, and 0 are left for looks"}, "the events say why"
    assert len(refused) == 60 - len(good)
    assert await replays(tmp_path / "run")


async def test_a_look_that_does_not_fit_measures_nothing_at_all(tmp_path: Path) -> None:
    data = tuple(Example(f"row-{number}", {"number": number}) for number in range(12))

    def measure(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
        return abs(candidate["x"] - row["number"] / 20)

    suite = problem(measure, data=data, target="suite")
    PLAN.extend([looks(0.1, "all"), looks(0.2, "too many"), looks(0.3, "two", ("row-3", "row-1", "row-3"))])
    chosen = session(problem=suite, proposer=LOOKER, budget=Budget(evaluations=44))
    await chosen.run(tmp_path / "run")
    whole, refused, two = TOLD
    assert len(whole.rows) == 12 and isinstance(refused, BudgetExceeded)
    assert "takes 12 evaluations" in refused.message
    assert [row.example for row in two.rows] == ["row-3", "row-1"]
    assert stages(tmp_path / "run").count("look") == 14
    assert await replays(tmp_path / "run")


async def test_an_exclusive_evaluator_measures_looks_alone(tmp_path: Path) -> None:
    PLAN.append(lambda context: asyncio.gather(*(looks(n / 10, f"look {n}")(context) for n in range(6))))
    chosen = session(problem=problem(exclusive=True), proposer=LOOKER, workers=4)
    assert isinstance(chosen.executor, Direct)
    chosen.executor.pause = 0.002
    await asyncio.wait_for(chosen.run(tmp_path / "run"), 60)
    assert chosen.executor.most == 1
    assert len(TOLD[0]) == 6
    assert await replays(tmp_path / "run")


def test_a_look_goes_to_its_end_where_hopeless_measurements_are_stopped(tmp_path: Path) -> None:
    """It gets the full effort, and no learning curve ends it: nobody said that it should win."""
    from agent import Fidelity, Float, optimize

    def curve(candidate: Mapping[str, Any], fidelity: float, partial: Callable[[Any], None]) -> float:
        for step in range(1, 21):
            partial({"value": candidate["x"] + 1 / step, "step": step, "of": 20})
        return float(candidate["x"])

    PLAN.append(lambda context: context.look({"x": 0.99}, key="poor"))
    result = optimize(
        curve,
        space={"x": Float(0, 1, default=0.5)},
        fidelity=Fidelity(1.0, stop=True),
        deterministic=True,
        model=None,
        budget=12,
        runs=tmp_path,
        options={"proposer": LOOKER, "executor": "inline"},
    )
    assert result.exit_code == 0
    assert TOLD[0].mean == {"value": 0.99}


async def test_several_slots_measure_several_looks(tmp_path: Path) -> None:
    PLAN.append(lambda context: asyncio.gather(*(looks(n / 10, f"look {n}")(context) for n in range(6))))
    chosen = session(proposer=LOOKER, workers=3)
    assert isinstance(chosen.executor, Direct)
    chosen.executor.pause = 0.01
    await asyncio.wait_for(chosen.run(tmp_path / "run"), 60)
    assert chosen.executor.most == 3


async def test_what_cannot_be_measured_is_said_and_nothing_is_spent(tmp_path: Path) -> None:
    def no_threes(candidate: Mapping[str, Any], context: Any) -> str:
        return "x is 0.3" if candidate["x"] == 0.3 else ""

    PLAN.extend([looks(7.0, "a"), lambda c: c.look({"x": 0.1}, key="b"), looks(0.1, "c", ("row-1",)), looks(0.3, "d")])
    PLAN.append(lambda c: c.look({**at(c, 0.1), "kind": "sk-proj-" + "a1B2" * 12}, key="e"))
    chosen = session(proposer=LOOKER, checks=(Check("threes", no_threes),))
    await chosen.run(tmp_path / "run")
    outside, missing, row, checked, secret = TOLD
    assert isinstance(outside, ValueError) and isinstance(missing, ValueError) and isinstance(secret, ValueError)
    assert "there is no row 'row-1'" in str(row)
    assert "threes: x is 0.3" in str(checked)
    assert "look" not in stages(tmp_path / "run")
    (asked,) = events(tmp_path / "run", "look.asked")
    assert asked.check == "threes: x is 0.3", "what a check refused is an event"
    assert await replays(tmp_path / "run")


async def test_one_key_cannot_name_two_looks(tmp_path: Path) -> None:
    PLAN.extend([looks(0.1, "a"), looks(0.2, "a")])
    await session(proposer=LOOKER).run(tmp_path / "run")
    assert "give each look its own key" in getattr(TOLD[1], "hint", "")


async def test_a_failure_is_told_and_has_no_mean(tmp_path: Path) -> None:
    def picky(candidate: Mapping[str, Any]) -> float:
        if candidate["x"] < 0:
            raise ValueError("no value below zero")
        return loss(candidate)

    PLAN.append(looks(-0.5, "a"))
    await session(problem=problem(picky), proposer=LOOKER).run(tmp_path / "run")
    (row,) = TOLD[0].rows
    assert TOLD[0].mean is None and row.values is None and "no value below zero" in row.failure


def test_rows_that_were_looked_at_count_as_read(tmp_path: Path) -> None:
    PLAN.append(looks(0.2, "a", ("row-1", "row-2")))
    PLAN.append(lambda context: context.look(context.champion.values_json, key="no rows"))
    data = [*rows(60), *rows(40, start=60, split="val")]
    PLAN.append(looks(0.2, "val", ("row-70",)))
    found = run_on(tmp_path / "run", answered, data, budget=400, proposer=LOOKER)
    look, no_rows, val = TOLD
    assert look.mean is not None and set(look.mean) == {ACCURACY.name} and len(look.rows) == 2
    assert "names the rows" in str(no_rows) and "there is no row 'row-70'" in str(val)
    (admitted,) = found.of("candidate.admitted")
    assert admitted.read == ["row-1", "row-2"]
    assert found.replays((1, 4))


async def test_the_end_of_the_search_ends_looks_that_wait(tmp_path: Path) -> None:
    """The user stops the search while a look with many rows is half way: what is in flight is finished."""
    data = tuple(Example(f"row-{number}", {"number": number}) for number in range(10))
    holder: list[Run] = []

    def measure(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
        if candidate["x"] == 0.1 and row["number"] == 4 and holder[0].state.stop is None:
            holder[0].record(StopRequested("seconds", "enough"))
        return float(row["number"])

    PLAN.append(looks(0.1, "all"))
    chosen = session(
        problem=problem(measure, data=data, target="suite"), proposer=LOOKER, budget=Budget(evaluations=80)
    )
    await asyncio.wait_for(chosen.run(tmp_path / "run", holder.append), 60)
    assert isinstance(TOLD[0], BudgetExceeded) and "enough" in TOLD[0].message
    started, ended = (len(events(tmp_path / "run", f"evaluation.{word}")) for word in ("started", "ended"))
    assert started == ended < 20
    assert await replays(tmp_path / "run")


async def test_a_look_waits_for_a_resume_when_the_run_is_interrupted(tmp_path: Path) -> None:
    data = tuple(Example(f"row-{number}", {"number": number}) for number in range(10))
    holder: list[Run] = []

    def measure(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
        if candidate["x"] == 0.1 and row["number"] == 4 and not holder[0].state.resumes:
            holder[0].record(StopRequested("interrupted"))
        return float(row["number"])

    def fresh() -> Any:
        return session(
            problem=problem(measure, data=data, target="suite"), proposer=LOOKER, budget=Budget(evaluations=80)
        )

    PLAN.append(looks(0.1, "all"))
    await asyncio.wait_for(fresh().run(tmp_path / "run", holder.append), 60)
    assert not TOLD, "the proposer was let go"
    holder.clear()
    chosen = fresh()
    await asyncio.wait_for(chosen.resume(tmp_path / "run", hold=holder.append), 60)
    (found,) = TOLD
    assert [row.values for row in found.rows] == [{"value": float(number)} for number in range(10)]
    asked = [request.example for request in chosen.executor.requests if request.candidate["x"] == 0.1]
    assert asked == [f"row-{number}" for number in range(5, 10)], "what was measured before is used"
    assert stages(tmp_path / "run").count("look") == 10
    assert await replays(tmp_path / "run")


async def test_a_paused_run_starts_no_look(tmp_path: Path) -> None:
    from agent.events import RunContinued, RunPaused

    holder: list[Run] = []
    order: list[str] = []

    async def paused(context: Context) -> Any:
        holder[0].record(RunPaused())
        task = asyncio.ensure_future(context.look(at(context, 0.1), key="a"))
        for _ in range(50):
            await asyncio.sleep(0)
        order.append(f"{len(events_now())} looks")
        holder[0].record(RunContinued())
        return await task

    def events_now() -> list[Event]:
        return [e for e in holder[0].state.evaluations.values() if e.stage == "look"]

    PLAN.append(paused)
    await asyncio.wait_for(session(proposer=LOOKER).run(tmp_path / "run", holder.append), 60)
    assert order == ["0 looks"] and TOLD[0].mean
    assert await replays(tmp_path / "run")


async def test_a_trace_is_what_was_known_at_the_decision(tmp_path: Path) -> None:
    """Traces stay in the journal: they are read there, by the number of the evaluation."""
    chosen = session(proposer=LOOKER)
    chosen.executor = Traced(chosen.problem)
    PLAN.append(lambda context: context.trace(context.champion.id))
    PLAN.append(looks(0.2, "a"))
    PLAN.append(lambda context: context.trace(TOLD[1].candidate))
    PLAN.append(lambda context: context.trace("nobody"))
    await chosen.run(tmp_path / "run")
    champion, look, later, nobody = TOLD
    assert champion.notes == ("x = 0.9",)
    assert look.rows[0].trace.notes == ("x = 0.2",), "a look brings its own"
    assert later is None, "it was measured after the decision"
    assert nobody is None
    assert await replays(tmp_path / "run")


async def test_the_row_of_a_trace_counts_as_read(tmp_path: Path) -> None:
    async def both(context: Context) -> Any:
        any_row = await context.trace(context.champion.id)
        (row,) = context.reads
        return any_row, await context.trace(context.champion.id, row), await context.trace(context.champion.id, "row-x")

    PLAN.append(both)
    chosen = session_on(problem_on(answered, rows(60)), 400, proposer=LOOKER)
    chosen.executor = Traced(chosen.problem)
    await chosen.run(tmp_path / "run")
    ((any_row, one, none),) = TOLD
    assert any_row is not None and any_row == one and none is None
    (admitted,) = events(tmp_path / "run", "candidate.admitted")
    measured = {event.example for event in events(tmp_path / "run", "evaluation.started")}
    assert len(admitted.read) == 1 and set(admitted.read) <= measured
    assert await replays(tmp_path / "run")


class Traced(Direct):
    """An executor whose outputs tell what the program did."""

    async def submit(self, request: Any) -> Any:
        output = await super().submit(request)
        return replace(output, trace={"spans": [], "values": {}, "notes": [f"x = {request.candidate['x']}"]})


def test_what_fails_counts_in_the_mean_as_the_objective_says() -> None:
    from agent.looking import LookRow, mean

    rows = [LookRow("a", {"accuracy": 1.0}), LookRow("b", None, failure="error: no")]
    goal = Objective("accuracy", "maximize", low=0, high=1)
    assert mean(rows, {"accuracy": goal.failed}) == {"accuracy": 0.5}
    assert mean(rows, {"accuracy": None}) is None


async def test_a_replay_does_not_stop_by_its_own_clock(tmp_path: Path) -> None:
    """What the recorded times add up to between two events is no reason: that the time was up would be recorded."""
    await session(budget=Budget(evaluations=8, seconds=1000)).run(tmp_path / "run")
    known = entries(tmp_path / "run")
    late = [replace(entry, time=entry.time + 2000 * (number > 5)) for number, entry in enumerate(known)]
    assert not [entry for entry in late if getattr(entry.event, "reason", "") == "seconds"]
    assert compare(late, await Replay(late).replayed()) is None
