"""OPRO: the LLM sees the best configurations so far, worst first, and writes a better one.

After Yang et al. 2024 ("Large Language Models as Optimizers", ICLR, arXiv 2309.03409), section 3 and the
authors' programs for linear regression and routes: the best N pairs of result and solution in ascending
order, scores rounded, and a new solution that differs from all of them. A reply holds a value for every
parameter of the space: numbers and choices, and texts, programs and choices of examples as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import BudgetExceeded
from agent.history import Trial
from agent.problem import Problem
from agent.proposers import cards
from agent.proposers.asking import Round, drawn, replies
from agent.proposers.base import Context, Proposal
from agent.proposers.options import check_temperature, check_whole, read

if TYPE_CHECKING:
    from agent.llm.types import ModelRequest

SOURCE = "opro"
CHARACTERS = 8000
"""Of the history in a prompt: long texts are shown for the best alone."""
FACTS = 600
"""Tokens of a prompt that are not the card and not the history, in a forecast."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        shown: N, the best configurations shown; fewer where they are long, but always the best.
        temperature: Of the model.
    """

    shown: int = 20
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_whole(self, {"shown": 1})
        check_temperature(self.temperature)


class OPRO:
    """One call per proposal, over all parameters of the space. It remembers nothing: the history is its state."""

    name = SOURCE
    needs_model = True
    texts = True
    """It changes texts too, so that a space needs no numbers and no choices."""

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` new configurations.

        When none of the replies holds anything new, one more is asked for, with the reasons. When that brings
        nothing either, numbers and choices are drawn at random, marked `opro:fallback`; texts are left alone, so
        that a space of texts alone gets no proposal.

        Raises:
            BudgetExceeded: A limit keeps it from calling the model.
            ProviderError: The model cannot be reached.
            ConfigError: An option is wrong.
        """
        options = read(Options, context.options)
        if context.ask is None:
            context.reject("there is no model to ask", f"{SOURCE}:llm")
            return drawn(context, n, f"{SOURCE}:fallback")
        found = Round(context, f"{SOURCE}:llm")
        request = _request(context, options)
        self._take(found, await replies(context, [request] * n, f"{SOURCE}:llm"))
        if found.refused and not found.found:
            again = _request(context, options, found.refused[-cards.TOLD :])
            try:
                self._take(found, await replies(context, [again], f"{SOURCE}:llm"))
            except BudgetExceeded as error:
                context.reject(f"no further call was made: {error.message}", f"{SOURCE}:llm")
        return found.proposals() or drawn(context, n, f"{SOURCE}:fallback")

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """A call for each candidate, and one more where its reply is of no use; lines as long as the initial one."""
        from agent.llm.estimate import text_bound

        chosen = read(Options, options)
        space, initial = problem.space, problem.initial()
        line = text_bound(cards.configuration(space, initial, list(space))) + 16 + 8 * len(space)
        lines = min(chosen.shown * line, max(line, CHARACTERS))
        prompt = text_bound(cards.card(problem, list(space))) + FACTS + lines
        reply = cards.reply_tokens(cards.properties(space, list(space), initial))
        return 2 * candidates, 2 * candidates * prompt, 2 * candidates * reply

    def _take(self, found: Round, given: Sequence[Any]) -> None:
        for reply in given:
            if reply is not None:
                found.take(reply.parsed, reply.text)


def _request(context: Context, options: Options, refused: Sequence[str] = ()) -> ModelRequest:
    from agent.llm.types import Message, ModelRequest
    from agent.prompts.render import render

    problem, names = context.problem, list(context.problem.space)
    fields = cards.properties(problem.space, names, context.champion)
    user = render(
        "opro.txt",
        rows=_rows(context, options.shown),
        initial=cards.configuration(problem.space, context.champion, names),
        facts=cards.facts(context, SOURCE, names),
        refused=refused,
    )
    return ModelRequest(
        messages=(Message("user", user),),
        system=render("opro_system.txt", card=cards.card(problem, names)),
        schema=cards.closed(fields),
        max_output_tokens=cards.reply_tokens(fields),
        temperature=options.temperature,
    )


def _rows(context: Context, most: int) -> list[str]:
    """Lines "result: configuration" of the best, worst first, and no two that look alike."""
    problem, names = context.problem, list(context.problem.space)
    best = cards.ranked(context)[:most]
    results = cards.rounded([problem.compared(trial.values or {}) for trial in best])
    out: dict[str, Trial] = {}
    for result, trial in zip(results, best, strict=True):
        row = f"{result}: {cards.marked(problem.space, trial.candidate, names)}"
        if out and row not in out and sum(map(len, out)) + len(row) > CHARACTERS:
            break
        out.setdefault(row, trial)
    context.showing(*out.values())
    return list(out)[::-1]
