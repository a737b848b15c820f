"""Good prompts in other words.

The resampling step of APE (Zhou et al. 2023, "Large Language Models Are Human-Level Prompt Engineers", ICLR, arXiv
2211.01910, section 3.3): a model writes a variant of one of the best texts that means the same. A style is drawn for
each, as MIPRO does with its tips, so that variants differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError
from agent.history import Trial
from agent.problem import Problem
from agent.proposers import cards, evidence
from agent.proposers.asking import replies
from agent.proposers.base import Context, Proposal
from agent.proposers.fronts import standing_on
from agent.proposers.options import check_temperature, check_whole, read
from agent.proposers.optoprime import FACTS, untold
from agent.texts import Text

if TYPE_CHECKING:
    from agent.llm.types import ModelRequest

SOURCE = "paraphrase"
TRIED = 4
"""Earlier variants that a prompt tells of."""
TEXT = 400
"""Characters of one of them."""
REASON = 300
"""Characters of why an earlier reply was of no use, in a prompt."""
STYLES = (
    "",
    "Use plain, short sentences.",
    "Make it as short as it can be.",
    "Spell out what is only implied.",
    "Give it as numbered steps.",
    "Put what matters most first.",
)


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        best: How many of the best candidates may be a parent; a better one is drawn more often.
        temperature: Of the model.
    """

    best: int = 3
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_whole(self, {"best": 1})
        check_temperature(self.temperature)


class Paraphrase:
    """One call per candidate; all texts of a parent are said anew, and everything else stays."""

    name = SOURCE
    needs_model = True
    texts = True
    """It changes texts, so that a space needs no numbers."""

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` variants; fewer where a reply is of no use, with the reason on record and told next time.

        Raises:
            BudgetExceeded: A limit keeps it from calling the model.
            ProviderError: The model cannot be reached.
            ConfigError: The space has no text, or an option is wrong.
        """
        options = read(Options, context.options)
        texts_of(context.problem, SOURCE)
        if context.ask is None:
            context.reject("there is no model to ask", f"{SOURCE}:llm")
            return []
        refused, seen = untold(context, SOURCE)
        asked = [
            (parent, request(context, parent, options.temperature, refused))
            for parent in parents(context, n, options.best)
        ]
        given = await replies(context, [item for _, item in asked], f"{SOURCE}:llm")
        out: dict[str, Proposal] = {}
        for (parent, _), reply in zip(asked, given, strict=True):
            if reply is not None:
                take(context, parent, reply.parsed, f"{SOURCE}:llm", out)
        context.memory = {"told": seen}
        return list(out.values())

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """A call for each candidate; texts as long as the initial ones."""
        read(Options, options)
        return bound(problem, candidates, 1)


def texts_of(problem: Problem, proposer: str) -> list[str]:
    """The names of the texts in a problem's space.

    Raises:
        ConfigError: There are none, so that this proposer has nothing to change.
    """
    names = [name for name, item in problem.space.items() if isinstance(item, Text)]
    if not names:
        raise ConfigError(
            f"the proposer {proposer} changes texts, and the space has none",
            hint="declare a parameter of the type text, or choose another proposer",
        )
    return names


def bound(problem: Problem, calls: int, shown: int) -> tuple[int, int, int]:
    """Calls, and tokens in and out at most, where each prompt shows `shown` versions of all texts.

    Raises:
        ConfigError: There are no texts.
    """
    from agent.llm.estimate import text_bound

    names, initial = texts_of(problem, SOURCE), problem.initial()
    values = sum(text_bound(f"{name} = {initial[name]}") + 64 for name in names)
    prompt = text_bound(cards.card(problem, names)) + FACTS + TRIED * TEXT + shown * values
    return calls, calls * prompt, calls * cards.reply_tokens(cards.properties(problem.space, names, initial))


def parents(context: Context, n: int, best: int) -> list[Trial]:
    """So many parents among the best, each half as likely as the one above it; the champion before any result."""
    ranked = cards.ranked(context)[:best] or [context.history[context.history.champion]]
    return context.rng.choices(ranked, [0.5**place for place in range(len(ranked))], k=n)


def request(context: Context, parent: Trial, temperature: float, refused: Sequence[str] = ()) -> ModelRequest:
    """Asks for a parent's texts in other words."""
    from agent.llm.types import Message, ModelRequest
    from agent.prompts.render import render

    problem = context.problem
    names = texts_of(problem, SOURCE)
    fields = cards.properties(problem.space, names, parent.candidate)
    shown = evidence.variables(standing_on(context, parent.id))
    user = render(
        "paraphrase.txt",
        texts=[(name, value) for name, value in shown if name in names],
        tried=tried(context, parent, names),
        style=context.rng.choice(STYLES),
        refused=list(dict.fromkeys(cards.clip(cards.anonymous(reason), REASON) for reason in refused))[-cards.TOLD :],
    )
    return ModelRequest(
        messages=(Message("user", user),),
        system=render("paraphrase_system.txt", card=cards.card(problem, names)),
        schema=cards.closed(fields),
        max_output_tokens=cards.reply_tokens(fields),
        temperature=temperature,
    )


def tried(context: Context, parent: Trial, names: Sequence[str]) -> list[str]:
    """Lines on the latest variants of a parent: what came of them, and their texts as far as they are new."""
    problem, out = context.problem, []
    children = [trial for trial in context.history.trials if parent.id in trial.parents][-TRIED:]
    for trial in children:
        result = "failed" if trial.failure else "not known yet"
        if trial.values is not None:
            result = f"{problem.compared(trial.values):.6g}"
        new = {name: trial.candidate[name] for name in names if trial.candidate[name] != parent.candidate[name]}
        if new:
            out.append(f"{result}: {cards.clip(json.dumps(new, ensure_ascii=False), TEXT)}")
    return out


def take(
    context: Context,
    parent: Trial,
    changes: Mapping[str, Any],
    source: str,
    out: dict[str, Proposal],
    others: Sequence[str] = (),
    read: Sequence[str] = (),
) -> None:
    """Add the candidate that a reply makes of a parent, or record why not.

    Args:
        context: Of the decision.
        parent: What the changes are to.
        changes: New values by name, all of them good or none is taken.
        source: Who proposes.
        out: Proposals by candidate.
        others: Further parents.
        read: Rows that the memory tells of.
    """
    space = context.problem.space
    try:
        candidate = space.candidate({**parent.candidate, **changes})
    except ValueError as error:
        context.reject(f"the reply cannot be used: {error}", source, str(changes))
        return
    if candidate.id in context.history:
        number = context.history[candidate.id].number
        context.reject(f"the reply repeats candidate {number}", source, str(changes))
    elif candidate.id in out:
        context.reject("the reply is the same as another one just made", source, str(changes))
    else:
        out[candidate.id] = Proposal(
            candidate, source, "", tuple(dict.fromkeys([parent.id, *others])), read=tuple(read)
        )
