"""Feedback as gradient: a critique of every parameter first, then the update that follows it.

After Yuksekgonul et al. 2024 ("TextGrad: Automatic Differentiation via Text", arXiv 2406.07496): the words that say how
a variable should change take the place of its gradient. There each edge of the graph costs a call; here one call
criticises all parameters from the same packed evidence that OptoPrime reads, and the update sees the critiques in its
place. So a candidate costs two calls where OptoPrime's costs one, and limits on calls or tokens compare the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from agent.proposers import cards, evidence
from agent.proposers.asking import replies
from agent.proposers.base import Context
from agent.proposers.evidence import Evidence
from agent.proposers.optoprime import Options, OptoPrime

if TYPE_CHECKING:
    from agent.llm.types import ModelRequest

CRITIQUE = 400
"""Characters of the critique of one parameter."""


class TextGrad(OptoPrime):
    """Two calls per proposal: critique and update. Options and memory are OptoPrime's."""

    name = "textgrad"
    calls = 3

    async def critiques(self, context: Context, options: Options, known: Evidence) -> Mapping[str, str] | None:
        request = _question(context, options, known)
        (reply,) = await replies(context, [request], f"{self.name}:critique")
        if reply is None:
            return None
        return {name: cards.clip(" ".join(str(words).split()), CRITIQUE) for name, words in reply.parsed.items()}

    def evidence(self, context: Context, options: Options, known: Evidence) -> str:
        """The memory of attempts alone: the critiques stand for the rest."""
        return known.text(context, options.tokens, cases=False)


def _question(context: Context, options: Options, known: Evidence) -> ModelRequest:
    from agent.llm.types import Message, ModelRequest
    from agent.prompts.render import render

    problem = context.problem
    fields = {name: {"type": "string", "maxLength": CRITIQUE} for name in problem.space}
    user = render(
        "textgrad.txt",
        variables=evidence.variables(context),
        result=evidence.outcome(context),
        evidence=known.text(context, options.tokens),
    )
    system = render("textgrad_system.txt", card=cards.card(problem, list(problem.space)), traced=known.traced)
    return ModelRequest(
        messages=(Message("user", user),),
        system=system,
        schema=cards.closed(fields),
        max_output_tokens=cards.reply_tokens(fields),
        temperature=options.temperature,
    )
