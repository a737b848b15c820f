"""TrueGain's search on rows and its gate, in the worlds of the benchmark.

`Arena`, `Race`, `planning` and `Gate` are the real ones, called as the loop calls them with one
challenger at a time. Only the row-by-row walk of one race is done in one step: `walk` finds where the
race will stop, the scores up to there are handed over together, and the arena's own ruling on them is
what counts. `python benchmarks/gate.py walk` compares both ways step by step.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import numpy as np
from gate_worlds import READ, Bits, Outcome, Program, World

from agent.gate import planning, standing
from agent.gate.arena import Arena
from agent.gate.gate import Gate
from agent.gate.race import Race
from agent.goals import Objective

GOAL = Objective("score", "maximize", low=0, high=1)
CHECKED = 3
"""Rows that are measured twice at the start of a run, to see whether measuring is deterministic."""


def walk(race: Race, differences: np.ndarray) -> int:
    """After how many pairs the race is decided; all of them decide at the latest."""
    n = np.arange(1, differences.size + 1)
    size = race.prior * race.weight + np.cumsum(np.abs(differences))
    bets = np.clip(race.gain * (race.weight + n) / size, 0.1, 0.6)
    stake = np.cumsum(np.log1p(bets * differences))
    over = (stake >= race.promote) | ((stake <= race.drop) & (n >= race.shortest))
    over |= (n >= race.tied) & (np.cumsum(differences != 0) == 0)
    over[-1] = True
    return int(np.argmax(over)) + 1


class Search:
    """One run's search, from a champion that may be inherited from an earlier run.

    Args:
        world: Rows and edits.
        gate: Of the held-out rows; None when nothing is examined or held back.
        budget: Metric calls of search and gate together; infinite where rounds are counted instead.
        start: First champion, which is also what is released.
        pooled: Whether the held-out rows are searched as well.
    """

    def __init__(
        self, world: World, gate: Gate | None, budget: float, start: Program | None = None, pooled: bool = False
    ) -> None:
        self.world, self.gate, self.budget = world, gate, budget
        self.champion = self.released = start or world.initial
        self.programs = {self.champion.name: self.champion}
        size = 2 * world.n if pooled else world.n
        self.rows = [str(number) for number in range(size)]
        self.arena = Arena(
            self.rows, self.champion.name, f"{world.seed} {self.champion.name}", budget, scale=1.0, repeatable=False
        )
        self.spent = self.held = 0
        self.proposals = 0
        self.examined: set[tuple[str, str]] = set()
        self.claims = self.false = 0
        self.effect: float | None = None
        self._known: dict[str, Bits] = {self.champion.name: np.zeros(size, bool)}
        self._begun = len(gate.exams) if gate is not None else 0
        self._measure(self.champion, np.array([int(row) for row in self.arena.race_set[:CHECKED]]))
        self.spent += 2 * CHECKED

    def _measure(self, program: Program, rows: np.ndarray) -> None:
        new = rows[~self._known[program.name][rows]]
        self._known[program.name][new] = True
        scores = self.arena.scores.setdefault(program.name, {})
        scores.update(zip((self.rows[row] for row in new), program.seen[new].astype(float).tolist(), strict=True))

    @property
    def seen(self) -> planning.Seen | None:
        """What the search saw of champion and released on common rows."""
        if self.champion is self.released:
            return None
        return self.arena.seen(self.champion.name, self.released.name)

    def hold(self) -> None:
        """Work out anew what the last exam needs."""
        if self.gate is not None:
            level = self.gate.level(last=True)
            self.held = planning.reserve(self.seen, rows=self.world.n, total=self.budget, level=level)

    def propose(self, number: int, shift: float | None = None) -> bool:
        """One proposal and its race; False when the search's share of the budget is spent."""
        arena = self.arena
        if self.budget - self.spent - self.held < READ + 1:
            return False
        program = self.world.edit(number, self.champion, shift)
        self.programs[program.name] = program
        self._known[program.name] = np.zeros(len(self.rows), bool)
        self.proposals += 1
        self.spent += READ
        arena.enter(program.name, map(str, program.read), [program.parent])
        order = np.array([int(row) for row in arena.lanes[program.name].order])
        stop = walk(arena.race, program.seen[order].astype(float) - self.champion.seen[order])
        costs = np.cumsum(2 - self._known[self.champion.name][order[:stop]].astype(int))
        left = self.budget - self.spent - self.held
        done = int(np.searchsorted(costs, left, side="right")) if costs[-1] > left else stop
        self._measure(program, order[:done])
        self._measure(self.champion, order[:done])
        self.spent += int(costs[done - 1]) if done else 0
        if done < stop:
            return False
        found = arena.ruling()
        assert found is not None, "the race goes on where it was to stop"
        promoted = found[1].decision == "promote"
        arena.decided(program.name, promoted)
        if promoted:
            self.champion = program
        else:
            arena.forget([program.name])
        if promoted or self.proposals % 5 == 0:
            self.hold()
        return True

    def plan(self, last: bool) -> planning.Plan | None:
        """The exam that is due, as the loop works it out."""
        gate, seen = self.gate, self.seen
        if gate is None or seen is None or (self.champion.name, self.released.name) in self.examined:
            return None
        if last and standing.exhausted(self.world.n, gate.level(last=True)):
            return None
        taken = [exam.plan for exam in gate.exams[self._begun :]]
        return planning.plan(
            seen,
            rows=self.world.n,
            left=self.budget - self.spent,
            total=self.budget,
            level=gate.level(last),
            last=last,
            test=planning.choose(seen, bounded=True, null="mean", noise="any", margin=0.0),
            scale=1.0,
            previous=taken[-1].needed if taken else None,
            spent=sum(2 * plan.pairs for plan in taken),
        )

    def examine(self, last: bool) -> None:
        """Hold the exam that is due, if any."""
        plan = self.plan(last)
        if plan is None or self.gate is None:
            return
        scores = {item.name: self.world.val(item).astype(float).tolist() for item in (self.champion, self.released)}
        self.spent += 2 * plan.pairs
        self.examined.add((self.champion.name, self.released.name))
        names = self.champion.name, self.released.name
        accepted = asyncio.run(self.gate.examine(plan, *names, lambda name, row: scores[name][int(row)]))
        if last:
            after, before = (math.fsum(scores[name][: plan.pairs]) / plan.pairs for name in names)
            self.effect = after - before
            self.optimism = after - self.champion.mean if after > before else before - self.released.mean
        if accepted:
            self.claims += 1
            self.false += self.champion.mean <= self.released.mean
            self.released = self.champion

    def run(self, numbers: range, interim: bool, shift: Callable[[int], float | None] = lambda _: None) -> None:
        """Propose until the budget or the edits are spent, then hold the last exam."""
        self.optimism = math.nan
        self.hold()
        for number in numbers:
            champion = self.champion
            if not self.propose(number, shift(number)):
                break
            if interim and self.champion is not champion:
                self.examine(last=False)
                self.hold()
        self.examine(last=True)

    def outcome(self) -> Outcome:
        """How it ended.

        Best is the champion unless its exam put it below what was released, or the search itself did and no exam was
        held.
        """
        best, seen = self.champion, self.seen
        if self.gate is not None and seen is not None and (seen.mean if self.effect is None else self.effect) <= 0:
            best = self.released
        optimism = self.optimism
        if self.gate is None:
            scores = self.arena.means().get(best.name)
            optimism = scores - best.mean if scores is not None else math.nan
            wrong = best is not self.world.initial and best.mean <= self.world.initial.mean
            return Outcome(best.mean, best.mean, best is not self.world.initial, wrong, optimism, self.spent,
                           self.proposals)  # fmt: skip
        return Outcome(best.mean, self.released.mean, self.claims > 0, self.false > 0, optimism, self.spent,
                       self.proposals)  # fmt: skip


