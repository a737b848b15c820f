"""Two good candidates become one: a model combines their texts, and code mixes the rest.

The crossover of EvoPrompt (Guo et al. 2024, "Connecting Large Language Models with Evolutionary Algorithms Yields
Powerful Prompt Optimizers", ICLR, arXiv 2309.08532, section 3.2) and, for examples, of CAPO (Zehle et al. 2025, arXiv
2504.16005): half of the union of both sets. Other than there, parents that are each ahead on rows of their own are
taken first, and the model is told of these rows.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.code.untrusted import untrusted
from agent.history import Trial
from agent.problem import Problem
from agent.proposers import cards, demosets, evidence, fronts, merging, paraphrase
from agent.proposers.asking import drawn, replies
from agent.proposers.base import Context, Proposal
from agent.proposers.options import check_temperature, check_whole, read
from agent.proposers.optoprime import untold
from agent.proposers.packing import Case, packed
from agent.space import Candidate, Space, canonical
from agent.texts import Demos, Text

if TYPE_CHECKING:
    from agent.llm.types import ModelRequest

SOURCE = "crossover"
TRIES = 20
"""Draws of values that are no texts, until they make a new candidate."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        best: How many of the best candidates may be parents where no two complement one another on rows.
        rows: Most rows on which one parent is better than the other that a prompt tells of; they count as read.
        tokens: Of these rows in a prompt.
        temperature: Of the model.
    """

    best: int = 5
    rows: int = 4
    tokens: int = 1500
    temperature: float = 0.7

    def __post_init__(self) -> None:
        check_whole(self, {"best": 2, "rows": 0, "tokens": evidence.LEAST})
        check_temperature(self.temperature)


class Crossover:
    """One call per candidate where its parents differ in a text; none where they do not."""

    name = SOURCE
    needs_model = False
    uses_model = True
    texts = True
    """It changes texts too, so that a space needs no numbers."""

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` children. As long as no two candidates were measured, texts are paraphrased and the rest is drawn
        at random, marked `crossover:start`. Without a model each text comes from one of the parents, and that is said.

        Raises:
            BudgetExceeded: A limit keeps it from calling the model.
            ProviderError: The model cannot be reached.
            ConfigError: An option is wrong.
        """
        options = read(Options, context.options)
        refused, seen = untold(context, SOURCE)
        ranked = cards.ranked(context)[: options.best]
        out: dict[str, Proposal] = {}
        if len(ranked) < 2:
            made = await _first(context, n, options, refused, out)
        else:
            made = await _children(context, ranked, n, options, refused, out)
        context.memory = {"told": seen}
        return made

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """A call for each candidate, where the space has a text."""
        chosen = read(Options, options)
        if not any(isinstance(item, Text) for item in problem.space.values()):
            return 0, 0, 0
        calls, prompt, reply = paraphrase.bound(problem, candidates, 2)
        return calls, prompt + calls * chosen.tokens, reply


async def _first(
    context: Context, n: int, options: Options, refused: Sequence[str], out: dict[str, Proposal]
) -> list[Proposal]:
    source, space = f"{SOURCE}:start", context.problem.space
    champion = context.history[context.history.champion]
    if any(isinstance(item, Text) for item in space.values()):
        if context.ask is None:
            context.reject("there is no model to ask, so texts stay as they are", source)
        else:
            asked = [paraphrase.request(context, champion, options.temperature, refused) for _ in range(n)]
            for reply in await replies(context, asked, source):
                if reply is not None:
                    paraphrase.take(context, champion, reply.parsed, source, out)
    return list(out.values()) or _random(context, n)


def _random(context: Context, n: int) -> list[Proposal]:
    """Other numbers, choices and examples; none where the space has nothing but texts."""
    space = context.problem.space
    if space.numeric:
        return drawn(context, n, f"{SOURCE}:fallback")
    out: dict[str, Proposal] = {}
    for _ in range(TRIES * n * bool(demosets.demos_of(space))):
        pools = demosets.demos_of(space).items()
        free = {name: demosets.allowed(context.problem, item) for name, item in pools}
        values = {name: demosets.draw(item, free[name], context.rng, item.k) for name, item in pools}
        candidate = space.candidate({**context.champion, **values})
        if candidate.id not in context.history and len(out) < n:
            shown = demosets.shown(context.problem, candidate)
            out[candidate.id] = Proposal(
                candidate, f"{SOURCE}:fallback", parents=(context.history.champion,), read=shown
            )
    return list(out.values())


