"""The tools in a real run: what they say, that rows they show count as read, and that a replay says it again."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import pytest

from agent.events import CandidateAdmitted
from agent.llm.scripted import Scripted
from agent.parameters import Categorical, Int
from agent.problem import Example, Problem
from agent.proposers.base import Context, Proposal
from agent.tools.base import Desk, call, load
from agent.trace import op
from tests.row_support import Ran, rows, run

ASKED: list[tuple[str, dict[str, Any]]] = [
    ("top", {}),
    ("parameters", {}),
    ("rows", {}),
    ("candidate", {"candidate": "initial"}),
    ("diff", {}),
    ("python", {"code": "len(history['trials']), history['direction'], 'question' in str(history)"}),
    ("critic", {"values": {"kind": "c"}, "why": "c comes next"}),
    ("second", {}),
]


class Curious:
    """Proposes b; then asks all tools, and proposes c with what they said in its memory."""

    name = "curious"
    needs_model = False
    uses_model = True
    texts = True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        if context.memory is None:
            context.memory = {}
            return [Proposal({**context.champion, "kind": "b"}, self.name)]
        if context.champion["kind"] != "b" and context.decision < 60:  # its race goes on
            return [Proposal({"kind": "a", "n": context.decision}, self.name)]
        context.exhausted = bool(context.memory)
        if context.exhausted:
            return []

        async def step(index: int, name: str, arguments: Mapping[str, Any]) -> tuple[str, bool]:
            async def work(key: str) -> tuple[str, bool]:
                return await call(load(name), Desk(context, key, context.options), arguments)

            return await context.step("main", 1, index, name, arguments, work)

        said = {name: await step(i, name, given) for i, (name, given) in enumerate(ASKED)}
        assert context.reads == [], "nothing of that is the content of a row"
        row = min(context.history[context.history.champion].rows)
        said["read_row"] = await step(20, "read_row", {"row": row})
        said["trace"] = await step(21, "trace", {"row": row})
        said["held"] = await step(22, "read_row", {"row": "nobody"})
        context.memory = {"said": said}
        return [Proposal({**context.champion, "kind": "c"}, self.name)]

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 4, 40_000, 8000


@op
def solved(kind: str, easy: float) -> bool:
    return easy < {"a": 0.2, "b": 0.65, "c": 0.97}[kind]


def measure(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[float, str]:
    right = solved(candidate["kind"], row["easy"])
    return float(right), f"{row['question']}: {'right' if right else 'wrong'}"


def adviser(request: Any) -> str:
    if request.schema is None:
        return "It is a guess.\nmeasure it"
    return json.dumps({"why": "b is not the end", "values": {"kind": "c"}})


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    data = []
    for item in rows(300):
        number = len(data)
        row = {"question": f"question {number} {random.Random(number).getrandbits(64):x}", "easy": number % 50 / 50}
        data.append(Example(item.id, row, cluster=f"user{number // 3}"))
    return run(
        tmp_path_factory.mktemp("runs") / "run",
        measure,
        data,
        space={"kind": Categorical(["a", "b", "c"]), "n": Int(0, 100, default=0)},
        proposer="tests.tools.test_tools_in_runs:Curious",
        models={"propose": "scripted:test"},
        model=Scripted(adviser),
        budget=2000,
    )


@pytest.fixture
def said(ran: Ran) -> dict[str, tuple[str, bool]]:
    """What each tool answered, and whether that was an error; the second time under another name."""
    assert [event.error for event in ran.of("proposal.ended") if event.error] == []
    out: dict[str, tuple[str, bool]] = {}
    for event in ran.of("tool.ended"):
        out["held" if event.name in out else event.name] = (event.text, event.error)
    return out


def test_every_tool_answers(said: dict[str, tuple[str, bool]]) -> None:
    assert set(said) == {*(name for name, _ in ASKED), "read_row", "trace", "held"}
    assert {name for name, (_, error) in said.items() if error} == {"held"}
    text = {name: words for name, (words, _) in said.items()}
    assert 'kind="b" n=0' in text["top"] and "accuracy" in text["top"]
    assert "mean result" in text["parameters"]
    assert "clusters (champion; mean of the others)" in text["rows"] and "user" in text["rows"]
    assert 'kind: "a" → "b"' in text["diff"]
    assert "'maximize', False)" in text["python"]
    assert "measure it" in text["critic"] and '{"kind": "c"}' in text["second"]
    assert "question " in text["read_row"] and "solved(" in text["trace"]
    assert "there is no row" in text["held"]


def test_only_rows_whose_content_was_shown_count_as_read(ran: Ran) -> None:
    admitted = {event.values["kind"]: event for event in ran.events if isinstance(event, CandidateAdmitted)}
    (row,) = admitted["c"].read
    assert {event.name: event.reads for event in ran.of("tool.ended") if event.reads} == {
        "read_row": [row],
        "trace": [row],
    }
    assert admitted["b"].read == []


def test_no_answer_holds_a_held_out_row(ran: Ran, said: dict[str, tuple[str, bool]]) -> None:
    text = json.dumps(said)
    held = [item.row["question"] for name in ("val", "test") for item in ran.split(name)]
    assert held and not [question for question in held if question in text]


def test_a_replay_takes_the_answers_from_the_record(ran: Ran) -> None:
    assert ran.replays()
