"""The time limit of a tool: it does not run while the tool waits for the run. And how a user's tool is given."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.ledger import Budget
from agent.llm.scripted import Scripted
from agent.llm.types import Completion, Message, ModelRequest, ToolCall, Usage
from agent.looking import Look, LookRow
from agent.tools.base import SECONDS, Desk, Tool, call, load, tool_of
from tests.agentic_support import alone
from tests.support import entries, problem, session

LIMIT = 0.3
HERE = Path(__file__).parent


class Slow:
    """Effects that take longer than a tool may."""

    async def look(self, candidate: Any, examples: list[str], key: str, most: float) -> Look:
        await asyncio.sleep(2 * LIMIT)
        return Look(candidate.id, dict(candidate), (LookRow(None, {"loss": 0.5}),), {"loss": 0.5})

    async def consult(self, request: ModelRequest, role: str, key: str) -> Completion:
        await asyncio.sleep(2 * LIMIT)
        return Completion("fine")


async def looks(desk: Desk, x: float) -> str:
    """Measure.

    Args:
        x: Where.
    """
    found = await desk.context.look({**desk.context.champion.values_json, "x": x}, key=desk.key)
    return str(found.mean)


looks.seconds = LIMIT  # type: ignore[attr-defined]


async def several(desk: Desk) -> str:
    """Measure and ask side by side."""
    request = ModelRequest((Message("user", "?"),))
    asked = (desk.context.consult(request, role="critic", key=f"{desk.key}.{n}") for n in range(2))
    await asyncio.gather(looks(desk, 0.1), *asked)
    return "done"


async def computes(desk: Desk) -> str:
    """Measure, and compute for long."""
    await looks(desk, 0.1)
    await asyncio.sleep(60)
    return "never"


def silly(x: int) -> int:
    """A tool with a limit that is none."""
    return x


silly.seconds = "long"  # type: ignore[attr-defined]


def forever(x: int) -> int:
    """A tool without a limit."""
    return x


forever.seconds = None  # type: ignore[attr-defined]

kept = tool_of(forever, name="kept", pure=True, seconds=7.0)
number = 3


@pytest.mark.parametrize(("function", "given"), [(looks, {"x": 0.1}), (several, {})])
async def test_what_a_tool_waits_for_is_no_time_of_its_own(function: Any, given: Any) -> None:
    desk = Desk(alone(effects=Slow()), "main.1.0")
    text, error = await call(tool_of(function, seconds=LIMIT), desk, given)
    assert not error, text


async def test_what_it_computes_is() -> None:
    began = asyncio.get_running_loop().time()
    text, error = await call(tool_of(computes, seconds=LIMIT), Desk(alone(effects=Slow()), "main.1.0"), {})
    assert error and "no answer within 0.3 seconds" in text
    assert asyncio.get_running_loop().time() - began < 30


def test_a_function_may_say_how_long_it_takes_and_a_tool_is_taken_as_it_is() -> None:
    assert load(f"{__name__}:looks").seconds == LIMIT
    assert load(f"{__name__}:forever").seconds is None
    assert load(f"{__name__}:several").seconds == SECONDS
    found = load(f"{__name__}:kept")
    assert isinstance(found, Tool) and (found.name, found.pure, found.seconds) == ("kept", True, 7.0)
    with pytest.raises(ConfigError, match="seconds is 'long'"):
        load(f"{__name__}:silly")
    with pytest.raises(ConfigError, match="not a function"):
        load(f"{__name__}:number")


async def test_a_slow_evaluator_cuts_no_tool_that_looks(tmp_path: Path) -> None:
    def model(request: ModelRequest) -> Completion:
        said = [message for message in request.messages if message.role == "tool"]
        wanted = ToolCall("s", "submit", {"changes": {"x": 0.5}, "rationale": "r"})
        if not said:
            wanted = ToolCall("c", "looks", {"x": 0.25})
        return Completion("", (wanted,), stop="tool", usage=Usage(input=10, output=10))

    options = {"tools": [f"{__name__}:looks"], "off": ["*"]}
    made = session(
        problem=problem(folder=HERE),
        proposer="agentic",
        model=Scripted(model),
        budget=Budget(evaluations=12),
        options=options,
    )
    made.executor.pause = 2 * LIMIT
    await made.run(tmp_path / "run")
    first = next(entry.event for entry in entries(tmp_path / "run") if entry.event.type == "tool.ended")
    assert first.name == "looks" and not first.error, first.text
