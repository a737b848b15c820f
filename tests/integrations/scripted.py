"""Proposers that write what a script says, for runs in processes of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.proposers.base import Context, Proposal
from agent.texts import Text

WORDS = ("Answer.", "Answer at once.", "Answer carefully.", "Answer now.")


class Words:
    """One instruction after another for all texts."""

    name = "words"
    needs_model = False
    texts = True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        word = WORDS[context.decision % len(WORDS)]
        values = context.champion.values_json
        changed = {name: word for name, item in context.problem.space.items() if isinstance(item, Text)}
        return [Proposal({**values, **changed}, self.name)]

    def forecast(self, problem: Any, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 0, 0, 0
