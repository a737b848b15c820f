"""The tree of refinements: an edge is one refinement of a candidate, a node's value is what train says of it.

A function of the history, made anew for each decision: nothing has to be kept, and a resume sees the same tree.
"""

from __future__ import annotations

import bisect
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from agent.history import Trial


@dataclass(slots=True)
class Node:
    """A candidate and what was made of it.

    Args:
        trial: The candidate's; failed ones are nodes too.
        parent: Id of what it was made of; "" for the initial candidate, starting points, and what has no known parent.
        children: Ids, in the order of admission.
        visits: Nodes in its subtree, itself included.
        value: Share of the measured nodes that are no better, in (0, 1]; None without a result.
        best: Largest value in its subtree; 0 without any.
        open: Whether something in its subtree can be refined.
    """

    trial: Trial
    parent: str
    children: list[str] = field(default_factory=list)
    visits: int = 1
    value: float | None = None
    best: float = 0.0
    open: bool = False


class Tree:
    """All candidates of a run by the parent that each was made of first.

    Args:
        trials: In the order of admission.
        cost: What a candidate's means come to; smaller is better.
        repairs: How often a candidate that failed may be refined; a failure of what was to mend it counts too. One that
            waits for a result, or is suspected, is not refined.
    """

    def __init__(self, trials: Iterable[Trial], cost: Callable[[Mapping[str, float]], float], repairs: int = 1) -> None:
        self.nodes: dict[str, Node] = {}
        self._repairs = repairs
        self._planned: Counter[str] = Counter()
        costs: dict[str, float] = {}
        for trial in trials:
            parent = next((name for name in trial.parents if name in self.nodes), "")
            self.nodes[trial.id] = Node(trial, parent)
            if parent:
                self.nodes[parent].children.append(trial.id)
            if trial.values is not None:
                costs[trial.id] = cost(trial.values)
        ordered = sorted(costs.values())
        for name, own in costs.items():
            self.nodes[name].value = (len(ordered) - bisect.bisect_left(ordered, own)) / len(ordered)
        for node in reversed(self.nodes.values()):  # children come after their parents
            node.best = max(node.best, node.value or 0.0)
            node.open = node.open or self._limit(node) > 0
            if node.parent:
                above = self.nodes[node.parent]
                above.visits += node.visits
                above.best = max(above.best, node.best)
                above.open = above.open or node.open

    def _limit(self, node: Node) -> float:
        """How many children a node may still get."""
        if node.value is not None:
            return math.inf
        left = self._repairs - self._count(node)
        while left > 0 and node.trial.state == "failed" and not node.trial.suspicion:
            if not node.parent or self.nodes[node.parent].value is not None:
                return left
            node, left = self.nodes[node.parent], left - 1
        return 0

    def _count(self, node: Node) -> int:
        """Children, and those that are planned."""
        return len(node.children) + self._planned[node.trial.id]

    def plan(self, name: str) -> None:
        """A child of this node is being made: until it is there, it counts as a visit without a result."""
        self._planned[name] += 1
        while name:
            self.nodes[name].visits += 1
            name = self.nodes[name].parent

    def best_first(self, width: int) -> str:
        """The best node that has fewer than `width` children; once all have so many, those with fewest come first.

        A failure counts as what it was made of, and comes before it. Source of the scheme for programs: AIDE (Jiang et
        al. 2025, arXiv 2502.13138, section 3), which refines the best and mends what fails.

        Args:
            width: Children of a node before others get more, at least 1.

        Returns:
            Its id; "" where there is none.
        """
        found = [name for name, node in self.nodes.items() if self._limit(node) > 0]

        def key(name: str) -> tuple[int, float, bool, int, int]:
            node = self.nodes[name]
            count = self._count(node)
            return count // width, -self._hope(node), node.value is not None, count, node.trial.number

        return min(found, key=key, default="")

    def mcts(self, exploration: float, rng: random.Random) -> str:
        """A node by Monte Carlo tree search: from the root down to where the next child belongs.

        UCT (Kocsis and Szepesvári 2006, "Bandit based Monte-Carlo planning") with the largest value of a subtree in
        place of the mean, since one good program is what is wanted, and with progressive widening (Coulom 2007,
        "Computing Elo ratings", section 4.2): a node gets another child while it has fewer than the root of its visits.
        Both are as in MCTS-AHD (Zheng et al. 2025, arXiv 2501.08603), other than there without simulations: the value
        of a program is its measurement.

        Args:
            exploration: Weight of the bonus for what was refined little; values are in [0, 1].
            rng: Breaks ties.

        Returns:
            Its id; "" where nothing can be refined.
        """
        ahead = [name for name, node in self.nodes.items() if not node.parent]
        visits = sum(self.nodes[name].visits for name in ahead)
        while True:
            able = [name for name in ahead if self._able(self.nodes[name])]
            if not able:
                return ""
            rng.shuffle(able)

            def worth(name: str, visits: int = visits) -> float:
                node = self.nodes[name]
                return max(node.best, self._hope(node)) + exploration * math.sqrt(math.log(visits + 1) / node.visits)

            name = max(able, key=worth)
            node = self.nodes[name]
            below = any(self._able(self.nodes[child]) for child in node.children)
            if self._limit(node) > 0 and (not below or self._count(node) < math.sqrt(node.visits)):
                return name
            ahead, visits = node.children, node.visits

    def _hope(self, node: Node) -> float:
        """A node's value; of a failure that may be mended, that of what it was made of."""
        while node.value is None and node.parent and self._limit(node) > 0:
            node = self.nodes[node.parent]
        return node.value or 0.0

    def _able(self, node: Node) -> bool:
        """Whether something in its subtree can be refined, what is planned included."""
        return node.open and (self._limit(node) > 0 or any(self._able(self.nodes[child]) for child in node.children))
