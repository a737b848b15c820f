"""What the tests of batches share: many questions, and what they became at both ends."""

from __future__ import annotations

import json
from typing import Any

from fake_provider import Behaviour, FakeProvider, ok
from llm_helpers import Desk, say

from agent.errors import AgentError
from agent.llm.gateway import Llm
from agent.llm.types import Completion

IN_BATCHES: dict[str, Any] = {"batch": ("propose",), "window": 0.02}


def echo(body: Any) -> Behaviour:
    """A model that answers "answer 3" to "question 3"."""
    text = json.dumps(getattr(body, "body", body))
    return ok("answer " + text.split("question ")[-1].split('"')[0])


async def ask(llm: Llm, count: int = 3, **more: Any) -> list[Completion | AgentError]:
    return await llm.complete_all([say(f"question {i}") for i in range(count)], role="propose", scope="s", **more)


def texts(replies: list[Completion | AgentError]) -> list[str]:
    return [reply.text if isinstance(reply, Completion) else f"error: {reply.message}" for reply in replies]


def answers(count: int = 3) -> list[str]:
    return [f"answer {i}" for i in range(count)]


def kinds(desk: Desk) -> list[str]:
    return [event.type for event in desk.events]


def counts(desk: Desk) -> dict[str, Any]:
    """What the last batch's end says of its results."""
    found: dict[str, Any] = next(event for event in reversed(desk.events) if event.type == "batch.ended").counts  # type: ignore[attr-defined]
    return found


def agrees(provider: FakeProvider, desk: Desk) -> None:
    """The server's own count lies between what the ledger knows and what it holds possible."""
    spent = desk.ledger.to_json()
    known = spent["tokens"]["input"] + spent["tokens"]["output"]
    assert known <= provider.batches.tokens <= known + spent["possibly_spent"]["tokens"]
    assert desk.ledger.total.calls - provider.batches.calls <= sum(e.reply is None for e in desk.ended)
