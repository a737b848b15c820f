"""The tree of refinements: an edge is one refinement of a candidate, a node's value is what train says of it."""

from __future__ import annotations

import bisect
import heapq
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.evolution.fold import Epochs, Fold, finite
from agent.history import History, Trial
from agent.lagrange import Multipliers
from agent.problem import Problem

Key = tuple[int, float, bool, int, int]


@dataclass(slots=True)
class Node:
    """A candidate and what was made of it.

    Args:
        name: Its id; failed ones are nodes too.
        number: Of its trial.
        parent: Id of what it was made of; "" for the initial candidate, starting points, and what has no known parent.
        children: Ids, in the order of admission.
        means: What it was measured as; None without a result.
        cost: What that comes to at the present prices, smaller is better; infinite without a result.
        visits: Nodes in its subtree, itself included, and
        best: the smallest cost in its subtree; both for `Tree.mcts` alone.
    """

    name: str
    number: int
    parent: str
    children: list[str] = field(default_factory=list)
    means: Trial | None = None
    cost: float = math.inf
    visits: int = 1
    best: float = math.inf


class Tree(Fold):
    """All candidates of a run by the parent that each was made of first.

    `best_first` takes the same time however many there are; `mcts` walks down one path. Where there are thresholds,
    what they cost is worked out anew in epochs (see `agent.evolution.fold`).

    Args:
        problem: Of the run; `agent.lagrange` says what breaking its constraints costs.
        repairs: How often a candidate that failed may be refined; a failure of what was to mend it counts too. One that
            waits for a result, or is suspected, is not refined.
        width: Of best-first: children of a node before others get more, at least 1.
        paths: Whether visits and the best of subtrees are kept, which `mcts` goes by.
    """

    def __init__(self, problem: Problem, repairs: int = 1, width: int = 3, paths: bool = False) -> None:
        self.nodes: dict[str, Node] = {}
        self._given = (problem, repairs, width, paths)
        self._problem, self._repairs, self._width, self._paths = self._given
        self._prices = Multipliers(problem)
        self._epochs = Epochs()
        self._trials: Sequence[Trial] = ()
        """Of the view: what state a candidate is in now."""
        self._roots: list[str] = []
        self._costs: list[float] = []
        """Of all that have a result, ascending."""
        self._ahead: list[tuple[Key, str]] = []
        """What best-first may choose, as a heap; an entry counts while its key is the node's."""
        self._planned: Counter[str] = Counter()

    def _anew(self) -> Tree:
        return Tree(*self._given)

    def _fits(self, history: History) -> bool:
        return super()._fits(history) and len(self.nodes) <= len(history.trials)

    def _look(self, history: History) -> None:
        self._forget()
        self._trials = history.trials
        for number in range(len(self.nodes), len(history.trials)):
            self._admit(history.trials[number])

    def _admit(self, trial: Trial) -> None:
        parent = next((name for name in trial.parents if name in self.nodes), "")
        self.nodes[trial.id] = Node(trial.id, trial.number, parent)
        if not parent:
            self._roots.append(trial.id)
            return
        self.nodes[parent].children.append(trial.id)
        self._push(self.nodes[parent])
        if self._paths:
            self._visited(parent, 1)

    def _take(self, trial: Trial) -> None:
        node = self.nodes[trial.id]
        values = trial.values if trial.values is not None and finite(self._problem, trial.values) else None
        fresh = node.means is None and values is not None
        node.means = trial if values is not None else None
        if fresh and self._prices_move():
            self._reprice()
        else:
            self._set(node, self._prices.cost(values) if values is not None else math.inf)

    def _prices_move(self) -> bool:
        return bool(self._prices.bounded) and self._epochs.due(len(self._costs) + 1)

    def _reprice(self) -> None:
        known = [node.means for node in self.nodes.values() if node.means is not None]
        self._prices = Multipliers.of(self._problem, known)
        self._costs, self._ahead = [], []
        for node in self.nodes.values():
            node.cost = node.best = math.inf
        for trial in known:
            self._set(self.nodes[trial.id], self._prices.cost(trial.values or {}))
        for node in self.nodes.values():
            if node.cost == math.inf:
                self._push(node)

    def _set(self, node: Node, cost: float) -> None:
        """Give a node its cost; what failed below it waits with it."""
        if node.cost < math.inf:
            del self._costs[bisect.bisect_left(self._costs, node.cost)]
        if cost < math.inf:
            bisect.insort(self._costs, cost)
        node.cost = cost
        if self._paths:
            self._raised(node)
        waiting = [node]
        while waiting:
            item = waiting.pop()
            self._push(item)
            waiting += [child for child in map(self.nodes.__getitem__, item.children) if child.cost == math.inf]

    def _raised(self, node: Node) -> None:
        """Bring the best of the subtrees around a node up to date."""
        while True:
            best = min((self.nodes[child].best for child in node.children), default=math.inf)
            best = min(best, node.cost)
            if best == node.best:
                return
            node.best = best
            if not node.parent:
                return
            node = self.nodes[node.parent]

    def value(self, cost: float) -> float:
        """Share of the measured candidates that are no better, in (0, 1]; 0 for an infinite cost."""
        if cost == math.inf:
            return 0.0
        return (len(self._costs) - bisect.bisect_left(self._costs, cost)) / len(self._costs)

    def _state(self, node: Node) -> Trial:
        return self._trials[node.number]

    def _limit(self, node: Node) -> float:
        """How many children a node may still get."""
        if self._state(node).state == "suspected":
            return 0
        if node.cost < math.inf:
            return math.inf
        left = self._repairs - self._count(node)
        while left > 0 and self._state(node).state == "failed" and not self._state(node).suspicion:
            if not node.parent or self.nodes[node.parent].cost < math.inf:
                return left
            node, left = self.nodes[node.parent], left - 1
        return 0

    def _count(self, node: Node) -> int:
        """Children, and those that are planned."""
        return len(node.children) + self._planned[node.name]

    def plan(self, name: str) -> None:
        """A child of this node is being made: until the next decision, it counts as a visit without a result."""
        self._planned[name] += 1
        self._push(self.nodes[name])
        if self._paths:
            self._visited(name, 1)

    def _forget(self) -> None:
        """What was planned is there by now, or was given up."""
        planned, self._planned = self._planned, Counter()
        for name, count in planned.items():
            self._push(self.nodes[name])
            if self._paths:
                self._visited(name, -count)

    def _visited(self, name: str, count: int) -> None:
        while name:
            self.nodes[name].visits += count
            name = self.nodes[name].parent

    def best_first(self) -> str:
        """The best node that has fewer than `width` children; once all have so many, those with fewest come first.

        A failure counts as what it was made of, and comes before it. Source of the scheme for programs: AIDE (Jiang et
        al. 2025, arXiv 2502.13138, section 3), which refines the best and mends what fails.

        Returns:
            Its id; "" where there is none.
        """
        aside, found = [], ""
        while self._ahead and not found:
            key, name = self._ahead[0]
            node = self.nodes[name]
            if key == self._key(node) and self._limit(node) > 0:
                found = name
                break
            heapq.heappop(self._ahead)
            if key == self._key(node) and self._state(node).state == "suspected":
                aside.append((key, name))  # it may be cleared
        for item in aside:
            heapq.heappush(self._ahead, item)
        return found

    def _push(self, node: Node) -> None:
        """Let best-first know of a node, or of what changed about it."""
        if node.cost < math.inf or (node.number < len(self._trials) and self._limit(node) > 0):
            heapq.heappush(self._ahead, (self._key(node), node.name))

    def _key(self, node: Node) -> Key:
        count = self._count(node)
        return count // self._width, self._hope(node), node.cost < math.inf, count, node.number

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
        ahead = self._roots
        visits = sum(self.nodes[name].visits for name in ahead)
        while True:
            able = [name for name in ahead if self._able(self.nodes[name])]
            if not able:
                return ""
            rng.shuffle(able)

            def worth(name: str, visits: int = visits) -> float:
                node = self.nodes[name]
                value = self.value(min(node.best, self._hope(node)))
                return value + exploration * math.sqrt(math.log(visits + 1) / node.visits)

            name = max(able, key=worth)
            node = self.nodes[name]
            below = any(self._able(self.nodes[child]) for child in node.children)
            if self._limit(node) > 0 and (not below or self._count(node) < math.sqrt(node.visits)):
                return name
            ahead, visits = node.children, node.visits

    def _hope(self, node: Node) -> float:
        """A node's cost; of a failure that may be mended, that of what it was made of."""
        while node.cost == math.inf and node.parent and self._limit(node) > 0:
            node = self.nodes[node.parent]
        return node.cost

    def _able(self, node: Node) -> bool:
        """Whether something in its subtree can be refined, what is planned included."""
        return self._limit(node) > 0 or any(self._able(self.nodes[child]) for child in node.children)
