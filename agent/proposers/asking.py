"""Model calls for proposers: several at once, what was unusable told, and what comes of the usable ones."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agent.errors import BudgetExceeded, OutputInvalid, ProviderError
from agent.proposers.base import Context, Proposal
from agent.proposers.cards import RADIUS, Seen, anonymous, clip, matched
from agent.space import Candidate

if TYPE_CHECKING:
    from agent.llm.types import Completion, ModelRequest

DRAWS = 200
"""Random draws in a row that were all known, after which a finite space counts as used up."""


async def replies(context: Context, requests: Sequence[ModelRequest], source: str) -> list[Completion | None]:
    """The replies to requests that are made at once, in their order; None where there is nothing usable.

    What went wrong with a request is recorded, as long as another one was answered.

    Raises:
        BudgetExceeded: A limit refused a call, and no other one was answered.
        ProviderError: The model cannot be reached, and no call was answered; or it never will be again.
        ConfigError: The model cannot do what is asked of it.
    """
    assert context.ask is not None
    given = await asyncio.gather(*map(context.ask, requests), return_exceptions=True)
    out: list[Completion | None] = []
    lost: list[BaseException] = []
    for item in given:
        if isinstance(item, OutputInvalid):
            context.reject(f"the reply cannot be used: {item.message}", source, item.raw)
        elif isinstance(item, (BudgetExceeded, ProviderError)) and not getattr(item, "fatal", False):
            lost.append(item)
        elif isinstance(item, BaseException):
            raise item
        out.append(None if isinstance(item, BaseException) else item)
    if lost and not any(out):
        raise lost[0]
    for error in lost:
        context.reject(f"no call was made: {error}", source)
    return out


class Round:
    """The candidates of one decision, and what was wrong with the others.

    Args:
        context: Of the decision; what cannot be used is recorded there.
        source: Under which it is recorded.
    """

    def __init__(self, context: Context, source: str) -> None:
        self.found: list[Candidate] = []
        self.refused: list[str] = []
        """Reasons in words for the model, which is asked once more."""
        self._context = context
        self._source = source
        self._seen = Seen(context)

    def take(self, parsed: dict[str, Any], text: str) -> None:
        """Add the candidate that a reply describes, or record why not. What it leaves out is the champion's."""
        context = self._context
        space = context.problem.space
        values = {**context.champion.values_json, **matched(space, parsed)}
        try:
            candidate = space.candidate(values)
        except ValueError as error:
            self._refuse(f"is not allowed: {error}", text)
            return
        why = self._seen.why(candidate)
        if why:
            self._refuse(why, text)
        else:
            self.found.append(candidate)
            self._seen.add(candidate)

    def _refuse(self, why: str, text: str) -> None:
        self._context.reject(f"the point {why}", self._source, text)
        self.refused.append(anonymous(clip(f"the point {why}", 200)))

    def proposals(self) -> list[Proposal]:
        """What was found."""
        parents = (self._context.history.champion,)
        return [Proposal(item, self._source, "", parents, radius=RADIUS) for item in self.found]


def drawn(context: Context, n: int, source: str, made: Sequence[Candidate] = ()) -> list[Proposal]:
    """Up to `n` random new candidates, for when a model gave nothing usable and that is on record.

    Texts keep the champion's words. Fewer when a finite space seems used up, which the context is told.
    """
    space, out = context.problem.space, [*made]
    if not space.numeric:
        return []
    for _ in range(n):
        for _ in range(DRAWS):
            draw = space.decode([context.rng.random() for _ in space.numeric], context.champion)
            if draw.id not in context.history and draw not in out:
                out.append(draw)
                break
        else:
            context.exhausted = len(out) == len(made)
            break
    return [Proposal(candidate, source) for candidate in out[len(made) :]]
