"""Runs of the agent through the real SDKs, and what is paid when they are killed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import AgentError
from agent.events import CallEnded, CallStarted, LookAsked, ProposalEnded, ToolEnded
from agent.journal import read
from agent.ledger import Budget
from agent.replay import replay
from agent.results.result import Result
from agent.session import Session
from agent.settings import Settings
from tests.agentic_runs import NAMES, heard, model, session
from tests.cli_helpers import environment
from tests.fake_provider import Behaviour, FakeProvider, Request, error, ok, rate_limited, refusal, tools
from tests.support import Direct, entries

ROOT = Path(__file__).parents[1]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as running:
        running.answer = model
        for key, value in keys(running).items():
            monkeypatch.setenv(key, value)
        monkeypatch.setenv("AGENTIC_LOG", str(tmp_path / "log"))
        yield running


def keys(provider: FakeProvider) -> dict[str, str]:
    return {
        "OPENAI_API_KEY": "sk-test-0123456789abcdef0123456789",
        "ANTHROPIC_API_KEY": "sk-ant-0123456789abcdef0123456789",
        "OPENAI_BASE_URL": provider.url + "/v1",
        "ANTHROPIC_BASE_URL": provider.url,
    }


def events(folder: Path, kind: Any) -> list[Any]:
    return [entry.event for entry in entries(folder) if isinstance(entry.event, kind)]


def settled(provider: FakeProvider, result: Result) -> None:
    """Every call that the server billed is paid for in the ledger, once."""
    spent = result.spent["tokens"]
    assert spent["input"] + spent["output"] == provider.tokens
    assert result.spent["calls"] == provider.calls


async def same_again(folder: Path) -> None:
    assert (await replay(folder))[1] is None, "the journal replays to equal events"


async def test_a_run_by_an_agent_on_every_wire(provider: FakeProvider, name: str, tmp_path: Path) -> None:
    result = await session(name).run(tmp_path / "run")
    proposals = events(tmp_path / "run", ProposalEnded)
    made = [item for ended in proposals for item in ended.proposals]
    assert made and all(item["source"] == "agentic:llm" for item in made)
    done = events(tmp_path / "run", ToolEnded)
    first = [(item.turn, item.name, item.error) for item in done if item.proposal == done[0].proposal]
    assert sorted(first) == [
        (1, "hypothesis", False), (1, "top", False), (2, "evaluate", False), (2, "pause", False), (3, "submit", True),
        (4, "submit", False),
    ]  # fmt: skip
    assert "a: " in next(item.text for item in done if item.name == "submit" and item.error)
    assert len(events(tmp_path / "run", LookAsked)) == len(proposals)
    settled(provider, result)
    assert result.spent["evaluations"] <= 6
    shown = heard(provider.requests[-1])[0]
    assert "1. a = " in shown and "tested with #1" in shown  # what came of the last conversation's hypothesis
    await same_again(tmp_path / "run")


async def test_signed_thoughts_go_back_with_the_turn_they_belong_to(provider: FakeProvider, tmp_path: Path) -> None:
    for name in ("openai-responses:m", "anthropic:m"):
        before = provider.calls
        await session(name, budget=Budget(evaluations=3)).run(tmp_path / name.replace(":", "-"))
        assert "signed thoughts" not in str(provider.requests[before].body)
        assert "signed thoughts" in str(provider.requests[before + 1].body)


async def test_truncated_refused_malformed_and_limited_replies(
    provider: FakeProvider, name: str, tmp_path: Path
) -> None:
    provider.script(
        tools(("submit", '{"changes": {"a": 0.1'), stop="length"),  # cut off in its arguments
        rate_limited(ms=10),
        tools(("top", "[1, 2]" if name.startswith("anthropic") else "{not json"), ("top", {"n": 1})),
        rate_limited(ms=10),
        tools(("submit", {"changes": {"a": 0.123}, "rationale": "after all that"})),
        refusal(),
    )
    result = await session(name, budget=Budget(evaluations=3, calls=9)).run(tmp_path / "run")
    done = [item for item in events(tmp_path / "run", ToolEnded) if item.proposal == 1]
    assert [(item.name, item.error) for item in done] == [
        ("submit", True), ("top", True), ("top", False), ("submit", False),
    ]  # fmt: skip
    assert "cut off" in done[0].text or "not a JSON object" in done[0].text
    assert done[0].arguments is None and done[1].arguments is None
    first = events(tmp_path / "run", ProposalEnded)[0]
    assert first.proposals[0]["values"]["a"] == 0.123
    assert provider.tokens == sum(result.spent["tokens"][kind] for kind in ("input", "output"))
    await same_again(tmp_path / "run")


@pytest.mark.parametrize(
    "refused",
    [
        error(400, "tools_not_supported"),
        error(400, "unsupported", "unsupported"),
        error(500, "tools param requires the --jinja flag"),  # llama.cpp
        error(404, "No endpoints found that support tool use"),  # a router
        Behaviour("error", text='{"detail": [{"loc": ["body", "tools"], "msg": "not permitted"}]}', status=422),
    ],
    ids=["400", "code", "500", "404", "422"],
)
async def test_a_server_that_refuses_tools_gets_one_structured_call(
    provider: FakeProvider, name: str, tmp_path: Path, refused: Behaviour
) -> None:
    def answer(request: Request) -> Behaviour:
        if request.body.get("tools"):
            return refused
        return model(request)

    provider.answer = answer
    await session(name, budget=Budget(evaluations=5)).run(tmp_path / "run")
    ended = events(tmp_path / "run", ProposalEnded)
    made = [item for item in ended if item.proposals]
    assert len(made) >= 2 and made[0].proposals[0]["rationale"] == "no tools here"
    assert [bool(request.body.get("tools")) for request in provider.requests].count(True) == 1
    told = [item["reason"] for item in ended[0].rejections]
    assert len(told) == 1 and "takes no tools" in told[0]
    assert not any("tools" in item["reason"] for later in ended[1:] for item in later.rejections)
    await same_again(tmp_path / "run")


async def test_a_limit_on_calls_holds_in_the_middle_of_a_conversation(
    provider: FakeProvider, name: str, tmp_path: Path
) -> None:
    result = await session(name, budget=Budget(evaluations=20, calls=6)).run(tmp_path / "run")
    assert provider.calls == result.spent["calls"] == 6
    assert len([item for ended in events(tmp_path / "run", ProposalEnded) for item in ended.proposals]) == 1
    await same_again(tmp_path / "run")


async def test_a_model_that_only_talks_is_asked_in_a_schema(provider: FakeProvider, tmp_path: Path) -> None:
    provider.answer = lambda request: ok("I would try a smaller a.") if request.body.get("tools") else model(request)
    await session(NAMES[1], budget=Budget(evaluations=3)).run(tmp_path / "run")
    first = events(tmp_path / "run", ProposalEnded)[0]
    assert first.proposals[0]["rationale"] == "no tools here"
    assert "called no tool" in first.rejections[0]["reason"]


def held(log: Path, folder: Path) -> bool:
    """Whether a tool waits, and the measurement that was asked for in the same turn is on record."""
    if not log.exists() or "tool" not in log.read_text():
        return False
    return any(isinstance(entry.event, ToolEnded) and entry.event.name == "evaluate" for entry in read(folder))


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        (NAMES[0], "tool"),
        (NAMES[2], "call 4"),
        *([(NAMES[1], "call 3"), (NAMES[2], "tool")] if os.environ.get("SOAK") else []),
    ],
)
async def test_a_run_that_is_killed_in_a_conversation_pays_nothing_twice(
    provider: FakeProvider, name: str, tmp_path: Path, moment: str
) -> None:
    whole, log = tmp_path / "whole", tmp_path / "log"
    await session(name).run(whole)
    calls, measured = provider.calls, log.read_text().count("measured")
    log.unlink()
    provider.requests.clear()

    hang = asyncio.Event()

    def answer(request: Request) -> Behaviour:
        if moment == f"call {provider.calls}" and not hang.is_set():
            hang.set()
            return Behaviour("hang")
        return model(request)

    provider.answer = answer
    if moment == "tool":
        (tmp_path / "hold").touch()
    env = environment(**keys(provider), AGENTIC_LOG=str(log), PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    folder = tmp_path / "run"
    begin = "from tests.agentic_runs import main; main()"
    command = [sys.executable, "-P", "-c", begin, str(folder), name]
    process = subprocess.Popen(command, env=env, cwd=ROOT, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not (hang.is_set() if moment != "tool" else held(log, folder)):
            assert process.poll() is None and time.monotonic() < deadline
            await asyncio.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await asyncio.to_thread(process.wait)
        (tmp_path / "hold").unlink(missing_ok=True)
    await session(name).resume(folder)
    # Of a call that was under way nobody knows whether it was answered: that one alone is made again.
    assert provider.calls == calls + (moment != "tool")
    assert log.read_text().count("measured") == measured
    assert log.read_text().count("tool") == len([e for e in events(whole, ToolEnded) if e.name == "pause"]) + (
        moment == "tool"
    )

    def told(run: Path) -> list[Any]:
        return [(item.proposals, item.rejections, item.state) for item in events(run, ProposalEnded)]

    assert told(folder) == told(whole)
    asked = [item.request for item in events(folder, CallStarted)]
    assert {str(item) for item in asked} == {str(item.request) for item in events(whole, CallStarted)}
    await same_again(folder)


async def test_a_failed_call_ends_its_decision_and_not_the_run(provider: FakeProvider, tmp_path: Path) -> None:
    provider.script(tools(("top", {})), error(400, "context_length_exceeded"))
    await session(NAMES[1], budget=Budget(evaluations=3)).run(tmp_path / "run")
    first, *later = events(tmp_path / "run", ProposalEnded)
    assert "context_length_exceeded" in first.error and not first.proposals
    assert any(item.proposals for item in later)
    assert isinstance(events(tmp_path / "run", CallEnded)[1].error, dict)
    await same_again(tmp_path / "run")


async def test_a_wrong_option_stops_a_run_before_it_begins(provider: FakeProvider, tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="two tools"):
        await session(NAMES[0], options={"tools": ["agentic_user_tools:lookup", "agentic_more_tools:lookup"]}).run(
            tmp_path / "run"
        )
    assert provider.calls == 0


async def test_rows_that_tools_read_count_for_the_proposal_also_after_a_resume(
    provider: FakeProvider, tmp_path: Path
) -> None:
    import tests.row_support as rows

    def answer(request: Request) -> Behaviour:
        first, results = heard(request)
        train = re.findall(r"row-\d+", first)
        if not results:
            looked = {"changes": {"x": 0.1}, "examples": train[2:4]}
            return tools(("read_row", {"row": train[0]}), ("evaluate", looked), ("read_row", {"row": "row-9999"}))
        if len(results) == 3 and stopped:
            stopped.pop()
            return error(401, "no_such_key")
        return tools(("submit", {"changes": {"x": 0.2 + len(results) / 100}, "rationale": "as measured"}))

    provider.answer, stopped = answer, [True]

    def new() -> Session:
        problem = rows.problem(data=rows.rows(60), folder=Path(__file__).parent)
        settings = {"proposer": "agentic", "models": {"propose": NAMES[2]}, "options": {"evaluations": 1}}
        budget = Budget(evaluations=200)
        return Session(problem, Settings.from_json(settings), budget=budget, executor=Direct(problem), seed=1)

    folder = tmp_path / "run"
    await new().run(folder)
    assert not events(folder, ProposalEnded)
    asked = provider.calls
    await new().resume(folder)
    first = events(folder, ProposalEnded)[0]
    done = [item for item in events(folder, ToolEnded) if item.proposal == 1]
    train = re.findall(r"row-\d+", heard(provider.requests[0])[0])
    by_index = {item.index: item for item in done if item.turn == 1}
    assert "row-9999" in by_index[2].text and by_index[2].error
    assert "accuracy=" in by_index[1].text
    assert by_index[1].text.count("row-") == 2
    assert first.proposals[0]["read"] == [train[0], *train[2:4]]
    assert [item.turn for item in done] == [1, 1, 1, 2]
    assert provider.calls > asked
    await same_again(folder)