async def _children(
    context: Context,
    ranked: Sequence[Trial],
    n: int,
    options: Options,
    refused: Sequence[str],
    out: dict[str, Proposal],
) -> list[Proposal]:
    source, space = f"{SOURCE}:llm", context.problem.space
    out_of_model = context.ask is None
    asked: list[tuple[Trial, Trial, dict[str, Any], ModelRequest]] = []
    wins = fronts.fronts(context)
    best = [(context.history[pair.one], context.history[pair.other]) for pair in merging.pairs(context, wins)]
    for place in range(n):
        one, other = best[place % len(best)] if best else tuple(context.rng.sample(list(ranked), 2))
        values = mixed(space, one.candidate, other.candidate, context.rng)
        differing = [
            name
            for name, item in space.items()
            if isinstance(item, Text) and one.candidate[name] != other.candidate[name]
        ]
        if differing and not out_of_model:
            asked.append((one, other, values, await request(context, one, other, differing, options, refused)))
            continue
        if differing:
            context.reject("there is no model to combine texts, so each is one parent's", source)
        _take(context, one, other, values, f"{SOURCE}:mix", out)
    if asked:
        given = await replies(context, [item[-1] for item in asked], source)
        for (one, other, values, _), reply in zip(asked, given, strict=True):
            if reply is not None:
                _take(context, one, other, {**values, **reply.parsed}, source, out)
    return list(out.values()) or _random(context, n)


def _take(
    context: Context, one: Trial, other: Trial, values: dict[str, Any], source: str, out: dict[str, Proposal]
) -> None:
    """Add a child. Where it is known and code has a say in it, code tries again; the last failure is recorded."""
    space = context.problem.space
    for _ in range(TRIES if source.endswith(":mix") else 0):
        if space.candidate(values).id not in context.history:
            break
        values = mixed(space, one.candidate, other.candidate, context.rng)
    paraphrase.take(context, one, values, source, out, [other.id], demosets.shown(context.problem, values))


def mixed(space: Space, one: Candidate, other: Candidate, rng: random.Random) -> dict[str, Any]:
    """Every value from one of two parents, and of examples half of those that either has."""
    out = merging.mixed(space, one, other, rng.random)
    for name, item in space.items():
        if isinstance(item, Demos) and canonical(one[name]) != canonical(other[name]):
            union: list[int] = list(dict.fromkeys([*_indices(one[name]), *_indices(other[name])]))
            out[name] = rng.sample(union, min(item.k, (len(union) + 1) // 2))
    return out


def _indices(value: Any) -> list[int]:
    return list(value)


async def request(
    context: Context, one: Trial, other: Trial, names: Sequence[str], options: Options, refused: Sequence[str] = ()
) -> ModelRequest:
    """Asks for one version of texts in which two candidates differ."""
    from agent.llm.types import Message, ModelRequest
    from agent.prompts.render import render

    problem = context.problem
    longer = max((one, other), key=lambda trial: fronts.length(context, trial))
    fields = cards.properties(problem.space, names, longer.candidate)
    results = cards.rounded([problem.compared(trial.values) for trial in (one, other) if trial.values is not None])
    results = results if len(results) == 2 else ["", ""]
    versions = []
    for title, trial, result in zip(("Version A", "Version B"), (one, other), results, strict=True):
        shown = evidence.variables(fronts.standing_on(context, trial.id))
        versions.append((title, result, [(name, value) for name, value in shown if name in names]))
    told = packed(await _cases(context, one, other, options.rows), names, options.tokens - evidence.MARKS)
    user = render(
        "crossover.txt",
        versions=versions,
        evidence=untrusted(told, context.rng, len(told) + 100) if told else "",
        refused=list(dict.fromkeys(cards.clip(cards.anonymous(reason), paraphrase.REASON) for reason in refused))[
            -cards.TOLD :
        ],
    )
    return ModelRequest(
        messages=(Message("user", user),),
        system=render("crossover_system.txt", card=cards.card(problem, list(names))),
        schema=cards.closed(fields),
        max_output_tokens=cards.reply_tokens(fields),
        temperature=options.temperature,
    )


async def _cases(context: Context, one: Trial, other: Trial, most: int) -> list[Case]:
    """Rows on which A is better and rows on which B is, by turns."""
    if context.reader is None:
        return []
    sides = []
    for name, better, worse in (("A", one, other), ("B", other, one)):
        rows = merging.ahead(context, better.id, worse.id)
        sides.append([(name, row, worse) for row in context.rng.sample(rows, min(len(rows), most))])
    picked = [item for pair in zip(*_even(sides), strict=True) for item in pair if item is not None][:most]
    cases = []
    for name, row, worse in picked:
        view = await context.read(row)
        content = json.dumps(view.row, ensure_ascii=False, default=str)
        cases.append(Case(f"row {row}: {name} is better; the feedback is on the other", content, worse.rows[row][1]))
    return cases


def _even(sides: list[list[Any]]) -> list[list[Any]]:
    most = max(map(len, sides))
    return [[*side, *[None] * (most - len(side))] for side in sides]
