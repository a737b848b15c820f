"""SPO: a model sees the prompt with its outputs, and no right answer, and writes a better one.

After Xiang et al. 2025 ("Self-Supervised Prompt Optimization", arXiv 2502.06855), section 3.2: the best prompt so far,
its outputs on a few tasks and the requirements go in; an analysis, a modification and the whole new prompt come out.
That outputs are compared, and not scored, is the evaluator's part: see `agent.evaluators.pairwise`. There the judge
never sees a prompt; here the model never sees more of the judge than its words on the champion's outputs. Whether a
candidate is kept is for the race and the gate to say, where the original goes by a majority of votes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.code.untrusted import cleaned
from agent.proposers import cards, evidence, typed
from agent.proposers.base import Context
from agent.proposers.evidence import Evidence
from agent.proposers.optoprime import REASON, TOLD, Options, OptoPrime

if TYPE_CHECKING:
    from agent.llm.types import ModelRequest

ANALYSIS = 800
"""Characters of what a reply says of the outputs."""


class SPO(OptoPrime):
    """One call per proposal. Options, memory, and what becomes of a reply are OptoPrime's."""

    name = "spo"

    def _request(
        self,
        context: Context,
        options: Options,
        known: Evidence,
        words: str,
        critiques: Mapping[str, str],
        refused: Sequence[str],
    ) -> ModelRequest:
        from agent.llm.types import Message, ModelRequest
        from agent.prompts.render import render

        space = context.problem.space
        left = context.left.get("evaluations", math.inf)
        user = render(
            "spo.txt",
            variables=evidence.variables(context),
            result=evidence.outcome(context),
            evidence=words,
            left=f"{left:.0f}" if math.isfinite(left) else "",
            refused=list(dict.fromkeys(cleaned(cards.anonymous(reason), REASON) for reason in refused))[-TOLD:],
        )
        analysis: dict[str, Any] = {"type": "string", "maxLength": ANALYSIS}
        plain = typed.schema(space, context.champion)
        return ModelRequest(
            messages=(Message("user", user),),
            system=render("spo_system.txt", card=cards.card(context.problem, list(space))),
            schema=cards.closed({"analysis": analysis, **plain["properties"]}),
            max_output_tokens=typed.reply_tokens(plain) + cards.reply_tokens({"analysis": analysis}),
            temperature=options.temperature,
        )

    def forecast(self, problem: Any, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """As OptoPrime's, with the analysis."""
        calls, heard, said = super().forecast(problem, candidates, options)
        return calls, heard, said + calls * cards.reply_tokens({"analysis": {"type": "string", "maxLength": ANALYSIS}})
