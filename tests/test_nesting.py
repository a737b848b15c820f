"""What is nested without end: it is refused where it comes in, and leaves no call open."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agent.ledger import Budget
from agent.llm.jsontext import DEEPEST, loads, sound, too_deep
from agent.llm.scripted import Scripted
from agent.llm.types import Completion, ModelRequest, ToolCall, Usage
from agent.llm.wire import tool_call
from agent.proposers.conversation import _same
from agent.redact import redact
from agent.replay import replay
from agent.space import canonical
from tests.support import entries, session


def nest(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = {"a": [found]}
    return found


@pytest.mark.parametrize("levels", [DEEPEST + 1, 100, 480, 900, 5000, 100_000])
def test_arguments_that_are_nested_too_deeply_stay_a_text(levels: int) -> None:
    raw = '{"a":' * levels + "1" + "}" * levels
    made = tool_call("c", "top", raw)
    assert made.arguments is None and made.raw == raw
    assert _same(made)


def test_arguments_as_deep_as_is_allowed_are_read_masked_and_written() -> None:
    made = tool_call("c", "top", '{"a":' * DEEPEST + '"sk-ant-0123456789abcdef"' + "}" * DEEPEST)
    assert made.arguments is not None and not too_deep(made.arguments)
    assert "sk-ant" not in canonical(redact(sound(made.arguments)))


@pytest.mark.parametrize("levels", [200, 480, 5000])
def test_masking_and_comparing_go_as_deep_as_they_can_and_no_deeper(levels: int) -> None:
    value = nest(levels)
    assert too_deep(value)
    assert _same(ToolCall("c", "top", {"a": [1]})) != _same(ToolCall("c", "top", value))
    assert "sk-ant-" not in json.dumps(redact([value, {"deep": nest(20), "key": "sk-ant-0123456789abcdef"}]))
    with pytest.raises(ValueError, match="deeply"):
        sound(value)


def test_a_reply_that_is_nested_too_deeply_is_no_json() -> None:
    assert loads("[" * DEEPEST + "]" * DEEPEST)
    with pytest.raises(ValueError, match="deeply"):
        loads("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1))


@pytest.mark.parametrize("arguments", [None, nest(480)])
async def test_a_run_survives_it_and_every_call_has_its_end(arguments: Any, tmp_path: Path) -> None:
    """Also from an adapter that breaks its promise, and gives such arguments as an object."""
    first = [True]

    def model(request: ModelRequest) -> Completion:
        said = [message for message in request.messages if message.role == "tool"]
        usage = Usage(input=10, output=10)
        if first:
            first.clear()
            text = '{"a":' * 480 + "1" + "}" * 480
            call = tool_call("c", "top", text) if arguments is None else ToolCall("c", "top", arguments)
            return Completion("", (call,), stop="tool", usage=usage)
        number = len(entries(tmp_path / "run")) + len(said)
        given = {"changes": {"x": number / 1e4}, "rationale": "r"}
        return Completion("", (ToolCall(f"s{len(said)}", "submit", given),), stop="tool", usage=usage)

    made = session(proposer="agentic", model=Scripted(model), budget=Budget(evaluations=6))
    await asyncio.wait_for(made.run(tmp_path / "run"), 60)
    events: list[Any] = [entry.event for entry in entries(tmp_path / "run")]
    started = {event.id for event in events if event.type == "call.started"}
    assert started == {event.id for event in events if event.type == "call.ended"}
    assert events[-1].type == "run.ended" and any(event.type == "candidate.admitted" for event in events)
    ended = next(event for event in events if event.type == "call.ended")
    assert (ended.error is not None) == (arguments is not None)
    assert ended.spent["input"] == 10, "what was billed is paid for"
    assert (await replay(tmp_path / "run"))[1] is None
