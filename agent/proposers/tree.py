"""Tree search over programs: each refinement by a model is an edge, and the next one starts where the tree says.

Best-first after AIDE (Jiang et al. 2025, arXiv 2502.13138), or Monte Carlo tree search after MCTS-AHD (Zheng et al.
2025, arXiv 2501.08603); see `agent.evolution.tree` for both. Values are what the search measured on train, with
multipliers for broken constraints (`agent.lagrange`). Holes are tuned by numeric proposers, not by the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent.code.holes import structures
from agent.evolution import operators
from agent.evolution.tree import Tree
from agent.history import Trial
from agent.problem import Problem
from agent.proposers import programs, tune
from agent.proposers.base import Context, Proposal
from agent.proposers.options import check_whole, number, read, wrong

TOLD = 3
"""Children that a prompt tells of: the latest."""


@dataclass(frozen=True, slots=True)
class Options(programs.Options):
    """What a user may set under [proposer.options]: what best_of_n has, and

    Args:
        search: "best_first" or "mcts".
        width: Of best-first: children of a node before others get more.
        exploration: Of MCTS: weight of the bonus for what was refined little; values are in [0, 1].
        repairs: How often a program that failed is refined, with what was said of it.
        tune: Share of the refinements of programs with holes that tune these, without the model.
    """

    search: str = "best_first"
    width: int = 3
    exploration: float = 0.1
    repairs: int = 1
    tune: float = 0.25

    def __post_init__(self) -> None:
        programs.Options.__post_init__(self)
        if self.search not in ("best_first", "mcts"):
            raise wrong("search", self.search, "best_first or mcts")
        check_whole(self, {"width": 1, "repairs": 0})
        if not number(self.exploration) or self.exploration < 0:
            raise wrong("exploration", self.exploration, "a number of at least 0")
        if not number(self.tune) or not 0 <= self.tune <= 1:
            raise wrong("tune", self.tune, "a number from 0 to 1")


class TreeSearch:
    """At most two calls for a refinement. Its memory is that of the proposer that tunes; the tree is a fold of the
    history, which it would make again without."""

    name = "tree"
    needs_model = True
    texts = True

    def __init__(self) -> None:
        self._tree: Tree | None = None
        self._made_for: tuple[Problem, Options] | None = None

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` refinements. What is of no use is recorded.

        Raises:
            BudgetExceeded: A limit keeps it from calling the model.
            ProviderError: The model cannot be reached.
            ConfigError: An option is wrong, or the space has no program.
        """
        options = read(Options, context.options)
        programs.evolvable(context.problem, self.name)
        tree = self._followed(context, options)
        found: dict[str, Proposal] = {}
        for index in range(n):
            place = tree.mcts(options.exploration, context.rng) if options.search == "mcts" else tree.best_first()
            if not place:
                context.exhausted = not found and all(trial.state == "failed" for trial in context.history.trials)
                context.reject("there is no program that may still be refined", self.name)
                break
            tree.plan(place)
            base = context.history[place]
            tried = [context.history[child] for child in tree.nodes[place].children[-TOLD:]]
            made = await self._tuned(context, options, base) or await self._refined(
                context, options, base, tried, index
            )
            for proposal in made:
                found.setdefault(context.problem.space.candidate(proposal.values).id, proposal)
        return list(found.values())

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """Two calls for each candidate, of which the second has the first reply in it as well."""
        return programs.forecast(problem, self.name, candidates, read(Options, options), others=1)

    def _followed(self, context: Context, options: Options) -> Tree:
        if self._tree is None or self._made_for != (context.problem, options):
            self._made_for = (context.problem, options)
            self._tree = Tree(context.problem, options.repairs, options.width, options.search == "mcts")
        self._tree = self._tree.follow(context.history)
        return self._tree

    async def _tuned(self, context: Context, options: Options, base: Trial) -> list[Proposal]:
        """Other values for the holes of a program; [] where it is not their turn, or there are none."""
        if base.values is None or not structures(context.problem.space, base.candidate):
            return []
        if context.rng.random() >= options.tune:
            return []
        inner = replace(context, ask=None, exhausted=False)
        made = await tune.tuned(inner, base.candidate, 1, tune.Options())
        context.memory = inner.memory
        return [replace(item, source=f"{self.name}:{item.source}") for item in made]

    async def _refined(
        self, context: Context, options: Options, base: Trial, tried: list[Trial], index: int
    ) -> list[Proposal]:
        """What a model makes of a program, shown the best one and what became of earlier refinements."""
        best = context.history[context.history.champion]
        others = [best] if best.id != base.id else []
        operator = "edit" if base.values is not None else "fix"
        name = context.rng.choice(list(operators.codes(context.problem)))
        context.showing(base, *others, *tried)
        request = programs.request(context, options, name, operator, base, others, tried)
        source = f"{self.name}:llm:{operator}"

        made = await programs.asked(
            context, options, request, "", str(index), source, name, base, (base.id,), lambda candidate: ""
        )
        return [made] if made is not None else []
