"""EvoLLM: the LLM as the recombination operator of an evolution strategy.

After Lange, Tian and Tang 2024 ("Large Language Models as Evolution Strategies", arXiv 2402.18381):
solutions are integer bins, sorted from worst to best; the model sees the best K generations × best M
members and completes a line whose score lies beyond the best; its answer is the mean of the next
search distribution, from which code draws the members. Blocks of coordinates are asked for one by
one, so that the prompt stays short. Code owns the spread: it follows the share of members that
improved (success rule, Rechenberg 1973).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from agent.errors import BudgetExceeded, ConfigError, OutputInvalid
from agent.history import Trial
from agent.parameters import Numeric
from agent.problem import Problem
from agent.proposers.base import Context, Proposal, numeric
from agent.space import Candidate

SOURCE = "evollm"
SIGMA = 0.2
SIGMA_RANGE = (0.02, 0.4)
SUCCESS = 0.2
"""Share of improving members at which the spread stays as it is."""
SCALE = 100
"""Scores are shown as integers from 0 (worst shown) to this (best shown)."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        generations: K, the best generations shown.
        members: M, the best members shown of each.
        population: Candidates per generation: the model's own point and draws around it.
        block: Coordinates per model call.
        calls: Model calls per generation; coordinates that no call covers stay at the best point's.
        resolution: Integer bins of a continuous parameter.
        target: How far beyond the best the asked-for score lies, as shares of the shown range, used in turn.
        temperature: Of the model.
    """

    generations: int = 3
    members: int = 3
    population: int = 4
    block: int = 4
    calls: int = 2
    resolution: int = 1000
    target: Sequence[float] = (0.1, 0.01)
    temperature: float = 0.8

    def __post_init__(self) -> None:
        for name in ("generations", "members", "population", "block", "calls", "resolution"):
            value, low = getattr(self, name), 2 if name == "resolution" else 1
            if type(value) is not int or value < low:
                raise _wrong(name, value, f"a whole number of at least {low}")
        shares = list(self.target) if isinstance(self.target, (list, tuple)) else []
        if not shares or not all(_number(share) and share > 0 for share in shares):
            raise _wrong("target", self.target, "a list of numbers above 0")
        if not _number(self.temperature) or self.temperature < 0:
            raise _wrong("temperature", self.temperature, "a number of at least 0")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """The options that a user set.

        Raises:
            ConfigError: One is unknown or not allowed; says what is.
        """
        known = [item.name for item in fields(cls)]
        for name in given:
            if name not in known:
                raise ConfigError(f"proposer.options.{name}: unknown option, allowed is one of {', '.join(known)}")
        return cls(**given)


def _wrong(name: str, found: Any, allowed: str) -> ConfigError:
    return ConfigError(f"proposer.options.{name}: found {found!r}, allowed is {allowed}")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


class EvoLLM:
    """One generation per call. Memory: the spread, the generation counter and the next coordinate to ask for."""

    name = SOURCE
    needs_model = True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """A generation: the decoded mean first, then draws from the Gaussian around it.

        Until two candidates are measured there is nothing to recombine, and the generation is random.

        Raises:
            BudgetExceeded: A limit keeps it from calling the model.
            ProviderError: The model cannot be reached.
            ConfigError: The space has no numbers and no choices, or an option is wrong.
        """
        options = Options.of(context.options)
        numeric(context.problem, SOURCE)
        memory = dict(context.memory or {"sigma": SIGMA, "generation": 0, "next": 0, "decision": 0})
        memory["generation"] += 1
        shown = select(context.history, options)
        space = context.problem.space
        if len(shown) < 2 or context.ask is None:
            out = [Proposal(space.sample(context.rng), f"{SOURCE}:random") for _ in range(max(n, options.population))]
        else:
            memory["sigma"] = adapted(context.history, memory["decision"], memory["sigma"])
            mean, source = await self._mean(context, options, shown, memory)
            out = self._sample(context, options, mean, source, memory["sigma"], n)
        memory["decision"] = context.decision
        context.memory = memory
        return out

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """Every generation makes its calls; a line of the prompt takes about three tokens a bin."""
        chosen = Options.of(options)
        size = len(numeric(problem, SOURCE))
        block = min(chosen.block, size)
        calls = -(-candidates // chosen.population) * min(chosen.calls, -(-size // block))
        lines = chosen.generations * chosen.members + 1
        return calls, calls * (100 + 12 * block + lines * (6 + 3 * block)), calls * _reply_tokens(block)

    async def _mean(
        self, context: Context, options: Options, shown: list[Trial], memory: dict[str, Any]
    ) -> tuple[Candidate, str]:
        """The model's point; where its answer cannot be used, the best point, recorded as a fallback."""
        space = context.problem.space
        best = shown[-1].candidate
        values = best.values_json
        size, block = len(space.numeric), min(options.block, len(space.numeric))
        # Coordinates of about as many bins share a call: the schema's one range then fits all of them.
        counts = space.bins(options.resolution)
        order = sorted(range(size), key=lambda place: counts[place])
        usable = False
        for _ in range(min(options.calls, -(-size // block))):
            block_at = [order[(memory["next"] + i) % size] for i in range(block)]
            memory["next"] = (memory["next"] + block) % size
            try:
                answer = await self._ask(context, options, shown, block_at, memory["generation"])
            except BudgetExceeded as error:
                if not usable:
                    raise
                context.reject(f"no further call was made: {error.message}", f"{SOURCE}:llm")
                break
            if answer is not None:
                usable = True
                for place, index in zip(block_at, answer, strict=True):
                    parameter = space[space.numeric[place]]
                    assert isinstance(parameter, Numeric)
                    values[space.numeric[place]] = parameter.from_bin(index, options.resolution)
        if not usable:
            return best, f"{SOURCE}:fallback"
        mean = Candidate(values)
        if mean.id in context.history:
            trial = context.history[mean.id]
            context.reject(f"the model repeated candidate {trial.number}", f"{SOURCE}:llm")
        return mean, f"{SOURCE}:llm"

    async def _ask(
        self, context: Context, options: Options, shown: list[Trial], block: list[int], generation: int
    ) -> list[int] | None:
        from agent.llm.types import Message, ModelRequest
        from agent.prompts.render import render

        assert context.ask is not None
        space = context.problem.space
        counts = [space.bins(options.resolution)[place] for place in block]
        scores = _scores(context.history, shown)
        rows = []
        for score, trial in zip(scores, shown, strict=True):
            bins = space.to_bins(trial.candidate, options.resolution)
            rows.append((score, [bins[place] for place in block]))
        target = round(SCALE * (1 + options.target[generation % len(options.target)]))
        target = max(target, SCALE + 1)
        system = render("evollm_system.txt", size=len(block), ranges=[f"0 to {count - 1}" for count in counts])
        request = ModelRequest(
            messages=(Message("user", render("evollm.txt", rows=rows, target=target)),),
            system=system,
            schema=_schema(counts),
            max_output_tokens=_reply_tokens(len(block)),
            temperature=options.temperature,
        )
        try:
            completion = await context.ask(request)
        except OutputInvalid as error:
            context.reject(f"the reply cannot be used: {error.message}", f"{SOURCE}:llm", error.raw)
            return None
        values = [int(value) for value in completion.parsed["solution"]]
        for value, count in zip(values, counts, strict=True):
            if not 0 <= value < count:
                context.reject(f"{value} is outside 0 to {count - 1}", f"{SOURCE}:llm", completion.text)
                return None
        return values

    def _sample(
        self, context: Context, options: Options, mean: Candidate, source: str, sigma: float, n: int
    ) -> list[Proposal]:
        space = context.problem.space
        center = space.encode(mean)
        parents = (context.history.champion,)
        out = [] if mean.id in context.history else [Proposal(mean, source, "", parents)]
        made = {proposal.values.id for proposal in out if isinstance(proposal.values, Candidate)}
        kind = f"{SOURCE}:sample" if source.endswith(":llm") else source
        for _ in range(50):
            if len(out) >= max(n, options.population):
                break
            draw = space.decode([context.rng.gauss(place, sigma) for place in center], mean)
            if draw.id not in context.history and draw.id not in made:
                made.add(draw.id)
                out.append(Proposal(draw, kind, "", parents))
        return out


def select(history: Any, options: Options) -> list[Trial]:
    """The best members of the best generations, worst first. A generation is what one decision proposed."""
    generations: dict[int, list[Trial]] = {}
    for trial in history.ranked():
        members = generations.setdefault(trial.proposal, [])  # best first, so generations come in order of their best
        if len(members) < options.members:
            members.append(trial)
    best = list(generations.values())[: options.generations]
    rank = {trial.id: place for place, trial in enumerate(history.ranked())}
    return sorted((trial for members in best for trial in members), key=lambda trial: -rank[trial.id])


def adapted(history: Any, decision: int, sigma: float) -> float:
    """The spread after the generation that `decision` proposed: wider when many improved, narrower when few did."""
    members = [
        t for t in history.trials if t.proposal == decision and t.source.startswith(SOURCE) and t.state != "queued"
    ]
    if not members or not decision:
        return sigma
    improved = sum(t.state == "champion" or t.reason.startswith("better") for t in members) / len(members)
    factor = 1.3 if improved > SUCCESS else (0.85 if improved < SUCCESS else 1.0)
    return min(SIGMA_RANGE[1], max(SIGMA_RANGE[0], sigma * factor))


def _scores(history: Any, shown: list[Trial]) -> list[int]:
    values = [history.objective.sign * history.value(trial) for trial in shown]
    low, span = values[0], (values[-1] - values[0]) or 1.0
    return [round(SCALE * (value - low) / span) for value in values]


def _reply_tokens(block: int) -> int:
    # Small models put blanks and line breaks between the numbers.
    return 32 + 16 * block


def _schema(counts: list[int]) -> dict[str, Any]:
    items = {"type": "integer", "minimum": 0, "maximum": max(counts) - 1}
    return {
        "type": "object",
        "properties": {"solution": {"type": "array", "items": items, "minItems": len(counts), "maxItems": len(counts)}},
        "required": ["solution"],
        "additionalProperties": False,
    }