def gate_of(n: int, budget: float) -> Gate:
    """A new gate of n rows."""
    return Gate([str(number) for number in range(n)], GOAL, total=budget)


def race_exam(world: World, budget: float, interim: bool = False) -> Outcome:
    """The race, and one exam at the end; with `interim` also exams before, as in a run of TrueGain."""
    search = Search(world, gate_of(world.n, budget), budget)
    search.run(range(world.rounds), interim)
    return search.outcome()


def race_auto(world: World, budget: float) -> Outcome:
    """With interim exams."""
    return race_exam(world, budget, interim=True)


def race_only(world: World, budget: float) -> Outcome:
    """No gate: what the race ends with is claimed."""
    search = Search(world, None, budget)
    search.run(range(world.rounds), False)
    return search.outcome()


def race_pooled(world: World, budget: float) -> Outcome:
    """No gate, and all rows are searched, as TrueGain does below 80 examples."""
    search = Search(world, None, budget, pooled=True)
    search.run(range(world.rounds), False)
    return search.outcome()


def stepwise(world: World, numbers: range) -> list[tuple[str, str, int]]:
    """The same search without `walk`, one measurement at a time: what each race decided, and after how many calls."""
    rows = [str(number) for number in range(world.n)]
    arena = Arena(rows, "seed", f"{world.seed} seed", math.inf, scale=1.0, repeatable=False)
    programs = {"seed": world.initial}
    for row in arena.race_set[:CHECKED]:
        arena.add("seed", row, float(world.initial.seen[int(row)]))
    out = []
    for number in numbers:
        program = world.edit(number, programs[arena.champion])
        programs[program.name] = program
        arena.enter(program.name, map(str, program.read), [program.parent])
        calls = 0
        while (found := arena.ruling()) is None:
            wanted = arena.next(1)
            assert wanted is not None
            arena.begin(*wanted[:2])
            arena.add(wanted[0], wanted[1], float(programs[wanted[0]].seen[int(wanted[1])]))
            calls += 1
        arena.decided(program.name, found[1].decision == "promote")
        out.append((program.name, found[1].decision, calls))
    return out


def at_once(world: World, numbers: range) -> list[tuple[str, str, int]]:
    """What `stepwise` gives, by `Search`."""
    search, out = Search(world, None, math.inf), []
    for number in numbers:
        before, champion = search.spent, search.champion
        search.propose(number)
        decision = "promote" if search.champion is not champion else "drop"
        out.append((f"edit {number}", decision, search.spent - before - READ))
    return out
