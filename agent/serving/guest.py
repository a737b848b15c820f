"""The proposer whose candidates come from another program: it takes requests from a desk, one at a time.

What was asked and what was answered are steps of its decision. So they are journalled, a run that was killed goes on
with them without paying again, and a replay needs nobody who asks.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from agent.errors import AgentError, ConfigError, PrerequisiteError, StoreError
from agent.looking import REFUSED
from agent.proposers.base import Context, Proposal, Proposer
from agent.proposers.table import TABLE, load, talks

if TYPE_CHECKING:
    from pathlib import Path

    from agent.looking import Look
    from agent.problem import Problem
    from agent.settings import Settings

NAME = "agent.serving.guest:Guest"
"""What stands in the settings of a run that has a guest."""
REQUEST, ANSWER = "guest.request", "guest.answer"
"""Names of the two steps of a request, in the journal."""
FINISHED = "whoever proposes asked to finish"
"""Why a search ends that a guest has ended."""
NOTHING, CLOSED = "nothing", "closed"
"""What the desk says when nobody asks, and when nothing is taken any more."""
CHECKED = (
    "a check refuses them: a text lacks a placeholder, a program its form, it breaks a rule of the user's, or it "
    "repeats what is held out"
)
"""What a guest is told whichever check it was: what it did not know would be one bit about held-out rows each time."""
WORDS = 2000
"""Characters of what an evaluator says of one row that are passed on."""


class Desk(Protocol):
    """Where requests wait; `agent.serving.line.Line` is the one that takes them over HTTP."""

    async def take(self, wait: bool) -> dict[str, Any]:
        """The next request, as {"do": …}; with `wait`, not before there is one or the run has other things to do."""
        ...

    def answered(self, request: Mapping[str, Any], text: str, failed: bool) -> None:
        """The answer to a request, as JSON."""
        ...


def invited(settings: Settings, beside: bool, folder: Path) -> Settings:
    """The settings of a run that has a guest.

    Args:
        settings: Of the problem.
        beside: Whether the problem's own proposer searches too.
        folder: The problem's, where a proposer of the user's own may be.
    """
    own = {"name": settings.proposer, "options": dict(settings.options)} if beside else None
    models = dict(settings.models)
    if not beside or not talks(load(settings.proposer, folder)):
        models.pop("propose", None)  # nobody would ask it, and it would be loaded
    return replace(settings, proposer=NAME, options={"beside": own}, models=models)


class Guest:
    """Proposes what a guest asks for; beside a proposer of the problem's own, or alone.

    `options` holds `beside`: None, or the name and the options of the problem's own proposer.
    """

    name = "guest"
    needs_model = False
    uses_model = True
    texts = True

    def __init__(self) -> None:
        self.desk: Desk | None = None
        """None in a replay, and in a run that is resumed without anybody to ask."""

    def check(self, problem: Problem, options: Mapping[str, Any], model: bool) -> None:
        """Refuse what the proposer beside it would refuse."""
        own, given = _beside(options, problem)
        if own is None:
            return
        if own.needs_model and not model:
            raise ConfigError(
                f"the proposer {own.name!r} asks a model, and there is none",
                hint="name one as models.propose in problem.toml, or serve without --beside",
            )
        if not problem.space.numeric and not getattr(own, "texts", False) and own.name in TABLE:
            raise ConfigError(
                f"the proposer {own.name!r} changes numbers and choices, and the space has none",
                hint="name another one in problem.toml, or serve without --beside",
            )
        able = getattr(own, "check", None)
        if able is not None:
            able(problem, given, model)

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        own, given = _beside(options, problem)
        return own.forecast(problem, candidates, given) if own is not None else (0, 0, 0)

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        memory = context.memory or {}
        own, options = _beside(context.options, context.problem)
        made, more = await self._serve(context, alone=own is None)
        read = list(dict.fromkeys([*memory.get("read", ()), *context.reads]))
        context.memory = {"read": read, "own": memory.get("own")}
        if made or own is None or not more:
            return [
                Proposal(
                    request["values"], f"guest:{request['by']}", str(request.get("rationale", "")), read=tuple(read)
                )
                for request in made
            ]
        # What the guest saw is no news to the proposer beside it, which sees the history as always.
        context.reads.clear()
        outer, context.options, context.memory = context.options, options, memory.get("own")
        try:
            return await own.propose(context, n)
        finally:
            context.options, context.memory = outer, {"read": read, "own": context.memory}

    async def _serve(self, context: Context, alone: bool) -> tuple[list[dict[str, Any]], bool]:
        """Take requests until there are candidates, or nothing more; what they propose, and whether the search goes
        on."""
        made: list[dict[str, Any]] = []
        tasks: list[asyncio.Task[None]] = []
        turn = 0
        try:
            while True:
                turn += 1
                request = await self._request(context, turn, alone and not made)
                if request["do"] == "finish":
                    context.over = FINISHED
                if request["do"] in (NOTHING, CLOSED, "finish"):
                    await asyncio.gather(*tasks)
                    return made, request["do"] == NOTHING
                if request["do"] == "propose":
                    made.append(request)
                else:
                    tasks.append(asyncio.create_task(self._answer(context, turn, request)))
        finally:
            for task in tasks:
                task.cancel()

    async def _request(self, context: Context, turn: int, wait: bool) -> dict[str, Any]:
        async def work(key: str) -> tuple[str, bool]:
            if self.desk is not None:
                return json.dumps(await self.desk.take(wait), ensure_ascii=False), False
            if not wait:
                return json.dumps({"do": NOTHING}), False
            raise PrerequisiteError(
                "the candidates of this run come from another program, and nobody takes them here",
                fix="truegain serve-eval with its --resume takes them",
            )

        text, _ = await context.step("request", turn, 0, REQUEST, {}, work)
        found: dict[str, Any] = json.loads(text)
        return found

    async def _answer(self, context: Context, turn: int, request: dict[str, Any]) -> None:
        async def work(key: str) -> tuple[str, bool]:
            try:
                return json.dumps(await _done(context, request, key), ensure_ascii=False), False
            except StoreError:
                raise
            except AgentError as error:
                return json.dumps(error.to_json(), ensure_ascii=False), True
            except ValueError as error:
                return json.dumps(
                    {"kind": "config", "message": str(error), "hint": "the problem tells its space"}
                ), True

        text, failed = await context.step("answer", turn, 0, ANSWER, request, work)
        if self.desk is not None:
            self.desk.answered(request, text, failed)


async def _done(context: Context, request: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What a request that is no proposal gives."""
    if request["do"] == "read":
        views = [await context.read(name) for name in request["examples"]]
        return {"rows": [{"example": v.id, "row": v.row, "champion": v.score} for v in views]}
    try:
        found = await context.look(request["values"], request["examples"], key=key)
    except ConfigError as error:
        if not error.message.startswith(REFUSED):
            raise
        raise ConfigError(f"{REFUSED}{CHECKED}", hint="change them") from None
    return {
        "candidate": found.candidate,
        "mean": found.mean,
        "rows": _rows(found),
        "cost": context.looked(key),
    }


def _rows(found: Look) -> list[dict[str, Any]]:
    return [
        {
            "example": row.example,
            "values": dict(row.values) if row.values is not None else None,
            "feedback": row.feedback[:WORDS],
            "failure": row.failure[:WORDS],
        }
        for row in found.rows
    ]


def _beside(options: Mapping[str, Any], problem: Problem) -> tuple[Proposer | None, Mapping[str, Any]]:
    """The problem's own proposer with its options, where it searches too."""
    beside = options.get("beside")
    if beside is None:
        return None, {}
    return load(str(beside["name"]), problem.folder), dict(beside["options"])
