"""Our gate inside of GEPA: an acceptance criterion that lets a candidate into the pool only when its gain was shown.

    from agent.integrations.gepa_gate import GateAcceptance

    criterion = GateAcceptance(adapter, trainset, gate_rows, max_metric_calls=5000)
    gepa.optimize(…, acceptance_criterion=criterion)
    print([verdict.sentence for verdict in criterion.verdicts()])

GEPA's own criterion compares two sums over three rows. A criterion is told nothing but these, so this one measures
both candidates on further rows itself, through the adapter, and tells GEPA's state what that cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.datasets.splits import divide, key
from agent.errors import ConfigError
from agent.gate.gate import Gate
from agent.gate.verdict import Verdict
from agent.goals import Objective
from agent.integrations.gepa_adapter import SCORE, as_json
from agent.inthread import in_thread
from agent.problem import Example


class GateAcceptance:
    """Accepts a proposal that did better than its parent on GEPA's own rows, on rows of train, and in an exam.

    The chance that any accepted candidate is no better than its parent is at most `alpha` over all proposals
    together. GEPA's last choice, the highest mean over its valset, is not covered; take the newest candidate that was
    accepted, or `criterion.accepted[-1]`. Another criterion on the same rows knows nothing of this one's exams and
    begins with an `alpha` of its own.

    Args:
        adapter: The one that GEPA runs.
        screen: Rows of train, on which both are measured before an exam is thought of.
        rows: Rows for the exams alone: neither GEPA's trainset nor its valset. They are compared with `screen` only.
            Copies and near-copies among them count as one.
        max_metric_calls: GEPA's budget; no exam is begun that it has no room for.
        alpha: Chance of any false acceptance.
        score_range: The lowest and the highest score of a row.
        min_effect: Gain that is too small to count.
        clusters: What each of `rows` belongs to (a user, a document), where several depend on one another.

    Raises:
        ConfigError: A row of `rows` is in `screen` too; or, as soon as one is seen, a score is outside of
            `score_range`.
    """

    def __init__(
        self,
        adapter: Any,
        screen: Sequence[Any],
        rows: Sequence[Any],
        *,
        max_metric_calls: int,
        alpha: float = 0.05,
        score_range: tuple[float, float] = (0.0, 1.0),
        min_effect: float = 0.0,
        clusters: Sequence[str] | None = None,
    ) -> None:
        low, high = self._range = score_range
        goal = Objective(SCORE, "maximize", low=low, high=high, min_effect=min_effect)
        self._adapter, self._screen, self._total = adapter, list(screen), max_metric_calls
        self._rows = {str(number): row for number, row in enumerate(rows)}
        self._gate = Gate(
            list(self._rows), goal, total=max_metric_calls, alpha=alpha, clusters=_clusters(screen, rows, clusters)
        )
        self._why = ""
        self.accepted: list[dict[str, str]] = []
        """Candidates that were accepted, in order."""
        self.metric_calls = 0
        """Rows that this criterion measured."""

    def should_accept(self, proposal: Any, state: Any) -> bool:
        """Whether the gain over the parent was shown. The parent of a merge is the better one of its parents."""
        before = sum(proposal.subsample_scores_before or [])
        after = sum(self._within(proposal.subsample_scores_after or []))
        if after <= before:
            return self._no("no better on the minibatch")
        child = dict(proposal.candidate)
        parent = dict(state.program_candidates[self._parent(proposal, state)])
        if self._left(state) < 2 * len(self._screen):
            return self._no("the budget has no room to measure it")
        one, other = self._measured(child, self._screen, state), self._measured(parent, self._screen, state)
        differences = [(a - b) / self._gate.scale for a, b in zip(one, other, strict=True)]
        plan = self._gate.plan(differences, left=self._left(state), last=True)
        if plan is None or 2 * plan.pairs > self._left(state):
            return self._no("what was seen of it does not warrant an exam")

        def measure(candidate: Mapping[str, str], row: str) -> float:
            return self._measured(dict(candidate), [self._rows[row]], state)[0]

        shown: bool = in_thread(self._gate.examine(plan, child, parent, measure))
        if shown:
            self.accepted.append(child)
            return True
        return self._no("the exam showed no gain")

    def reject_reason(self, proposal: Any, state: Any) -> str:
        """Why the last proposal was not accepted, for GEPA's log."""
        return self._why

    def verdicts(self) -> list[Verdict]:
        """What the exams found. It closes the gate: nothing is accepted afterwards."""
        return self._gate.verdicts()

    def _no(self, why: str) -> bool:
        self._why = why
        return False

    def _left(self, state: Any) -> int:
        return self._total - int(state.total_num_evals)

    def _parent(self, proposal: Any, state: Any) -> int:
        means = state.program_full_scores_val_set
        parents: list[int] = list(proposal.parent_program_ids)
        return max(parents, key=lambda number: float(means[number]))

    def _measured(self, candidate: dict[str, str], rows: list[Any], state: Any) -> list[float]:
        found = self._adapter.evaluate(rows, candidate, capture_traces=False)
        self.metric_calls += len(rows)
        state.increment_evals(len(rows))
        return self._within(found.scores)

    def _within(self, scores: Sequence[Any]) -> list[float]:
        low, high = self._range
        out = [float(score) for score in scores]
        slack = 1e-9 * (high - low)  # of rounding
        for score in out:
            if not low - slack <= score <= high + slack:
                raise ConfigError(
                    f"score_range: the adapter gave the score {score:g}, and allowed is {low:g} to {high:g}",
                    hint="give GateAcceptance the lowest and the highest score that a row can have, such as"
                    " score_range=(0, 100), or keep the adapter's scores inside; a gain in cut scores is another gain",
                )
        return out


def _clusters(screen: Sequence[Any], rows: Sequence[Any], given: Sequence[str] | None) -> list[str]:
    """What each row of the exams counts as, so that rows that repeat one another are no separate evidence."""
    if not len(rows):
        raise ConfigError("rows: there is none for the exams", hint="give rows that GEPA does not see")
    if given is not None and len(given) != len(rows):
        raise ConfigError(f"clusters: found {len(given)}, and there are {len(rows)} rows", hint="give one for each row")
    seen = [Example(f"screen {number}", as_json(row)) for number, row in enumerate(screen)]
    names = [str(name) for name in given] if given is not None else [""] * len(rows)
    held = [
        Example(f"row {number}", as_json(row), cluster=name, split="val")
        for number, (row, name) in enumerate(zip(rows, names, strict=True))
    ]
    division = divide([*seen, *held], {})
    if division.removed:
        numbers = [item.id.removeprefix("screen ") for item in division.removed]
        more = ", …" if len(numbers) > 10 else ""
        raise ConfigError(
            f"rows: {len(numbers)} of {len(screen)} rows of screen are among them, or nearly repeat one of them:"
            f" screen[n] for n = {', '.join(numbers[:10])}{more}",
            hint="an exam proves something on rows only that GEPA never saw: take their copies out of rows",
        )
    return [key(example) for example in division.examples if example.split == "val"]
