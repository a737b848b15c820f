"""The notebook of the agent: a user's tool writes in it, and it is there later, after a kill and in a replay."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.events import CandidateAdmitted, ProposalEnded, ToolEnded
from agent.ledger import Budget
from agent.llm.scripted import Scripted
from agent.llm.types import Completion, ModelRequest, ToolCall, Usage
from agent.loop import Run
from agent.proposers.agentic import Agentic
from agent.replay import replay
from agent.tools.base import Desk
from tests import row_support
from tests.agentic_support import Talker, alone
from tests.support import entries, problem, session

HERE = Path(__file__).parent
HERE_TOO: list[Any] = []


async def remember(desk: Desk, word: str) -> str:
    """Write a word down.

    Args:
        word: To write.
    """
    known = desk.notebook.setdefault("words", [])
    known.append(word)
    desk.notebook["odd"] = {word}  # no JSON, which is left out
    return " ".join(known)


remember.writes = True  # type: ignore[attr-defined]


async def forget(desk: Desk) -> str:
    """Take all words away; it does not say that it writes."""
    desk.notebook.clear()
    return "gone"


def model(request: ModelRequest) -> Completion:
    said = [message for message in request.messages if message.role == "tool"]
    number = len(request.messages[0].text) % 7 + len(said)
    calls = [ToolCall("s", "submit", {"changes": {"x": HERE_TOO[0]()}, "rationale": "r"})]
    if not said:
        calls = [ToolCall(f"c{i}", "remember", {"word": f"w{number}{i}"}) for i in range(3)]
        calls.append(ToolCall("f", "forget", {}))
    return Completion("", tuple(calls), stop="tool", usage=Usage(input=10, output=10))


def new(**given: Any) -> Any:
    values = iter(range(1, 1000))
    HERE_TOO[:] = [lambda: next(values) / 1000]
    tools = ["test_notebook:remember", "test_notebook:forget"]
    return session(
        problem=problem(folder=HERE),
        proposer="agentic",
        model=Scripted(model),
        workers=1,
        budget=Budget(evaluations=7),
        options={"tools": tools, "off": ["*"]},
        **given,
    )


def of(folder: Path, kind: type) -> list[Any]:
    return [entry.event for entry in entries(folder) if isinstance(entry.event, kind)]


async def test_notes_of_a_users_tool_are_there_in_the_next_decision_and_in_a_replay(tmp_path: Path) -> None:
    await new().run(tmp_path / "run")
    ended = of(tmp_path / "run", ProposalEnded)
    kept = [event.state["words"] for event in ended if event.state]
    assert [len(words) for words in kept[:3]] == [3, 6, 9], "three calls of one turn see each other, decisions too"
    assert all("odd" not in event.state for event in ended if event.state)
    told = [event for event in of(tmp_path / "run", ToolEnded) if event.name == "remember"]
    assert told[4].text == " ".join(kept[1][:5]) and told[4].notes == {"words": kept[1][:5]}
    assert next(event.notes for event in of(tmp_path / "run", ToolEnded) if event.name == "forget") == {}
    for workers in (1, 4):
        assert (await replay(tmp_path / "run", workers))[1] is None


async def test_a_decision_that_is_made_again_has_its_notes_and_writes_none_twice(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """Cut off between two of its tools, as by a kill."""

    class Cut(BaseException):
        pass

    record = Run.record

    def cut(self: Run, event: Any) -> None:
        record(self, event)
        if isinstance(event, ToolEnded) and (event.proposal, event.index) == (2, 1):
            raise Cut

    monkeypatch.setattr(Run, "record", cut)
    with contextlib.suppress(Cut):
        await new().run(tmp_path / "run")
    monkeypatch.setattr(Run, "record", record)
    assert len(of(tmp_path / "run", ProposalEnded)) == 1
    await new().resume(tmp_path / "run")
    kept = [event.state["words"] for event in of(tmp_path / "run", ProposalEnded) if event.state]
    assert len(kept[1]) == 6 and kept[1][:3] == kept[0] and len(set(kept[1][3:])) == 3
    assert (await replay(tmp_path / "run"))[1] is None


async def test_all_of_the_notebook_is_restored_and_not_only_the_hypotheses() -> None:
    context = alone(problem(folder=HERE), memory={"words": ["old"], "hypotheses": [], "noted": []})
    talker = Talker([("remember", {"word": "new"})], [("submit", {"changes": {"x": 0.25}, "rationale": "r"})])
    context.ask, context.options = talker, {"tools": ["test_notebook:remember"], "off": ["*"]}
    await Agentic().propose(context, 1)
    assert talker.answers[0][0].startswith("old new") and context.memory["words"] == ["old", "new"]


def test_notes_that_were_made_with_rows_make_them_count_as_read_later(tmp_path: Path) -> None:
    def reads(request: ModelRequest) -> Completion:
        said = [message for message in request.messages if message.role == "tool"]
        x = HERE_TOO[0]()
        calls: list[tuple[str, Mapping[str, Any]]] = [("submit", {"changes": {"x": x}, "rationale": "r"})]
        if not said and x == 0.001:
            calls = [("read_row", {"row": "row-3"})]
        elif len(said) == 1:
            calls = [("remember", {"word": "what row-3 says"})]
        made = tuple(ToolCall(f"{len(said)}", name, given) for name, given in calls)
        return Completion("", made, stop="tool", usage=Usage(input=10, output=10))

    values = iter(range(1, 1000))
    HERE_TOO[:] = [lambda: next(values) / 1000]
    made = row_support.session(
        row_support.problem(row_support.answered, row_support.rows(60), folder=HERE),
        budget=150,
        proposer="agentic",
        models={"propose": "scripted:test"},
        model=Scripted(reads),
        options={"tools": ["test_notebook:remember"], "off": ["python"], "evaluations": 0},
    )
    asyncio.run(made.run(tmp_path / "run"))
    admitted = of(tmp_path / "run", CandidateAdmitted)
    later = [event for event in admitted if event.proposal > 1]
    assert later and all(event.read == ["row-3"] for event in later)
    assert asyncio.run(replay(tmp_path / "run"))[1] is None
