"""A proposer for tests of the loop: EvoLLM and coordinate search in turn, so that a model and code both propose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.errors import BudgetExceeded
from agent.problem import Problem
from agent.proposers.base import Context, Proposal
from agent.proposers.table import load

MODEL, CLASSICAL = "evollm", "coordinate"
TURN = 4
"""Turns of the classical arm, one candidate each, between two generations of EvoLLM of about as many."""


class Turns:
    """One generation of EvoLLM, then as many candidates of coordinate search; each keeps a memory of its own."""

    name = "turns"
    needs_model = True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """The proposals of the arm whose turn it is; the classical one's when a limit bars the other's model."""
        memory = dict(context.memory or {"turn": 0, "arms": {}})
        turn = memory["turn"]
        memory["turn"] = 1 if turn == 0 else turn + n if turn + n <= TURN else 0
        arms = dict(memory["arms"])
        if turn == 0:
            try:
                out = await self._ask(MODEL, context, arms, n)
            except BudgetExceeded as error:
                context.reject(f"no model call was made: {error.message}", MODEL)
                out = await self._ask(CLASSICAL, context, arms, n)
        else:
            out = await self._ask(CLASSICAL, context, arms, n)
        memory["arms"] = arms
        context.memory = memory
        return out

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """As for EvoLLM, which makes half of the candidates."""
        return load(MODEL).forecast(problem, -(-candidates // 2), options)

    async def _ask(self, arm: str, context: Context, arms: dict[str, object], n: int) -> list[Proposal]:
        context.memory = arms.get(arm)
        out = await load(arm).propose(context, n)
        arms[arm] = context.memory
        if arm == MODEL:
            context.exhausted = False  # the classical arm decides when nothing is left
        return out
