"""The race: the loose, cheap comparison that decides what the search builds on. It claims nothing.

A challenger is looked at once. On a deterministic problem that settles it. On a noisy one a
promising challenger is then measured alternately with the champion, and a sequential test on the
signs of the paired differences decides (the likelihood ratio of Wald, Sequential Analysis, 1947,
chapter 3, written as the growth of a stake that is bet on each pair).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from agent.gate.evidence import Evidence
from agent.problem import Problem

Decision = Literal["promote", "drop", "continue"]

BET = 0.5
"""Stake of the sequential test: three wins in a row promote, two losses in a row drop."""
PROMOTE = math.log(2.5)
DROP = -0.7


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the race decides about a challenger, in one sentence."""

    decision: Decision
    reason: str
    evidence: dict[str, float] = field(default_factory=dict)


def look(problem: Problem, challenger: Mapping[str, float], champion: Mapping[str, float] | None) -> Ruling:
    """The race's word after a challenger's first measurement.

    Args:
        problem: Objectives and constraints.
        challenger: Means of its measurements so far.
        champion: Means of the champion's measurements; None when it has none.
    """
    broken = problem.violated(challenger)
    if broken:
        found = ", ".join(f"{item.name} is {challenger[item.name]:.4g} ({item})" for item in broken)
        return Ruling("drop", f"infeasible: {found}")
    goal = problem.objective
    value = challenger[goal.name]
    shown = f"{value:.4g}{' ' + goal.unit if goal.unit else ''}"
    if champion is None or problem.violated(champion):
        return Ruling("promote", f"first to keep every constraint, at {shown}")
    reference = champion[goal.name]
    gain = goal.gain(value, reference)
    against = f"{shown} against {reference:.4g}"
    evidence = {"gain": gain, "pairs": 0}
    if not gain > goal.margin(reference):
        return Ruling("drop", f"not better: {against}", evidence)
    if problem.deterministic:
        return Ruling("promote", f"better: {against}", evidence)
    return Ruling("continue", f"looks better: {against}; measuring in pairs", evidence)


@dataclass(slots=True)
class Race:
    """A challenger and the champion, measured alternately.

    Args:
        challenger: Candidate id.
        champion: Candidate id.
        shortest: Pairs before a promotion.
        longest: Pairs at which the majority decides.
        first: Number of its first pair; numbers are not used twice in a run.
    """

    challenger: str
    champion: str
    shortest: int = 3
    longest: int = 10
    first: int = 0
    asked: int = 0
    """Pairs asked for so far."""
    pairs: dict[int, dict[str, float | None]] = field(default_factory=dict)
    """By pair number: candidate id → value of the objective, or None when that half failed."""

    def add(self, pair: int, candidate: str, value: float | None) -> None:
        """One half of a pair was measured."""
        self.pairs.setdefault(pair, {})[candidate] = value

    @property
    def numbers(self) -> range:
        """The pair numbers that belong to this race."""
        return range(self.first, self.first + self.asked)

    @property
    def complete(self) -> int:
        """Pairs of which both halves are there."""
        return sum(len(halves) == 2 for halves in self.pairs.values())

    @property
    def wanted(self) -> int:
        """Pairs that should have been asked for by now."""
        return self.shortest if self.complete < self.shortest else min(self.longest, self.complete + 1)

    def evidence(self, problem: Problem) -> Evidence:
        """The pairs whose two halves both have a value."""
        goal = problem.objective
        rows = []
        for number, halves in sorted(self.pairs.items()):
            new, old = halves.get(self.challenger), halves.get(self.champion)
            if new is not None and old is not None:
                rows.append((number, goal.gain(new, old), goal.margin(old)))
        ids, gains, margins = zip(*rows, strict=True) if rows else ((), (), ())
        return Evidence(tuple(ids), tuple(gains), tuple(margins))

    def update(self, problem: Problem) -> Ruling:
        """The race's word after the pairs that are complete."""
        if any(halves.get(self.challenger, 0.0) is None for halves in self.pairs.values()):
            return Ruling("drop", "failed when it was measured again")
        evidence = self.evidence(problem)
        wins, losses = evidence.wins, evidence.losses
        wealth = wins * math.log(1 + BET) + losses * math.log(1 - BET)
        goal = problem.objective
        unit = f" {goal.unit}" if goal.unit else ""
        summary = {"pairs": len(evidence), "wins": wins, "losses": losses, "gain": evidence.mean}
        tally = f"{wins} of {len(evidence)} pairs, by {evidence.mean:.4g}{unit} on average"
        if wealth <= DROP:
            return Ruling("drop", f"not better when measured in pairs: better in {tally}", summary)
        if self.complete < self.shortest:
            return Ruling("continue", f"better in {tally}", summary)
        if wealth >= PROMOTE:
            return Ruling("promote", f"better in {tally}", summary)
        if self.complete < self.longest:
            return Ruling("continue", f"better in {tally}", summary)
        if wealth > 0 and evidence.mean > 0:
            return Ruling("promote", f"better in {tally}", summary)
        return Ruling("drop", f"undecided after {self.longest} pairs: better in {tally}", summary)
