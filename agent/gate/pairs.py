"""Pairs of repeated measurements, for problems whose noise is in the measuring and not in the rows.

A challenger and another candidate are measured alternately; each pair shares a seed. The race on
them is a sequential test on the signs of the paired differences (the likelihood ratio of Wald,
Sequential Analysis, 1947, chapter 3, written as the growth of a stake that is bet on each pair).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.gate.evidence import Evidence
from agent.gate.race import DROP, PROMOTE, Ruling
from agent.problem import Problem

BET = 0.5
"""Stake of the sequential test: three wins in a row promote, two losses in a row drop."""


@dataclass(slots=True)
class Pairs:
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
    halves: dict[int, dict[str, Mapping[str, float] | None]] = field(default_factory=dict)
    """By pair number: candidate id → its values, or None when that half failed."""

    def add(self, pair: int, candidate: str, values: Mapping[str, float] | None) -> None:
        """One half of a pair was measured."""
        self.halves.setdefault(pair, {})[candidate] = values

    def of(self, candidate: str) -> list[Mapping[str, float] | None]:
        """One candidate's values in the order of the pairs, of complete pairs only."""
        return [both[candidate] for _, both in sorted(self.halves.items()) if len(both) == 2]

    @property
    def numbers(self) -> range:
        """The pair numbers that belong to this race."""
        return range(self.first, self.first + self.asked)

    @property
    def complete(self) -> int:
        """Pairs of which both halves are there."""
        return sum(len(both) == 2 for both in self.halves.values())

    @property
    def wanted(self) -> int:
        """Pairs that should have been asked for by now."""
        return self.shortest if self.complete < self.shortest else min(self.longest, self.complete + 1)

    def evidence(self, problem: Problem) -> Evidence:
        """The pairs whose two halves both have a value."""
        goal = problem.objective
        rows = []
        for number, both in sorted(self.halves.items()):
            new, old = both.get(self.challenger), both.get(self.champion)
            if new is not None and old is not None:
                after, before = problem.compared(new), problem.compared(old)
                rows.append((number, goal.gain(after, before), goal.margin(before)))
        ids, gains, margins = zip(*rows, strict=True) if rows else ((), (), ())
        return Evidence(tuple(ids), tuple(gains), tuple(margins))

    def update(self, problem: Problem) -> Ruling:
        """The race's word after the pairs that are complete."""
        if any(self.challenger in both and both[self.challenger] is None for both in self.halves.values()):
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
        what = "not better" if evidence.mean < 0 else "undecided"
        return Ruling("drop", f"{what} after {self.longest} pairs: better in {tally}", summary)
