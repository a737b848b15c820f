"""A proposer that works in steps, and the model it talks to, for tests of looks, steps and transcripts.

Each decision is a conversation: in its first turns the model calls tools, two at once, and then it answers. What it
says is a function of what it was sent.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent.errors import AgentError, BudgetExceeded
from agent.llm.types import Completion, Message, ModelRequest, ToolCall, ToolSpec, Usage
from agent.problem import Problem
from agent.proposers.base import Context, Proposal

TOOLS = (
    ToolSpec("measure", "Measures a value of x.", {"type": "object", "properties": {"x": {"type": "number"}}}),
    ToolSpec("criticise", "Asks a critic.", {"type": "object", "properties": {"x": {"type": "number"}}}),
    ToolSpec("read", "Reads a row.", {"type": "object", "properties": {"row": {"type": "string"}}}),
)
NAME = "tests.stepper:Stepper"
NOISY = False
"""Set by `tests.step_kill_worker`."""
FUSE = [0, 0.0]
"""Measurements and replies until this process ends, and seconds after that; set by `tests.step_kill_worker`."""


def burn() -> None:
    """One of them less. What kills is SIGKILL, at a moment that no clock of a busy machine can miss."""
    FUSE[0] -= 1
    if FUSE[0] == 0:
        asyncio.get_running_loop().call_later(FUSE[1], os.kill, os.getpid(), signal.SIGKILL)


def call(number: int, name: str, **arguments: Any) -> ToolCall:
    return ToolCall(f"call-{number}", name, arguments)


def model(request: ModelRequest) -> Completion | str:
    """Measures two values, asks about the better one, and proposes it."""
    said = [message for message in request.messages if message.role == "tool"]
    if not request.tools:
        return f"critic: {request.messages[-1].text} is dull"
    first = json.loads(request.messages[0].text)
    x, step = first["x"], 0.3 / first["decision"]
    usage = Usage(input=10, output=5)
    if not said:
        calls = (call(1, "measure", x=x - step), call(2, "measure", x=x + step))
        return Completion("I look to both sides.", calls, stop="tool", usage=usage)
    seen = {round(float(text.split()[1]), 6): float(text.split()[3]) for m in said if (text := m.text)[:2] == "x "}
    best = min(seen, key=lambda value: seen[value]) if seen else round(x, 6)
    if len(said) == 2:
        calls = (call(3, "criticise", x=best), call(4, "read", row="row-1"))
        return Completion("", calls, stop="tool", usage=usage)
    return json.dumps({"x": best})


class Stepper:
    """Works as the model says; `options["rows"]` are the rows that it measures on."""

    name = "stepper"
    needs_model = True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        assert context.ask is not None
        champion = context.champion
        opening = json.dumps({"decision": context.decision, "x": champion["x"]})
        request = ModelRequest((Message("user", opening),), system="You tune x.", tools=TOOLS)
        turn = 0
        while True:
            turn += 1
            reply = await context.ask(request)
            if not reply.tool_calls:
                break
            texts = await asyncio.gather(
                *(self.tool(context, turn, index, wanted) for index, wanted in enumerate(reply.tool_calls))
            )
            answers = [
                Message("tool", text, tool_call_id=wanted.id, is_error=error)
                for wanted, (text, error) in zip(reply.tool_calls, texts, strict=True)
            ]
            request = replace(request, messages=(*request.messages, reply.as_message(), *answers))
        values = {**champion.values_json, "x": max(-1.0, min(1.0, json.loads(reply.text)["x"]))}
        return [Proposal(values, self.name, parents=(champion.id,))]

    async def tool(self, context: Context, turn: int, index: int, wanted: ToolCall) -> tuple[str, bool]:
        async def work(key: str) -> tuple[str, bool]:
            try:
                return await getattr(self, wanted.name)(context, key, **(wanted.arguments or {})), False
            except (AgentError, ValueError) as error:
                return f"{type(error).__name__}: {error}", True

        return await context.step("main", turn, index, wanted.name, wanted.arguments, work)

    async def measure(self, context: Context, key: str, x: float) -> str:
        values = {**context.champion.values_json, "x": max(-1.0, min(1.0, x))}
        found = await context.look(values, context.options.get("rows", ()), key=key)
        assert found.mean is not None
        return f"x {found.values['x']} gives {next(iter(found.mean.values()))}"

    async def criticise(self, context: Context, key: str, x: float) -> str:
        reply = await context.consult(ModelRequest((Message("user", f"x = {x}"),)), role="critic", key=key)
        return reply.text

    async def read(self, context: Context, key: str, row: str) -> str:
        if context.reader is None:
            raise BudgetExceeded("evaluations", 0, 0, message="there are no rows")
        view = await context.read(row)
        return f"row {view.id}: {json.dumps(view.row)}"

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 4 * candidates, 400 * candidates, 100 * candidates
