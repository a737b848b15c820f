"""A small world for prompts: a task model that doubles numbers well when the prompt says how."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any

from agent.llm.types import Completion, ModelRequest, Usage
from agent.proposers.base import Context, Proposal

TEMPLATE = "{instruction}\n\nQuestion: {question}"
WORDS = ("apple", "barge", "cider", "drum", "elbow", "fjord", "grove", "hymn", "igloo", "jetty", "kiosk", "lemon")


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Questions that are no near-duplicates of each other."""
    out = []
    for number in range(start, start + count):
        words = " ".join(
            WORDS[(number * 7 + place * (number % 11 + 1)) % len(WORDS)] + str(number % 97) for place in range(6)
        )
        out.append({"question": f"{words}: twice {number}?", "answer": str(2 * number)})
    return out


def number(request: ModelRequest) -> int:
    """What the last question asks about."""
    return int(re.findall(r"twice (\d+)\?", request.messages[-1].text)[-1])


def answer(request: ModelRequest) -> str:
    """Right for every third number, and for all when the prompt says `carefully`."""
    asked = number(request)
    told = request.system + " ".join(message.text for message in request.messages)
    return str(2 * asked) if "carefully" in told or asked % 3 == 0 else "I do not know"


class Task:
    """A task model in this process.

    Args:
        reply: Text for a request, or an exception to raise.
        pause: Seconds that each answer takes.
    """

    def __init__(self, reply: Callable[[ModelRequest], Any] = answer, pause: float = 0.0) -> None:
        self.reply, self.pause = reply, pause
        self.requests: list[ModelRequest] = []
        self.running = self.most = 0

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Completion:
        self.requests.append(request)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.pause)
            found = self.reply(request)
            if isinstance(found, Exception):
                raise found
            if isinstance(found, Completion):
                return found
            heard = sum(len(message.text.split()) for message in request.messages)
            return Completion(found, usage=Usage(input=heard, output=max(1, len(found.split()))), model="task")
        finally:
            self.running -= 1

    async def close(self) -> None:
        return None


class Careful:
    """A proposer that says it better and better; every other proposal is no better."""

    name = "careful"
    needs_model = False
    texts = True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        number = context.decision
        words = f"Answer carefully, version {number}." if number % 2 else f"Just answer, version {number}."
        return [Proposal({**context.history[context.history.champion].candidate, "instruction": words}, "careful")]

    def forecast(self, problem: Any, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 0, 0, 0
