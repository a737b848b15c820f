"""Evolution of programs: islands of elites, of which a model makes children.

MAP-Elites (Mouret and Clune 2015, arXiv 1504.04909) on islands with ring migration, with a model as the operator of
variation, as in FunSearch (Romera-Paredes et al. 2024, Nature 625) and AlphaEvolve (Novikov et al. 2025, arXiv
2506.13131). Operators and models are arms of a bandit (UCB1, see `agent.bandits.guide`). Other than there, failures are
no numbers, results are compared by rank alone, bins do not move, and what a decision costs does not grow with the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.bandits import guide
from agent.code.holes import structures
from agent.evolution import operators
from agent.evolution.descriptors import DEFAULT, grid
from agent.evolution.population import Population
from agent.history import Trial
from agent.problem import Problem
from agent.proposers import programs
from agent.proposers.base import Context, Proposal
from agent.proposers.options import check_whole, read, wrong
from agent.settings import ROLES
from agent.space import Candidate

EXPLORE = 0.1
"""Share of the decisions in which the arm is drawn at random: results of others are still under way."""
FORBIDDEN = ("task", "embed")
"""Roles whose models are not for this."""


@dataclass(frozen=True, slots=True)
class Options(programs.Options):
    """What a user may set under [proposer.options]: what best_of_n has, and

    Args:
        islands: How many.
        interval: Candidates with a result after which the best of each island go to the next one; 0 for never.
        migrants: How many go.
        descriptors: What spans the archive; see `agent.evolution.descriptors.grid`.
        operators: Of `agent.evolution.operators.OPERATORS`.
        models: Roles whose models are asked, such as ["propose", "critic"]: the bandit finds out which one pays.
        inspirations: Most other programs in a prompt.
        variants: Versions that differ in numbers alone, after which more of them are refused; 0 for never.
    """

    islands: int = 4
    interval: int = 100
    migrants: int = 2
    descriptors: Any = DEFAULT
    operators: Sequence[str] = operators.OPERATORS
    models: Sequence[str] = ("propose",)
    inspirations: int = 2
    variants: int = 10

    def __post_init__(self) -> None:
        programs.Options.__post_init__(self)
        check_whole(self, {"islands": 1, "interval": 0, "migrants": 1, "inspirations": 0, "variants": 0})
        _some("operators", self.operators, operators.OPERATORS)
        if not set(self.operators) & {"edit", "rewrite"}:
            raise wrong("operators", list(self.operators), "edit or rewrite, and others beside them")
        _some("models", self.models, [role for role in ROLES if role not in FORBIDDEN])


def _some(name: str, found: Any, allowed: Sequence[str]) -> None:
    if isinstance(found, str) or not isinstance(found, Sequence) or not found or not set(found) <= set(allowed):
        raise wrong(name, found, f"a list of some of {', '.join(allowed)}")


class Evolve:
    """One candidate per decision and at most two calls for it. It remembers nothing; what it keeps in this process is
    the fold of the history that it would make again without."""

    name = "evolve"
    needs_model = True
    texts = True

    def __init__(self) -> None:
        self._population: Population | None = None
        self._made_for: tuple[Problem, Options] | None = None

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` children, all on the island of this decision. What is of no use is recorded.

        Raises:
            BudgetExceeded: A limit keeps it from calling the model.
            ProviderError: The model cannot be reached.
            ConfigError: An option is wrong, or the space has no program.
        """
        options = read(Options, context.options)
        programs.evolvable(context.problem, self.name)
        population = self._followed(context, options)
        found: dict[str, Proposal] = {}
        for number_ in range(n):
            made = await self._child(context, options, population, number_)
            if made is not None:
                found.setdefault(context.problem.space.candidate(made.values).id, made)
        return list(found.values())

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """Two calls for each candidate, of which the second has the first reply in it as well."""
        chosen = read(Options, options)
        grid(problem, chosen.descriptors)
        return programs.forecast(problem, self.name, candidates, chosen, others=chosen.inspirations + 1)

    def _followed(self, context: Context, options: Options) -> Population:
        if self._population is None or self._made_for != (context.problem, options):
            problem = context.problem
            self._made_for = (problem, options)
            self._population = Population(
                problem,
                lambda: grid(problem, options.descriptors),
                options.islands,
                options.interval,
                options.migrants,
            )
        self._population = self._population.follow(context.history)
        return self._population

    async def _child(self, context: Context, options: Options, population: Population, index: int) -> Proposal | None:
        island = context.decision % options.islands
        rng = context.rng
        parent = operators.parent(population, island, rng)
        base = context.history[parent.candidate if parent is not None else context.history.initial]
        failed = self._failed(context, population, island)
        arm = self._arm(context, options, population, base.candidate, parent is not None, failed is not None)
        operator, _, role = arm.partition("@")
        role = role or ("" if options.models[0] == "propose" else options.models[0])
        source = self._source(arm)
        if operator == "tune":
            made = operators.tuned(context.problem, base.candidate, rng)
            if made is None or made.id in context.history:
                context.reject("the holes have these values already", source)
                return None
            return Proposal(made, source, "other values in its holes", (base.id,))
        others: list[Trial] = []
        if operator == "cross" and parent is not None:
            other = operators.partner(population, island, parent, rng)
            others = [context.history[other.candidate]] if other is not None else []
        if operator == "fix" and failed is not None:
            base = failed
        elif parent is not None:
            near = operators.inspirations(population, island, parent, options.inspirations, rng)
            others += [context.history[elite.candidate] for elite in near if elite.candidate not in _ids(others)]
        name = rng.choice(list(operators.codes(context.problem)))
        tried = [context.history.trials[number_] for number_ in population.children.get(base.id, ())]
        request = programs.request(context, options, name, operator, base, others, tried)
        context.showing(base, *others, *tried)

        place = population.place  # while the model answers, later decisions let the population learn more

        def check(candidate: Candidate) -> str:
            return operators.stale(population, candidate, options.variants, place)

        parents = (base.id, *([others[0].id] if operator == "cross" and others else []))
        key = f"{arm}.{index}"
        return await programs.asked(context, options, request, role, key, source, name, base, parents, check)

    def _failed(self, context: Context, population: Population, island: int) -> Trial | None:
        """The newest failure of an island that nobody has tried to mend yet, where a model may see how it failed."""
        tried = {item.get("parent") for item in context.history.rejections}
        for number_ in reversed(population.failed[island]):
            trial = context.history.trials[number_]
            if trial.state == "failed" and not trial.suspicion and trial.id not in tried:
                return trial
        return None

    def _arm(
        self,
        context: Context,
        options: Options,
        population: Population,
        base: Candidate,
        parents: bool,
        failed: bool,
    ) -> str:
        """The operator, with the role of the model behind an @ where there are several."""
        able = []
        for operator in dict.fromkeys(options.operators):
            if operator == "fix" and not failed:
                continue
            if operator == "cross" and not (parents and population.measured > 1):
                continue
            if operator == "tune":
                if structures(context.problem.space, base):
                    able.append(operator)
                continue
            roles = list(dict.fromkeys(options.models))
            able += [operator] if len(roles) == 1 else [f"{operator}@{role}" for role in roles]
        if context.rng.random() < EXPLORE:
            return context.rng.choice(able)
        sources = {arm: self._source(arm) for arm in able}
        pulls = {arm: population.pulls.get(s, 0.0) + context.history.rejected.get(s, 0) for arm, s in sources.items()}
        rewards = {arm: population.rewards.get(s, 0.0) for arm, s in sources.items() if pulls[arm]}
        best = guide(pulls, rewards)
        # Untried arms, and others that are worth the same, are drawn: decisions that are open at once see one record.
        equal = [item.name for item in best if item.value == best[0].value]
        return context.rng.choice(equal)

    def _source(self, arm: str) -> str:
        """What candidates of an arm are marked with; those of a model say so."""
        return f"{self.name}:{arm}" if arm == "tune" else f"{self.name}:llm:{arm}"


def _ids(trials: Sequence[Trial]) -> set[str]:
    return {trial.id for trial in trials}
