"""ICPL: the best and the worst of each round of candidates, by somebody's order, go into the next prompt.

After Yu et al. 2024 ("In-Context Preference Learning", arXiv 2410.17233), which takes the prompts of Eureka (Ma et al.
2023, arXiv 2310.12931): a round has K candidates that could be measured, such as reward functions, a person or a
program puts them in order, and the next prompt shows the best and the worst with what they did, and what changed from
the best of the round before. Here the order is that of the run's measurements, whoever gives them: people or programs
that compare outputs (the metric "preference"), or a score, of which the prompt tells nothing but the order.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent.code.untrusted import SAID, untrusted
from agent.errors import BudgetExceeded
from agent.history import Trial
from agent.problem import Problem
from agent.proposers import cards
from agent.proposers.asking import Round, drawn, replies
from agent.proposers.base import Context, Proposal
from agent.proposers.options import check_temperature, check_whole, read
from agent.space import Candidate

if TYPE_CHECKING:
    from agent.llm.types import ModelRequest

SOURCE = "icpl"
WORDS = 3000
"""Characters of what a candidate did, and
"""
CHANGED = 3000
"""of what changed between two of them."""
SHOWN, WRITTEN = 8, 400
"""Candidates of the round at hand in a prompt at most, and characters of a value of theirs."""
ROW = 600
"""Characters of a row."""
FACTS = 900
"""Tokens of a prompt that are neither the card nor candidates, in a forecast."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        size: K, the candidates of a round; those that failed do not count.
        rows: Most rows of data of which the prompt tells what the best and the worst did there.
        temperature: Of the model.
    """

    size: int = 6
    rows: int = 2
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_whole(self, {"size": 2, "rows": 0})
        check_temperature(self.temperature)


class ICPL:
    """One call per proposal, over all parameters of the space. It remembers nothing: the history is its state."""

    name = SOURCE
    needs_model = True
    texts = True
    """It changes texts and programs too, so that a space needs no numbers and no choices."""

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` candidates of the round at hand.

        When none of the replies holds anything new, one more is asked for, with the reasons. When that brings nothing
        either, numbers and choices are drawn at random, marked `icpl:fallback`.

        Raises:
            BudgetExceeded: A limit keeps it from calling the model.
            ProviderError: The model cannot be reached.
            ConfigError: An option is wrong.
        """
        options = read(Options, context.options)
        source = f"{SOURCE}:llm"
        if context.ask is None:
            context.reject("there is no model to ask", source)
            return drawn(context, n, f"{SOURCE}:fallback")
        pairs = rounds(context, options.size)
        found = Round(context, source)
        request = await self._request(context, options, pairs)
        for reply in await replies(context, [request] * n, source):
            if reply is not None:
                found.take(reply.parsed, reply.text)
        if found.refused and not found.found:
            again = await self._request(context, options, pairs, found.refused[-cards.TOLD :])
            try:
                for reply in await replies(context, [again], source):
                    if reply is not None:
                        found.take(reply.parsed, reply.text)
            except BudgetExceeded as error:
                context.reject(f"no further call was made: {error.message}", source)
        parents = tuple(dict.fromkeys(trial.id for trial in pairs[-1])) if pairs else (context.history.initial,)
        made = [replace(proposal, parents=parents) for proposal in found.proposals()]
        return made or drawn(context, n, f"{SOURCE}:fallback")

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """A call for each candidate, and one more where its reply is of no use."""
        from agent.llm.estimate import text_bound

        chosen = read(Options, options)
        space, initial = problem.space, problem.initial()
        values = sum(text_bound(text) + 8 for _, text in shown(initial))
        told = min(1, chosen.rows) * WORDS
        prompt = text_bound(cards.card(problem, list(space))) + FACTS + 2 * (values + told) + CHANGED
        reply = cards.reply_tokens(cards.properties(space, list(space), initial))
        return 2 * candidates, 2 * candidates * prompt, 2 * candidates * reply

    async def _request(
        self, context: Context, options: Options, pairs: Sequence[tuple[Trial, Trial]], refused: Sequence[str] = ()
    ) -> ModelRequest:
        from agent.llm.types import Message, ModelRequest
        from agent.prompts.render import render

        problem, names = context.problem, list(context.problem.space)
        first = context.history[context.history.initial]
        best, worst = pairs[-1] if pairs else (None, None)
        rows = await _rows(context, options.rows, *((best, worst) if best else (first,)))
        fields = cards.properties(problem.space, names, context.champion)
        user = render(
            "icpl.txt",
            size=options.size,
            first=shown(first.candidate),
            first_words="" if best else _words(context, first, rows),
            best=shown(best.candidate) if best else [],
            worst=shown(worst.candidate) if worst else [],
            best_words=_words(context, best, rows),
            worst_words=_words(context, worst, rows),
            changed=_changed(pairs[-2][0], pairs[-1][0]) if len(pairs) > 1 else "",
            written=_written(context, best or first, options.size * len(pairs)),
            facts=cards.facts(context, SOURCE, names),
            refused=refused,
        )
        return ModelRequest(
            messages=(Message("user", user),),
            system=render("icpl_system.txt", card=cards.card(problem, names)),
            schema=cards.closed(fields),
            max_output_tokens=cards.reply_tokens(fields),
            temperature=options.temperature,
        )


