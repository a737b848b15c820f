"""What the search's measurements took and cost, and from that, what the next ones will."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from agent.events import CallEnded, CallStarted
from agent.ledger import Budget, Ledger

MARGIN = 1.1
"""How much more than the search's rows the rows of the exam and the report may cost."""
SCOPE = "evaluation-"
"""How the scopes of an evaluation's model calls begin; its number follows."""
ASKED = ("calls", "tokens", "usd")


def measurement(scope: str) -> int | None:
    """Number of the evaluation whose model calls have a scope; None where it is not one's."""
    return int(scope.removeprefix(SCOPE).partition("/")[0]) if scope.startswith(SCOPE) else None


def amounts(event: CallEnded) -> dict[str, float]:
    """What a call took: calls, tokens, usd."""
    spent = event.spent
    return {"calls": 1, "tokens": spent.get("input", 0) + spent.get("output", 0), "usd": spent.get("usd", 0.0)}


class Costs:
    """The fold."""

    def __init__(self) -> None:
        self.units = 0
        """Measurements of the search; what the gate's took and cost tells of its rows."""
        self.seconds = self.usd = 0.0
        self.asked = dict.fromkeys(ASKED, 0.0)
        """What the measurements of the search have asked of models."""
        self.held_back = dict.fromkeys(ASKED, 0.0)
        """The worst case of the same calls."""
        self.askers = 0
        """How many measurements asked them."""
        self._open: dict[int, list[tuple[dict[str, float], Mapping[str, Any]]]] = {}
        """Calls of measurements in flight."""

    def unit(self, seconds: float, usd: float) -> None:
        """A measurement of the search is complete."""
        self.units += 1
        self.seconds += seconds
        self.usd += usd

    def call(self, evaluation: int, started: CallStarted, ended: CallEnded) -> None:
        """A measurement of the search has asked a model."""
        self._open.setdefault(evaluation, []).append((amounts(ended), started.reserved))

    def over(self, evaluation: int) -> None:
        """An evaluation has ended; what it asked counts from here on."""
        calls = self._open.pop(evaluation, ())
        self.askers += bool(calls)
        for spent, reserved in calls:
            for kind in ASKED:
                self.asked[kind] += spent[kind]
                self.held_back[kind] += reserved.get(kind, 0.0)

    def total(self, budget: Budget) -> float:
        """Evaluations that a whole budget pays for, at the mean price of those so far; infinity without a limit."""
        return self._paid(budget, budget.evaluations or math.inf, lambda kind: getattr(budget, kind))

    def affordable(self, ledger: Ledger, workers: int) -> float:
        """Evaluations that what is left pays for; calls under way count with their worst case until they end."""
        flying = workers / max(1, self.askers)

        def left(kind: str) -> float:
            return ledger.left(kind) - flying * self.held_back[kind]

        return self._paid(ledger.budget, ledger.left("evaluations"), left)

    def _paid(self, budget: Budget, most: float, amount: Callable[[str], float]) -> float:
        for kind, spent in self.asked.items():
            if spent > 0 and getattr(budget, kind) is not None:
                most = min(most, max(0, math.floor(amount(kind) * self.askers / (MARGIN * spent))))
        return most

    def ahead(self, kinds: Iterable[str], evaluations: float, workers: int) -> dict[str, float]:
        """What so many more evaluations will ask of models, and the calls under way at the worst; by kind.

        Args:
            kinds: Of calls, tokens, usd.
            evaluations: At the mean price of those so far.
            workers: Evaluations in flight at most.
        """
        if not self.askers:
            return {}
        held = MARGIN * evaluations / self.askers
        flying = workers / self.askers
        return {kind: held * self.asked[kind] + flying * self.held_back[kind] for kind in kinds}
