"""The gate by itself: for a search of your own that wants to claim only what was shown.

    gate = Gate(rows, Objective("accuracy", "maximize", low=0, high=1), total=4000)
    plan = gate.plan(differences, left=1000, last=True)   # from your search's own rows
    if plan is not None and await gate.examine(plan, champion, released, measure):
        released = champion
    print(gate.verdicts()[-1].sentence)

A run of TrueGain does the same with its own journal and accounts (`agent.folds.examination`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agent.errors import GateError
from agent.gate import heldout, planning
from agent.gate.levels import level
from agent.gate.verdict import Verdict
from agent.goals import Goals, Objective

Measure = Callable[[Any, str], Any]
"""A candidate's score on a row: a number, None for a failure, or something to await."""


@dataclass(frozen=True, slots=True)
class Examined:
    """One exam of a `Gate`: its plan, its error level, and the bit."""

    plan: planning.Plan
    level: float
    accepted: bool


class Gate:
    """Strict exams on one set of held-out rows.

    Args:
        rows: Ids of rows that no proposer sees.
        goals: What is compared; an objective stands for itself.
        total: The budget of evaluations that search and gate share.
        alpha: Chance of any false claim over the gate's whole life.
        clusters: What each row belongs to; rows alone by default.
        null: "mean" (no gain on average) or "exchangeable" (the change did nothing).
        noise: "any", or "gaussian" where that is known.
        interim: Whether exams may be held before the search is over.
        scale: Range of a score where the goals do not declare it.
    """

    def __init__(
        self,
        rows: Sequence[str],
        goals: Objective | Goals,
        *,
        total: float,
        alpha: float = 0.05,
        clusters: Sequence[str] | None = None,
        null: str = "mean",
        noise: str = "any",
        interim: bool = False,
        scale: float | None = None,
    ) -> None:
        self.rows = tuple(rows)
        self.goals = Goals((goals,)) if isinstance(goals, Objective) else goals
        self.total, self.alpha, self.null, self.noise, self.interim = total, alpha, null, noise, interim
        self._clusters = tuple(clusters) if clusters is not None else self.rows
        if len(self._clusters) != len(self.rows):
            raise ValueError("one cluster for each row is needed")
        bounds = self.goals.bounds
        self.scale = bounds[1] - bounds[0] if bounds else scale or 1.0  # a smaller one would cut gains and losses
        self.exams: list[Examined] = []
        self._run, self._taken, self._spent = 1, 0, 0
        self._previous: int | None = None
        self._verdicts: list[Verdict] = []
        self._open = True

    def level(self, last: bool) -> float:
        """Error level of the next exam."""
        accepts = sum(exam.accepted for exam in self.exams)
        tests = len(self.exams)
        return level(self.alpha, accepts=accepts, tests=tests, run=self._run, taken=self._taken, last=last)

    def plan(self, differences: Sequence[float] | planning.Seen, *, left: float, last: bool) -> planning.Plan | None:
        """The exam that is due, worked out from the search's paired differences.

        Args:
            differences: Champion minus released on rows of the search, each divided by the score's range; or what
                `agent.gate.planning.Seen` makes of them.
            left: Evaluations that may still be made.
            last: Whether the search is over.
        """
        if not last and not self.interim:
            return None
        seen = differences if isinstance(differences, planning.Seen) else planning.Seen.of(differences)
        goal = self.goals.objective
        margin = goal.min_effect / self.scale
        return planning.plan(
            seen,
            rows=len(self.rows),
            left=left,
            total=self.total,
            level=self.level(last),
            last=last,
            test=planning.choose(
                seen,
                bounded=self.goals.bounds is not None,
                null=self.null,
                noise=self.noise,
                margin=margin,
                of_set=self.goals.of_set,
                most=goal.most,
                clustered=len(set(self._clusters)) < len(self._clusters),
            ),
            scale=self.scale,
            margin=margin,
            previous=self._previous,
            spent=self._spent,
            per_unit=len(self.rows) / max(1, len(set(self._clusters))),
        )

    async def examine(self, plan: planning.Plan, champion: Any, released: Any, measure: Measure) -> bool:
        """Measure both candidates on the planned rows; the bit is all that comes back.

        Args:
            plan: From `plan`.
            champion: What `measure` takes.
            released: Likewise.
            measure: Called for both on each row.

        Raises:
            GateError: The gate was closed.
        """
        if not self._open:
            raise GateError("the gate is closed: its verdicts were read", hint="make a new gate from rows nobody saw")
        allowed = self.level(plan.last)
        rows = self.rows[: plan.pairs]
        name = self.goals.objective.name
        sides: list[list[dict[str, float] | None]] = []
        for candidate in (champion, released):
            scores = []
            for row in rows:
                value = measure(candidate, row)
                if inspect.isawaitable(value):
                    value = await value
                scores.append(value if value is None or isinstance(value, dict) else {name: float(value)})
            sides.append(scores)
        verdict = heldout.examine(
            self.goals, plan, allowed, str(champion), str(released), sides[0], sides[1], self._clusters[: plan.pairs]
        )
        self._verdicts.append(verdict)
        self.exams.append(Examined(plan, allowed, verdict.accepted))
        if plan.last:
            self._run, self._taken, self._previous, self._spent = self._run + 1, 0, None, 0
        else:
            self._taken, self._previous = self._taken + 1, plan.needed
            self._spent += 2 * plan.pairs
        return verdict.accepted

    async def examine_pairs(
        self, plan: planning.Plan, champion: Any, released: Any, outputs: Callable[[Any, str], Any], compare: Any
    ) -> bool:
        """An exam by preferences: a judge says on each row which output it prefers, in both orders.

        The gate's objective is the share of a row that a side wins, from 0 to 1: a preference in both orders is a
        full win or loss, and one that flips with the order is a tie.

        Args:
            plan: From `plan`.
            champion: What `outputs` takes.
            released: Likewise.
            outputs: From a candidate and a row to the output that is judged.
            compare: `compare(row, a, b)`: the preference for a over b, in [0, 1]; sync or async.

        Raises:
            GateError: The gate was closed.
            EvaluatorError: The judge failed on every row.
        """
        from agent.gate.preferences import Pair, judge_pairs

        items = []
        for row in self.rows[: plan.pairs]:
            both = [outputs(candidate, row) for candidate in (champion, released)]
            new, old = [await value if inspect.isawaitable(value) else value for value in both]
            items.append(Pair(row, row, new, old))
        found = dict(zip(*(await judge_pairs(compare, items)).differences(), strict=True))
        return await self.examine(
            plan, "new", "old", lambda side, row: (1 + (found[row] if side == "new" else -found[row])) / 2
        )

    def verdicts(self) -> list[Verdict]:
        """All that the exams found. Reading it closes the gate: whoever knows scores can no longer be surprised."""
        self._open = False
        return list(self._verdicts)