def rounds(context: Context, size: int) -> list[tuple[Trial, Trial]]:
    """The best and the worst of every round that is complete, in order.

    Candidates that failed or break a constraint belong to no round, so that one has always `size` that were measured.
    """
    good = _good(context)
    out = []
    for start in range(0, len(good) - size + 1, size):
        order = sorted(good[start : start + size], key=lambda trial: (cards.cost(context.problem, trial), trial.number))
        out.append((order[0], order[-1]))
    return out


def shown(candidate: Candidate) -> list[tuple[str, str]]:
    """Every parameter with its value, whole."""
    return [(name, _whole(candidate[name])) for name in candidate]


def _whole(value: Any) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"{path}\n{text}" for path, text in sorted(value.items()))
    return value if isinstance(value, str) and "\n" in value else json.dumps(value, ensure_ascii=False)


def _changed(before: Trial, after: Trial) -> str:
    """The lines that differ."""
    old, new = ("\n".join(f"{name} = {text}" for name, text in shown(trial.candidate)) for trial in (before, after))
    lines = difflib.unified_diff(old.split("\n"), new.split("\n"), lineterm="", n=1)
    return cards.clip("\n".join(line for line in lines if not line.startswith(("---", "+++"))), CHANGED)


def _written(context: Context, base: Trial, before: int) -> list[str]:
    """How the candidates of the round at hand differ from the best one; `before` is how many good ones came earlier."""
    good = _good(context)[before:]
    last = good[0].number if good else len(context.history)
    mine = [
        t for t in context.history.trials if t.source.startswith(SOURCE) and (t.state == "queued" or t.number >= last)
    ]
    out = []
    for trial in mine[-SHOWN:]:
        changes = context.problem.space.diff(base.candidate, trial.candidate)
        out.append("; ".join(f"{item.name} {cards.clip(_whole(item.after), WRITTEN)}" for item in changes))
    return out


def _good(context: Context) -> list[Trial]:
    mine = [trial for trial in context.history.trials if trial.source.startswith(SOURCE)]
    return [trial for trial in mine if trial.values is not None and trial.feasible]


async def _rows(context: Context, most: int, *trials: Trial | None) -> dict[str, str]:
    """Rows on which all of them were measured, with their content. They count as read."""
    there = [trial for trial in trials if trial is not None]
    if context.reader is None or not there:
        return {}
    known = {item.id for item in context.problem.split("train")}
    common = [row for row in there[0].rows if row in known and all(row in trial.rows for trial in there)]
    chosen = context.rng.sample(common, min(most, len(common)))
    views = [await context.read(row) for row in chosen]
    return {view.id: cards.clip(json.dumps(view.row, ensure_ascii=False, default=str), ROW) for view in views}


def _words(context: Context, trial: Trial | None, rows: Mapping[str, str]) -> str:
    """What a candidate did, in the evaluator's words: on these rows, or as a whole where it has none."""
    if trial is None:
        return ""
    said = [f"row: {row}\n{trial.rows[name][1]}" for name, row in rows.items()] if trial.rows else [trial.feedback]
    text = "\n".join(words for words in said if words)
    return untrusted(text, context.rng, WORDS, SAID) if text else ""
