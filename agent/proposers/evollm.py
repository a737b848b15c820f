"""EvoLLM: the LLM as the recombination operator of an evolution strategy.

After Lange, Tian and Tang 2024 ("Large Language Models as Evolution Strategies", arXiv 2402.18381):
solutions are integer bins, sorted from worst to best; the model sees the best K generations × best M
members and completes a line whose score lies beyond the best; its answer is the mean of the next
search distribution, from which code draws the members. Blocks of coordinates are asked for one by
one, so that the prompt stays short. Code owns the spread: it follows the share of members that
improved (success rule, Rechenberg 1973).

With `population = 1` and `calls = 1` each proposal is one call: the model's point itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import BudgetExceeded, OutputInvalid
from agent.history import History, Trial
from agent.parameters import Categorical, Numeric
from agent.problem import Problem
from agent.proposers import cards
from agent.proposers.base import Context, Proposal, numeric
from agent.proposers.cards import RADIUS, TOLD
from agent.proposers.options import check_temperature, check_whole, number, read, wrong
from agent.space import Candidate, Space

if TYPE_CHECKING:
    from agent.llm.types import ModelRequest

SIGMA = 0.2
SIGMA_RANGE = (0.02, 0.4)
SUCCESS = 0.2
"""Share of improving members at which the spread stays as it is."""
SCALE = 100
"""Scores are shown as integers from 0 (worst shown) to this (best shown)."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Options of the loop, whoever gives the mean.

    Args:
        population: Candidates per generation: the mean and draws around it.
        sigma: Standard deviation of the draws, as a share of each scale; without it, code adapts it.
    """

    population: int = 4
    sigma: float | None = None

    def __post_init__(self) -> None:
        check_whole(self, {"population": 1})
        if self.sigma is not None and not (number(self.sigma) and 0 < self.sigma <= 1):
            raise wrong("sigma", self.sigma, "a number above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class Options(Spread):
    """What a user may set under [proposer.options].

    Args:
        generations: K, the best generations shown.
        members: M, the best members shown of each.
        block: Coordinates per model call.
        calls: Model calls per generation; coordinates that no call covers stay at the best point's.
        resolution: Integer bins of a continuous parameter.
        target: How far beyond the best the asked-for score lies, as shares of the shown range, used in turn.
        temperature: Of the model.
    """

    generations: int = 3
    members: int = 3
    block: int = 4
    calls: int = 2
    resolution: int = 1000
    target: Sequence[float] = (0.1, 0.01)
    temperature: float = 0.8

    def __post_init__(self) -> None:
        Spread.__post_init__(self)
        check_whole(self, {"generations": 1, "members": 1, "block": 1, "calls": 1, "resolution": 2})
        shares = list(self.target) if isinstance(self.target, (list, tuple)) else []
        if not shares or not all(number(share) and share > 0 for share in shares):
            raise wrong("target", self.target, "a list of numbers above 0")
        check_temperature(self.temperature)


class Strategy:
    """The loop of the evolution strategy; a subclass gives the mean of the next generation.

    Memory: the spread, the generation counter, the decision that the last generation came from, and the
    next coordinate to ask for.
    """

    name: str
    needs_model: bool

    def options(self, given: Mapping[str, Any]) -> Spread:
        """The options that a user set.

        Raises:
            ConfigError: One is unknown or not allowed; says what is.
        """
        raise NotImplementedError

    async def mean(self, context: Context, options: Any, memory: dict[str, Any]) -> tuple[Candidate, str]:
        """The middle of the next generation, and how it was made: "llm", "mean" or "fallback"."""
        raise NotImplementedError

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """A generation: the mean first, then draws from the Gaussian around it.

        Until two candidates are measured there is nothing to recombine, and the generation is random.

        Raises:
            BudgetExceeded: A limit keeps it from calling the model.
            ProviderError: The model cannot be reached.
            ConfigError: The space has no numbers and no choices, or an option is wrong.
        """
        options = self.options(context.options)
        numeric(context.problem, self.name)
        memory = dict(context.memory or {"sigma": options.sigma or SIGMA, "generation": 0, "next": 0, "decision": 0})
        memory["generation"] += 1
        size = max(n, options.population)
        if len(cards.ranked(context)) < 2 or (self.needs_model and context.ask is None):
            draws = (context.problem.space.sample(context.rng) for _ in range(size))
            out = [Proposal(draw, f"{self.name}:random") for draw in draws]
        else:
            memory["sigma"] = options.sigma or self._adapted(context.history, memory["decision"], memory["sigma"])
            middle, kind = await self.mean(context, options, memory)
            out = self._sample(context, middle, kind, memory["sigma"], size)
        memory["decision"] = context.decision
        context.memory = memory
        return out

    def _adapted(self, history: History, decision: int, sigma: float) -> float:
        """The spread after the generation of `decision`: wider when many improved, narrower when few did."""
        mine = [t for t in history.trials if t.proposal == decision and t.source.startswith(f"{self.name}:")]
        members = [trial for trial in mine if trial.state != "queued"]
        if not members or not decision:
            return sigma
        improved = sum(t.state == "champion" or t.reason.startswith("better") for t in members) / len(members)
        factor = 1.3 if improved > SUCCESS else (0.85 if improved < SUCCESS else 1.0)
        return min(SIGMA_RANGE[1], max(SIGMA_RANGE[0], sigma * factor))

    def _sample(self, context: Context, middle: Candidate, kind: str, sigma: float, size: int) -> list[Proposal]:
        parents = (context.history.champion,)
        source = f"{self.name}:{kind}"
        why = cards.Seen(context).why(middle)
        if why and kind != "fallback":  # the best point is known, of course
            context.reject(f"the point {why}", source)
        out = [] if why else [Proposal(middle, source, "", parents, radius=RADIUS)]
        made = {middle.id}
        drawn = source if kind == "fallback" else f"{self.name}:sample"
        for _ in range(50 + size):
            if len(out) >= size:
                break
            draw = _draw(context, middle, sigma)
            if draw.id not in context.history and draw.id not in made:
                made.add(draw.id)
                out.append(Proposal(draw, drawn, "", parents, radius=min(RADIUS, sigma / 10)))
        return out


def _draw(context: Context, middle: Candidate, sigma: float) -> Candidate:
    """A draw around the middle. The order of choices means nothing, so that one changes to any other, and as rarely
    as the spread is small."""
    space, rng = context.problem.space, context.rng
    unit = []
    for name, place in zip(space.numeric, space.encode(middle), strict=True):
        if isinstance(space[name], Categorical):
            unit.append(rng.random() if rng.random() < sigma else place)
        else:
            unit.append(rng.gauss(place, sigma))
    return space.decode(unit, middle)


class EvoLLM(Strategy):
    """A model gives the mean, block by block of coordinates, as integers."""

    name = "evollm"
    needs_model = True

    def options(self, given: Mapping[str, Any]) -> Options:
        return read(Options, given)

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """Every generation makes its calls; a line of the prompt takes about three tokens a bin."""
        chosen = self.options(options)
        size = len(numeric(problem, self.name))
        block = min(chosen.block, size)
        calls = -(-candidates // chosen.population) * min(chosen.calls, -(-size // block))
        lines = chosen.generations * chosen.members + 1 + TOLD
        return calls, calls * (250 + 12 * block + lines * (6 + 3 * block)), calls * _reply_tokens(block)

    async def mean(self, context: Context, options: Any, memory: dict[str, Any]) -> tuple[Candidate, str]:
        """The model's point; where its answer cannot be used, the best point, as a recorded fallback."""
        space = context.problem.space
        shown = select(context, options)
        best = shown[-1].candidate
        values = best.values_json
        size, block = len(space.numeric), min(options.block, len(space.numeric))
        # Coordinates of about as many bins share a call, so that few are shown finer than they are.
        counts = space.bins(options.resolution)
        order = sorted(range(size), key=lambda place: counts[place])
        usable = False
        for _ in range(min(options.calls, -(-size // block))):
            places = [order[(memory["next"] + i) % size] for i in range(block)]
            memory["next"] = (memory["next"] + block) % size
            names = [space.numeric[place] for place in places]
            # One range for the whole block, that of its finest coordinate: every integer is then a value of each.
            top = max(counts[place] for place in places)
            try:
                answer = await self._ask(context, _request(context, options, shown, names, top, memory["generation"]))
            except BudgetExceeded as error:
                if not usable:
                    raise
                context.reject(f"no further call was made: {error.message}", f"{self.name}:llm")
                break
            if answer is not None:
                usable = True
                found = (_value(space, name, index, top) for name, index in zip(names, answer, strict=True))
                values.update(zip(names, found, strict=True))
        return (Candidate(values), "llm") if usable else (best, "fallback")

    async def _ask(self, context: Context, request: ModelRequest) -> list[int] | None:
        assert context.ask is not None
        try:
            completion = await context.ask(request)
        except OutputInvalid as error:
            context.reject(f"the reply cannot be used: {error.message}", f"{self.name}:llm", error.raw)
            return None
        return [int(value) for value in completion.parsed["solution"]]


def select(context: Context, options: Options) -> list[Trial]:
    """The best members of the best generations, worst first. A generation is what one decision proposed."""
    generations: dict[int, list[Trial]] = {}
    ranked = cards.ranked(context)
    for trial in ranked:
        members = generations.setdefault(trial.proposal, [])  # best first, so generations come in order of their best
        if len(members) < options.members:
            members.append(trial)
    chosen = {trial.id for members in list(generations.values())[: options.generations] for trial in members}
    return [trial for trial in reversed(ranked) if trial.id in chosen]


def _request(
    context: Context, options: Options, shown: list[Trial], names: list[str], top: int, generation: int
) -> ModelRequest:
    from agent.llm.types import Message, ModelRequest
    from agent.prompts.render import render

    space = context.problem.space

    def line(trial: Trial) -> list[int]:
        return [_index(space, name, trial.candidate, top) for name in names]

    share = options.target[generation % len(options.target)]
    rows = list(zip(_scores(context.problem, shown), map(line, shown), strict=True))
    best = shown[-1].candidate
    left = context.left.get("evaluations", math.inf)
    system = render(
        "evollm_system.txt",
        size=len(names),
        top=top - 1,
        left=f"{left:.0f}" if math.isfinite(left) else "",
        failed=[line(trial) for trial in cards.unusable(context)[-TOLD:]],
        ends=[(names.index(name) + 1, end) for name, end in cards.at_bounds(space, best) if name in names],
        refused=cards.refusals(context, "evollm:"),
        guidance=context.problem.guidance,
    )
    target = max(round(SCALE * (1 + share)), SCALE + 1)
    return ModelRequest(
        messages=(Message("user", render("evollm.txt", rows=rows, target=target)),),
        system=system,
        schema=_schema(len(names), top),
        max_output_tokens=_reply_tokens(len(names)),
        temperature=options.temperature,
    )


def _scores(problem: Problem, shown: list[Trial]) -> list[int]:
    costs = [cards.cost(problem, trial) for trial in shown]
    high, span = costs[0], (costs[0] - costs[-1]) or 1.0
    return [round(SCALE * (high - value) / span) for value in costs]


def _index(space: Space, name: str, candidate: Candidate, top: int) -> int:
    parameter = space[name]
    assert isinstance(parameter, Numeric)
    return min(top - 1, int(parameter.encode(candidate[name]) * top))


def _value(space: Space, name: str, index: int, top: int) -> Any:
    parameter = space[name]
    assert isinstance(parameter, Numeric)
    return parameter.decode((index + 0.5) / top)


def _reply_tokens(block: int) -> int:
    # Small models put blanks and line breaks between the numbers.
    return 32 + 16 * block


def _schema(size: int, top: int) -> dict[str, Any]:
    items = {"type": "integer", "minimum": 0, "maximum": top - 1}
    return cards.closed({"solution": {"type": "array", "items": items, "minItems": size, "maxItems": size}})
