"""OptoPrime: one LLM call reads what happened and changes numbers, texts and code together.

After Cheng, Nie and Swaminathan 2024 ("Trace is the Next AutoDiff", NeurIPS, arXiv 2406.16218), section 4: the model
sees the minimal subgraph of the execution trace from the parameters to the output, the parameters with their
constraints, the feedback, and a memory of what was tried. Other than there, the evidence has a token budget, the
memory holds scores, and what comes back is typed. Without a trace it works from feedback and history.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent.code.untrusted import cleaned
from agent.errors import BudgetExceeded, OutputInvalid
from agent.problem import Problem
from agent.proposers import cards, evidence, typed
from agent.proposers.asking import drawn, replies
from agent.proposers.base import Ask, Context, Proposal
from agent.proposers.evidence import Evidence
from agent.proposers.options import check_temperature, check_whole, read, wrong

if TYPE_CHECKING:
    from agent.llm.types import Completion, ModelRequest

FACTS = 900
"""Tokens of a prompt that are neither the card nor the parameters nor the evidence, in a forecast."""
REASON = 400
"""Characters of why something could not be used, in a prompt."""
TOLD = 8
"""Most rejections that one prompt tells of."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        trace: Whether traces are shown. Without them, what they add can be measured.
        tokens: Of the evidence in a prompt: rows, traces, feedback and the memory of attempts.
        rows: Most rows that are shown: half of them the champion's worst, the others drawn at random.
        attempts: Most other candidates in the memory.
        temperature: Of the model.
    """

    trace: bool = True
    tokens: int = 3000
    rows: int = 3
    attempts: int = 10
    temperature: float = 0.7

    def __post_init__(self) -> None:
        if not isinstance(self.trace, bool):
            raise wrong("trace", self.trace, "true or false")
        check_whole(self, {"tokens": evidence.LEAST, "rows": 1, "attempts": 0})
        check_temperature(self.temperature)


class OptoPrime:
    """One call per proposal. Its memory holds how many rejections its prompts have told of."""

    name = "optoprime"
    needs_model = True
    texts = True
    """It changes texts too, so that a space needs no numbers and no choices."""
    calls = 2
    """Most calls for one candidate."""

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` changes of the champion.

        Each change in a reply is taken or refused by itself, and the next prompt tells once what was refused. When
        no reply held anything of use, that prompt is made at once. When it brings nothing either, numbers and
        choices are drawn at random, marked `:fallback`; a space of texts alone gets no proposal.

        Raises:
            BudgetExceeded: A limit keeps it from calling the model.
            ProviderError: The model cannot be reached.
            ConfigError: An option is wrong.
        """
        options = read(Options, context.options)
        source = f"{self.name}:llm"
        if context.ask is None:
            context.reject("there is no model to ask", source)
            return drawn(context, n, f"{self.name}:fallback")
        earlier, seen = untold(context, self.name)
        known = await evidence.gathered(context, trace=options.trace, rows=options.rows, attempts=options.attempts)
        critiques = await self.critiques(context, options, known)
        found: dict[str, Proposal] = {}
        if critiques is not None:
            words = self.evidence(context, options, known)
            await self._ask(context, self._request(context, options, known, words, critiques, earlier), n, found)
            refused = [item["reason"] for item in context.rejections]
            if refused and not found:
                again = self._request(context, options, known, words, critiques, refused)
                seen += len(refused)
                try:
                    await self._ask(context, again, 1, found)
                except BudgetExceeded as error:
                    context.reject(f"no further call was made: {error.message}", source)
        context.memory = {"told": seen}
        return list(found.values()) or drawn(context, n, f"{self.name}:fallback")

    async def critiques(self, context: Context, options: Options, known: Evidence) -> Mapping[str, str] | None:
        """What is wrong with each parameter, in words, before the update; None when that could not be found out."""
        return {}

    def evidence(self, context: Context, options: Options, known: Evidence) -> str:
        """What the update is shown of what happened."""
        return known.text(context, options.tokens)

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """A call for each candidate, and one more where its reply is of no use."""
        from agent.llm.estimate import text_bound

        chosen = read(Options, options)
        space, initial = problem.space, problem.initial()
        values = sum(text_bound(f"{name} = {initial[name]}") + 32 for name in space)
        prompt = text_bound(cards.card(problem, list(space))) + FACTS + chosen.tokens + values
        calls = self.calls * candidates
        return calls, calls * prompt, calls * typed.reply_tokens(typed.schema(space, initial))

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

        problem = context.problem
        shape = typed.schema(problem.space, context.champion)
        left = context.share
        user = render(
            "optoprime.txt",
            variables=evidence.variables(context),
            result=evidence.outcome(context),
            evidence=words,
            critiques=list(critiques.items()),
            left=f"{left:.0f}" if math.isfinite(left) else "",
            refused=list(dict.fromkeys(cleaned(cards.anonymous(reason), REASON) for reason in refused))[-TOLD:],
        )
        system = render(
            "optoprime_system.txt",
            card=cards.card(problem, list(problem.space)),
            traced=known.traced and not critiques,
            code=any(item.type == "code" for item in problem.space.values()),
        )
        return ModelRequest(
            messages=(Message("user", user),),
            system=system,
            schema=shape,
            max_output_tokens=typed.reply_tokens(shape),
            temperature=options.temperature,
        )

    async def _ask(self, context: Context, request: ModelRequest, n: int, found: dict[str, Proposal]) -> None:
        """Add what the replies propose, or record why not."""
        source = f"{self.name}:llm"
        forgiving = replace(context, ask=_salvaging(context, source))
        for reply in await replies(forgiving, [request] * n, source):
            if reply is not None:
                self._take(context, reply, source, found)

    def _take(self, context: Context, reply: Completion, source: str, found: dict[str, Proposal]) -> None:
        space = context.problem.space
        changes, refused = typed.taken(space, context.champion, reply.parsed["changes"])
        for why in refused:
            context.reject(why, source, reply.text)
        if not changes:
            return
        candidate = space.candidate({**context.champion, **changes})
        if candidate.id in context.history:
            number = context.history[candidate.id].number
            context.reject(f"the change of {', '.join(changes)} repeats candidate {number}", source, reply.text)
        elif candidate.id in found:
            context.reject("the reply is the same as another one just made", source, reply.text)
        else:
            why = cards.clip(str(reply.parsed.get("reasoning", "")), typed.REASONING)
            found[candidate.id] = Proposal(candidate, source, why, (context.history.champion,))


def untold(context: Context, name: str) -> tuple[list[str], int]:
    """Why proposals of a proposer were refused since its last prompt, and how many ever were."""
    history, mine = context.history, f"{name}:"
    ever = sum(count for source, count in history.rejected.items() if source.startswith(mine))
    kept = [item["reason"] for item in history.rejections if str(item.get("source", "")).startswith(mine)]
    told = int((context.memory or {}).get("told", 0))
    return kept[max(0, len(kept) - max(0, ever - told)) :], ever


def _salvaging(context: Context, source: str) -> Ask:
    """A model whose reply may miss the schema in one change, so that the others are not lost with it."""

    async def ask(request: ModelRequest) -> Completion:
        from agent.llm.types import Completion, Usage

        assert context.ask is not None
        try:
            return await context.ask(request)
        except OutputInvalid as error:
            parsed = typed.salvaged(error.raw)
            if parsed is None:
                raise
            context.reject(f"the reply does not fit: {cards.clip(error.message, 300)}", source, error.raw)
            return Completion(text=error.raw, usage=error.usage or Usage(), parsed=parsed)

    return ask
