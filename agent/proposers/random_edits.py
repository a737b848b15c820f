"""Random edits: programs are changed by chance and no model is asked. What a model's edits have to beat.

On the champion this is hill climbing, the (1+1) scheme of evolutionary computation; on the initial program it is best
of N; on islands it is evolution as `agent.proposers.evolve` does it, with chance in the model's place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.code.changes import counted_lines
from agent.errors import ConfigError
from agent.evolution import operators
from agent.evolution.descriptors import DEFAULT, grid
from agent.evolution.mutation import mutated
from agent.evolution.population import Population
from agent.parameters import Numeric
from agent.problem import Problem
from agent.proposers.base import Context, Proposal
from agent.proposers.options import check_whole, read, wrong
from agent.space import Candidate
from agent.texts import Code

TRIES = 30
"""Edits that are drawn for one candidate until one is new and allowed."""
ISLANDS, INTERVAL, MIGRANTS = 4, 100, 2
"""As `evolve` has them by default."""
BASES = ("champion", "initial", "islands")


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        of: What is edited: "champion" climbs, "initial" is best of N, "islands" is evolution without a model.
        edits: Most changes in one candidate; each further one is half as likely.
    """

    of: str = "champion"
    edits: int = 3

    def __post_init__(self) -> None:
        if self.of not in BASES:
            raise wrong("of", self.of, f"one of {', '.join(BASES)}")
        check_whole(self, {"edits": 1})


class RandomEdits:
    """It remembers nothing; the islands are the fold of the history that it would make again without."""

    name = "random_edits"
    needs_model = False
    texts = True

    def __init__(self) -> None:
        self._population: Population | None = None
        self._problem: Problem | None = None

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` edited candidates. Numbers and choices of the space are drawn anew, one as one edit.

        Raises:
            ConfigError: An option is wrong, or there is nothing to edit.
        """
        options = read(Options, context.options)
        names = _names(context.problem)
        found: dict[str, Proposal] = {}
        for _ in range(n):
            base = self._base(context, options)
            made = next((c for c in _drawn(context, options, names, base) if c.id not in found), None)
            if made is None:
                context.reject(f"none of {TRIES} random edits gave a new program that is allowed", self.name)
                continue
            found[made.id] = Proposal(made, f"{self.name}:{options.of}", _told(context, base, made), (base.id,))
        return list(found.values())

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """No calls."""
        read(Options, options)
        _names(problem)
        return 0, 0, 0

    def _base(self, context: Context, options: Options) -> Candidate:
        if options.of == "champion":
            return context.champion
        initial = context.history[context.history.initial].candidate
        if options.of == "initial":
            return initial
        problem = context.problem
        if self._population is None or self._problem != problem:
            self._problem = problem
            self._population = Population(problem, lambda: grid(problem, DEFAULT), ISLANDS, INTERVAL, MIGRANTS)
        self._population = self._population.follow(context.history)
        elite = operators.parent(self._population, context.decision % ISLANDS, context.rng)
        return context.history[elite.candidate].candidate if elite is not None else initial


def _told(context: Context, base: Candidate, made: Candidate) -> str:
    """That a change is by chance, and what it is."""
    space = context.problem.space
    changes = [
        counted_lines(item.name, item.before, item.after)
        if isinstance(space[item.name], Code)
        else f"{item.name} = {item.after}"
        for item in space.diff(base, made)
    ]
    return f"by chance: {', '.join(changes)}"


def _names(problem: Problem) -> list[str]:
    """What can be edited.

    Raises:
        ConfigError: Nothing.
    """
    names = [name for name, item in problem.space.items() if isinstance(item, (Code, Numeric))]
    if not names:
        raise ConfigError(
            "the proposer random_edits changes programs, numbers and choices, and the space has none",
            hint='declare a parameter with type = "code", or choose another proposer',
        )
    return names


def _drawn(context: Context, options: Options, names: list[str], base: Candidate) -> list[Candidate]:
    """A new candidate that the space allows, or none."""
    rng, space = context.rng, context.problem.space
    for _ in range(TRIES):
        values: dict[str, Any] = dict(base)
        count = 1
        while count < options.edits and rng.random() < 0.5:
            count += 1
        for _ in range(count):
            name = rng.choice(names)
            item = space[name]
            if isinstance(item, Numeric):
                values[name] = item.decode(rng.random())
                continue
            assert isinstance(item, Code)
            path = rng.choice(sorted(item.texts(values[name])))
            language = item.language if not path or path.endswith(".py") else "other"
            text = mutated(item.texts(values[name])[path], rng, language)
            if text is not None:
                values[name] = {**values[name], path: text} if path else text
        try:
            made = space.candidate(values)
        except ValueError:
            continue
        if made.id not in context.history:
            return [made]
    return []
