"""What was spent, and what was possibly spent, by kind: one run's, one night's, one month's."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.ledger import KINDS, Ledger


@dataclass(frozen=True, slots=True)
class Spend:
    """What was spent, and what was possibly spent beyond that (cut off without an answer), by kind.

    Args:
        roles: Calls, tokens and usd by who asked: propose, judge and so on.
        unpriced: Calls whose price is unknown; with any, usd is a lower bound.
    """

    spent: Mapping[str, float] = field(default_factory=dict)
    possibly: Mapping[str, float] = field(default_factory=dict)
    roles: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    unpriced: int = 0

    @classmethod
    def of(cls, ledger: Ledger) -> Spend:
        """What a run's ledger says, whose process is gone or at rest."""
        ledger = copy.deepcopy(ledger)  # a second look at it must not count what was cut off again
        ledger.cut()
        told, total = ledger.to_json(), ledger.total
        roles = {
            name: {"calls": a.calls, "tokens": a.input + a.output, "usd": a.usd} for name, a in ledger.by_role.items()
        }
        spent = {
            "evaluations": ledger.evaluations,
            "calls": total.calls,
            "tokens": total.input + total.output,
            "usd": total.usd + ledger.evaluator_usd,
            "seconds": ledger.seconds,
        }
        possibly = {"evaluations": ledger.lost_evaluations, **told["possibly_spent"]}
        return cls(spent, possibly, roles, total.unpriced)

    def stored(self) -> dict[str, Any]:
        """For the ledger's file."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def less(self, other: Spend) -> Spend:
        """What came on top of another spend."""
        return self._with(other, -1)

    def __add__(self, other: Spend) -> Spend:
        return self._with(other, 1)

    def _with(self, other: Spend, sign: int) -> Spend:
        def both(mine: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
            return {k: mine.get(k, 0) + sign * theirs.get(k, 0) for k in (*mine, *(k for k in theirs if k not in mine))}

        names = (*self.roles, *(name for name in other.roles if name not in self.roles))
        roles = {name: both(self.roles.get(name, {}), other.roles.get(name, {})) for name in names}
        unpriced = self.unpriced + sign * other.unpriced
        return Spend(both(self.spent, other.spent), both(self.possibly, other.possibly), roles, unpriced)

    @property
    def at_least_0(self) -> Spend:
        """The same without credits."""
        spent, possibly = ({k: max(0, v) for k, v in part.items()} for part in (self.spent, self.possibly))
        return Spend(spent, possibly, self.roles, self.unpriced)

    def counts(self, kind: str) -> float:
        """What counts against a cap."""
        return self.spent.get(kind, 0) + self.possibly.get(kind, 0)

    @property
    def measuring_costs(self) -> bool:
        """Whether the evaluator told of dollars."""
        return self.spent.get("usd", 0) - math.fsum(role.get("usd", 0) for role in self.roles.values()) > 1e-9

    def to_json(self) -> dict[str, Any]:
        tidy = {kind: _tidy(self.spent.get(kind, 0)) for kind in KINDS}
        possibly = {kind: _tidy(value) for kind, value in self.possibly.items() if value}
        roles = {name: {k: _tidy(v) for k, v in role.items()} for name, role in self.roles.items()}
        return {**tidy, "usd_known": not self.unpriced, "possibly_spent": possibly, "by_role": roles}


def _tidy(value: float) -> float:
    return int(value) if float(value).is_integer() else round(value, 9)
