"""What looks may take: never what is proposed, admitted or examined, whichever tool looks."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agent.decide import needed, search_left
from agent.errors import BudgetExceeded
from agent.events import LookAsked
from agent.ledger import Budget
from agent.llm.scripted import Scripted
from agent.llm.types import Completion, ModelRequest, ToolCall, Usage
from agent.proposers.base import Context, Proposal
from agent.replay import replay
from agent.state import State
from agent.tools.base import Desk
from tests import row_support
from tests.support import entries, noisy, problem, session

HERE = Path(__file__).parent
TOLD: list[Any] = []


async def greedy(desk: Desk, n: int) -> str:
    """Measure as often as is asked for.

    Args:
        n: How often.
    """
    for number in range(n):
        values = {**desk.context.champion.values_json, "x": (number + 1) / 1000}
        await desk.context.look(values, key=f"{desk.key}.{number}")
    return str(n)


def talks(tool: str, given: dict[str, Any], calls: int) -> Scripted:
    """A model that calls a tool so often, and then submits."""
    rng = random.Random(1)

    def model(request: ModelRequest) -> Completion:
        said = [message for message in request.messages if message.role == "tool"]
        x = round(rng.uniform(-1, 1), 5)
        wanted = ToolCall(f"s{len(said)}", "submit", {"changes": {"x": x}, "rationale": "r"})
        if len(said) < calls and any(item.name == tool for item in request.tools):
            filled = {key: {"x": x} if key == "changes" else item for key, item in given.items()}
            wanted = ToolCall(f"c{len(said)}", tool, filled)
        return Completion("", (wanted,), stop="tool", usage=Usage(input=10, output=10))

    return Scripted(model)


def events(folder: Path, kind: str) -> list[Any]:
    return [entry.event for entry in entries(folder) if entry.event.type == kind]


def all_was_measured(folder: Path) -> None:
    """Every conversation ended before the run did, and what it proposed was measured."""
    types = [entry.event.type for entry in entries(folder)]
    assert types[-1] == "run.ended"
    assert Counter(types)["proposal.started"] == Counter(types)["proposal.ended"]
    measured = {event.candidate for event in events(folder, "evaluation.started") if event.stage != "look"}
    assert {event.candidate for event in events(folder, "candidate.admitted")} <= measured


def looks_left_enough(folder: Path) -> int:
    """At every look there was enough for what was admitted and for what the decision proposes; how many took any."""
    first, *others = entries(folder)
    state, found = State(first.event, first.time), 0
    for entry in others:
        event = entry.event
        if isinstance(event, LookAsked) and not event.refused:
            cost = state.looks.cost(event.candidate, event.examples)
            waiting = state.waiting + needed(state, state.proposals[event.proposal].n)
            assert not cost or search_left(state) - len(state.looks.wanted) >= cost + waiting
            found += bool(cost)
        state.apply(event, entry.time)
    return found


@pytest.mark.parametrize("budget", [40, 60])
async def test_looks_leave_what_a_conversation_proposes(budget: int, tmp_path: Path) -> None:
    made = session(
        problem=problem(noisy, deterministic=False),
        proposer="agentic",
        model=talks("evaluate", {"changes": None}, 8),
        budget=Budget(evaluations=budget),
        options={"evaluations": 0.3, "off": ["python"]},
    )
    await made.run(tmp_path / "run")
    assert looks_left_enough(tmp_path / "run")
    assert (await replay(tmp_path / "run"))[1] is None


@pytest.mark.parametrize("workers", [1, 4])
async def test_a_tool_of_the_users_own_may_look_no_more_than_ours(workers: int, tmp_path: Path) -> None:
    """It announces nothing: what it measures is counted, and it is told when that is enough."""
    made = session(
        problem=problem(folder=HERE),
        proposer="agentic",
        model=talks("greedy", {"n": 12}, 1),
        workers=workers,
        budget=Budget(evaluations=24),
        options={"tools": ["test_look_limits:greedy"], "evaluations": 0.2, "off": ["python"]},
    )
    await made.run(tmp_path / "run")
    all_was_measured(tmp_path / "run")
    looked = Counter(e.proposal for e in events(tmp_path / "run", "look.asked") if not e.refused)
    assert looked[1] == 5, "a fifth of what the search has left"
    first = next(event for event in events(tmp_path / "run", "tool.ended") if event.name == "greedy")
    assert first.error and "0 are left in this decision" in first.text
    for number in (1, 4):
        assert (await replay(tmp_path / "run", number))[1] is None


def test_on_rows_looks_leave_a_race_to_what_is_proposed(tmp_path: Path) -> None:
    result = row_support.run(
        tmp_path / "run",
        row_support.answered,
        row_support.rows(100),
        budget=200,
        proposer="agentic",
        models={"propose": "scripted:test"},
        model=talks("evaluate", {"changes": None, "n": 5}, 6),
        options={"off": ["python"], "evaluations": 0.3},
    )
    assert looks_left_enough(tmp_path / "run")
    assert any(event.type == "race.decided" for event in result.events)


class Own:
    """A proposer of the user's own, which looks as often as it can."""

    name = "own"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        TOLD.append((context.share, context.each, context.looks))
        looks = 0
        try:
            while looks < 50:
                await context.look({**context.champion.values_json, "x": context.rng.random()}, key=str(looks))
                looks += 1
        except BudgetExceeded as error:
            TOLD.append((looks, error.message))
        return [Proposal({**context.champion.values_json, "x": context.rng.random()}, "own:x")]

    def forecast(self, problem: Any, candidates: int, options: Any) -> tuple[int, int, int]:
        return 0, 0, 0


async def test_every_proposer_is_told_its_share_and_held_to_it(tmp_path: Path) -> None:
    TOLD.clear()
    made = session(
        problem=problem(folder=HERE), proposer="tests.test_look_limits:Own", workers=1, budget=Budget(evaluations=12)
    )
    await made.run(tmp_path / "run")
    (share, each, looks), (taken, message), *_ = TOLD
    assert (each, looks) == (1, share - 1) and taken == looks and "0 are left" in message
    all_was_measured(tmp_path / "run")
