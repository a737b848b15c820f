"""A proposer that works in steps: each is done once, whatever happens between them."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.events import CallEnded, CallStarted, StopRequested, ToolEnded
from agent.ledger import Budget
from agent.llm.scripted import Scripted
from agent.llm.types import Message, ModelRequest
from agent.loop import Run
from agent.proposers.base import Context, Proposal
from agent.replay import Replay, compare, replay
from agent.session import Session
from agent.space import Space
from agent.testing.proposers import ProposerContract, Search, bowl
from tests.row_support import answered, rows
from tests.row_support import problem as problem_on
from tests.stepper import NAME, Stepper, model
from tests.support import entries, noisy, problem, session


def stepping(**given: Any) -> Session:
    given.setdefault("model", Scripted(model))
    given.setdefault("budget", Budget(evaluations=40))
    return session(proposer=NAME, **given)


def on_rows(**given: Any) -> Session:
    chosen = problem_on(answered, rows(60))
    options = {"rows": ["row-1", "row-2", "row-3"]}
    return stepping(problem=chosen, budget=Budget(evaluations=250), options=options, **given)


async def replays(folder: Path) -> bool:
    return all([(await replay(folder, workers))[1] is None for workers in (1, 4)])


def of(folder: Path, kind: type[Any]) -> list[Any]:
    return [entry.event for entry in entries(folder) if isinstance(entry.event, kind)]


@pytest.mark.parametrize("kind", ["deterministic", "noisy", "exclusive", "rows"])
@pytest.mark.parametrize("workers", [1, 4])
async def test_a_run_in_steps_replays(tmp_path: Path, kind: str, workers: int) -> None:
    make = {
        "deterministic": lambda: stepping(workers=workers),
        "noisy": lambda: stepping(problem=problem(noisy, deterministic=False), workers=workers),
        "exclusive": lambda: stepping(problem=problem(noisy, deterministic=False, exclusive=True), workers=workers),
        "rows": lambda: on_rows(workers=workers),
    }[kind]
    await asyncio.wait_for(make().run(tmp_path / "run"), 60)
    tools = of(tmp_path / "run", ToolEnded)
    assert len(tools) >= 8 and {tool.name for tool in tools} == {"measure", "criticise", "read"}
    assert await replays(tmp_path / "run")


async def test_beside_an_exclusive_measurement_no_model_is_asked(tmp_path: Path) -> None:
    """The first turn calls a critic and measures at once; each waits for the other."""
    from agent.llm.types import Completion
    from tests.stepper import call

    busy: list[int] = []

    def both(request: ModelRequest) -> Completion | str:
        busy.append(chosen.executor.running)  # type: ignore[union-attr]
        said = [message for message in request.messages if message.role == "tool"]
        if not request.tools:
            return "dull"
        if not said:
            calls = [call(n, "criticise", x=n / 10) if n % 2 else call(n, "measure", x=n / 10) for n in range(6)]
            return Completion("", tuple(calls), stop="tool")
        return json.dumps({"x": 0.3})

    chosen = stepping(problem=problem(exclusive=True), workers=4, model=Scripted(both), budget=Budget(evaluations=20))
    chosen.executor.pause = 0.003  # type: ignore[union-attr]
    await asyncio.wait_for(chosen.run(tmp_path / "run"), 60)
    assert len(busy) > 6 and not any(busy)
    assert await replays(tmp_path / "run")


class Sides(Stepper):
    """Looks and asks at once; `first` says which of the two begins."""

    first = "look"

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        async def look() -> Any:
            await asyncio.sleep(0 if self.first == "look" else 0.02)
            return await context.look({**context.champion.values_json, "x": 0.123}, key="look")

        async def ask() -> Any:
            await asyncio.sleep(0 if self.first == "ask" else 0.02)
            return await context.consult(ModelRequest((Message("user", "x"),)), role="critic", key="ask")

        await asyncio.gather(look(), ask())
        context.exhausted = True
        return []


@pytest.mark.parametrize("first", ["look", "ask"])
async def test_an_exclusive_look_and_a_model_call_wait_for_each_other(tmp_path: Path, first: str) -> None:
    async def slowly(candidate: Mapping[str, Any]) -> float:
        await asyncio.sleep(0.1)
        return float(candidate["x"])

    class Slow(Scripted):
        async def complete(self, request: ModelRequest, *, seed: int | None) -> Any:
            await asyncio.sleep(0.1)
            return await super().complete(request, seed=seed)

    proposer = Sides()
    proposer.first = first
    chosen = stepping(problem=problem(slowly, exclusive=True), model=Slow(["fine"]), budget=Budget(evaluations=10))
    await driven(chosen, tmp_path / "run", proposer)
    words = [e.event.type for e in entries(tmp_path / "run")]
    words = words[words.index("proposal.started") :]
    look = ["look.asked", "evaluation.started", "evaluation.ended"]
    call = ["call.started", "call.ended"]
    both = look + call if first == "look" else call + look
    assert [word for word in words if word in both] == both


async def test_a_role_without_a_model_falls_to_the_proposer(tmp_path: Path) -> None:
    await stepping().run(tmp_path / "none")
    models = {"propose": "scripted:test", "critic": "scripted:critic"}
    await stepping(models=models).run(tmp_path / "critic")
    for name, wanted in (("none", "propose"), ("critic", "critic")):
        asked = [call for call in of(tmp_path / name, CallStarted) if "/" in call.scope]
        assert asked and {call.role for call in asked} == {wanted}
        assert {call.scope.partition("/")[2] for call in asked} == {"main.2.0"}


class Cut(Exception):
    """The process is gone."""


@pytest.mark.parametrize("kind", ["whole", "rows"])
async def test_cut_anywhere_in_a_conversation_nothing_is_done_twice(tmp_path: Path, kind: str) -> None:
    """The journal is cut behind each event of the first decision; what was recorded is never paid again."""

    def fresh() -> Session:
        return stepping(budget=Budget(evaluations=12)) if kind == "whole" else on_rows()

    chosen = fresh()
    await chosen.run(tmp_path / "run")
    everything = entries(tmp_path / "run")
    first = next(n for n, entry in enumerate(everything) if entry.event.type == "proposal.started")
    last = next(n for n, entry in enumerate(everything) if entry.event.type == "proposal.ended")
    step = (1 if kind == "whole" else 4) if os.environ.get("SOAK") else (2 if kind == "whole" else 9)
    for length in range(first + 1, last + 1, step):
        folder = tmp_path / f"cut-{length}"
        again = fresh()
        cut(tmp_path / "run", folder, length)
        known = entries(folder)
        paid = {e.event.id for e in known if isinstance(e.event, CallEnded)}
        begun = sum(isinstance(entry.event, CallStarted) for entry in known)
        answered_tools = [e.event for e in known if isinstance(e.event, ToolEnded)]
        await asyncio.wait_for(again.resume(folder), 60)
        calls = of(folder, CallStarted)
        assert len(again.model.requests) == len(calls) - begun
        asked = Counter((call.scope, call.key, call.ordinal) for call in calls)
        assert all(asked[call.scope, call.key, call.ordinal] == 1 for call in calls if call.id in paid), length
        tools = Counter((tool.turn, tool.index) for tool in of(folder, ToolEnded) if tool.proposal == 1)
        assert tools == Counter({(1, 0): 1, (1, 1): 1, (2, 0): 1, (2, 1): 1}), length
        assert of(folder, ToolEnded)[: len(answered_tools)] == answered_tools
        assert (await replay(folder))[1] is None, length


def cut(source: Path, target: Path, length: int) -> None:
    """A copy of a run as a kill behind the first events would have left it."""
    from agent.journal import Journal

    journal = Journal(target)
    for entry in entries(source)[:length]:
        journal.append(entry.event, entry.time)
    journal.close()
    accounts = source.parent / ".accounts.sqlite"
    assert not accounts.exists() or target.parent == source.parent


async def test_an_interruption_lets_a_conversation_go_between_two_steps(tmp_path: Path) -> None:
    holder: list[Run] = []
    asked: list[ModelRequest] = []

    def interrupted(request: ModelRequest) -> Any:
        asked.append(request)
        if len(asked) == 2 and request.tools:  # in the second turn
            holder[0].record(StopRequested("interrupted"))
        return model(request)

    chosen = stepping(model=Scripted(interrupted))
    await asyncio.wait_for(chosen.run(tmp_path / "run", holder.append), 60)
    tools = of(tmp_path / "run", ToolEnded)
    assert [(tool.turn, tool.index) for tool in tools] == [(1, 0), (1, 1)], "the reply is kept, and nothing is begun"
    assert len(of(tmp_path / "run", CallEnded)) == 2
    resumed = stepping()
    await asyncio.wait_for(resumed.resume(tmp_path / "run"), 60)
    assert len(of(tmp_path / "run", CallStarted)) == 2 + len(resumed.model.requests), "both replies were used"
    assert await replays(tmp_path / "run")


async def test_a_conversation_does_not_go_on_when_the_search_is_over(tmp_path: Path) -> None:
    holder: list[Run] = []
    asked: list[ModelRequest] = []

    def over(request: ModelRequest) -> Any:
        asked.append(request)
        if len(asked) == 2:
            holder[0].record(StopRequested("seconds", "the time for the search is up"))
        return model(request)

    await asyncio.wait_for(stepping(model=Scripted(over)).run(tmp_path / "run", holder.append), 60)
    assert len(asked) == 2 and len(of(tmp_path / "run", ToolEnded)) == 2
    assert "run.ended" in [entry.event.type for entry in entries(tmp_path / "run")]
    assert await replays(tmp_path / "run")


async def test_a_replay_tells_when_a_tool_was_called_in_another_way(tmp_path: Path) -> None:
    await stepping(budget=Budget(evaluations=12)).run(tmp_path / "run")
    recorded = entries(tmp_path / "run")
    for place, entry in enumerate(recorded):
        if isinstance(entry.event, ToolEnded):
            changed = replace(entry.event, arguments={"x": 0.123})
            recorded[place] = replace(entry, event=changed)
            break
    difference = compare(recorded, await Replay(recorded).replayed())
    assert difference is not None and difference.recorded is not None and difference.recorded["type"] == "tool.ended"


async def test_what_a_tool_says_is_stored_without_keys_and_told_as_it_is_stored(tmp_path: Path) -> None:
    key = "sk-proj-" + "a1B2" * 12

    class Leaky(Stepper):
        async def measure(self, context: Context, key_: str, x: float) -> str:
            return f"x {x} gives 1 {key} \ud800"

    chosen = stepping()
    run = await driven(chosen, tmp_path / "run", Leaky())
    told = [m.text for request in chosen.model.requests for m in request.messages if m.role == "tool"]
    assert told and all(key not in text for text in told)
    assert run is not None and all(key not in tool.text for tool in of(tmp_path / "run", ToolEnded))


async def driven(chosen: Session, folder: Path, proposer: Any) -> Run:
    """A run with a proposer that no import path leads to."""
    from agent.journal import Journal

    journal = Journal(folder)
    made = chosen._make(journal)
    made.proposer = proposer
    made.start(chosen.started("run"))
    await asyncio.wait_for(made.drive(), 60)
    await made.close()
    journal.close()
    return made


class Looking:
    """A proposer that looks to both sides before it proposes."""

    name = "looking"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        best = None
        for number in range(2):
            values = {**context.champion.values_json, "x": context.rng.uniform(-1, 1)}
            text, _ = await context.step("main", 1, number, "look", {"x": values["x"]}, self.look(context, values))
            if best is None or float(text) < best[0]:
                best = float(text), values
        assert best is not None
        return [Proposal(best[1], self.name)]

    @staticmethod
    def look(context: Context, values: dict[str, Any]) -> Any:
        async def work(key: str) -> tuple[str, bool]:
            found = await context.look(values, key=key)
            return str(found.mean["value"] if found.mean is not None else 9.0), False

        return work

    def forecast(self, *_: Any) -> tuple[int, int, int]:
        return 0, 0, 0


class Forgetful(Looking):
    """Its looks have other names each time it is asked."""

    count = 0

    @staticmethod
    def look(context: Context, values: dict[str, Any]) -> Any:
        async def work(key: str) -> tuple[str, bool]:
            Forgetful.count += 1
            found = await context.look(values, key=f"{key}.{Forgetful.count}")
            return str(found.mean["value"] if found.mean is not None else 9.0), False

        return work

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        values = {**context.champion.values_json, "x": context.rng.uniform(-1, 1)}
        await self.look(context, values)("mine")
        return [Proposal(values, self.name)]


class TestLooking(ProposerContract):
    """The contract's runs in memory let a proposer look."""

    spaces: Mapping[str, Space] = {"float": ProposerContract.spaces["float"]}
    finite: Mapping[str, int] = {}

    def make(self) -> Any:
        return Looking()

    test_texts_alone_are_refused_or_searched = None  # type: ignore[assignment]
    test_it_goes_on_when_everything_fails = None  # type: ignore[assignment]  # it counts candidates, and here are few


def test_a_proposer_that_does_more_when_it_is_asked_again_breaks_the_contract() -> None:
    contract = TestLooking()
    contract.make = Forgetful  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="made again measures or runs something else"):
        contract.search("float", bowl)


def test_looks_in_memory_are_paid() -> None:
    space = ProposerContract.spaces["float"]
    search = Search(Looking(), space, bowl(space), budget=20)
    state = search.run()
    stages = Counter(event.stage for event in search.events if event.type == "evaluation.started")  # type: ignore[attr-defined]
    assert state.ledger.evaluations == 20 and stages["look"] > stages["full"] - 2
