"""What an exam found, and the one sentence that says it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from agent.goals import Objective

Status = Literal["proven", "exact", "unproven", "initial"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an exam found.

    Args:
        champion: The candidate that was examined.
        released: What it was compared with.
        kind: "exact" for a deterministic comparison, "paired" for an exam on repeated measurements, "rows" for
            one on rows that the search never saw, "none" where no exam could be held.
        accepted: Whether the gain may be claimed.
        before: The objective of `released`: median over the exam, or the exact value.
        after: The objective of `champion`.
        effect: Paired gain in the objective's unit, positive when the champion is better: the median over repeated
            measurements, the mean over rows; where a row's range is not known, the share of rows that got better
            less the share that got worse.
        interval: Confidence interval of the effect, or None when there are too few pairs for one.
        ratio: Median of before / after (minimize) or after / before (maximize); None unless all are positive.
        ratio_interval: Confidence interval of the ratio, or None.
        confidence: Of both intervals.
        level: Error level of the test.
        p: The test's p-value; None for an exact comparison.
        pairs: Complete pairs.
        wins: Pairs that gained more than the minimum effect.
        sentence: All of this for people.
        losses: Pairs that gained less.
        test: How the pairs were judged, in words.
        planned: Pairs that were planned.
        checks: What was found about constraints: name, kind, passed, sentence.
        account: What the level was worked out from, and what is left of it.
    """

    champion: str
    released: str
    kind: Literal["exact", "paired", "rows", "none"]
    accepted: bool
    before: float | None
    after: float | None
    effect: float | None
    interval: tuple[float, float] | None
    ratio: float | None
    ratio_interval: tuple[float, float] | None
    confidence: float
    level: float
    p: float | None
    pairs: int
    wins: int
    sentence: str
    losses: int = 0
    test: str = ""
    planned: int = 0
    checks: list[dict[str, Any]] = field(default_factory=list)
    account: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        out = asdict(self)
        for name in ("interval", "ratio_interval"):
            out[name] = list(out[name]) if out[name] is not None else None
        return out


def finite(interval: tuple[float, float]) -> tuple[float, float] | None:
    """An interval that has both ends; None for any other."""
    return interval if math.isfinite(interval[0]) and math.isfinite(interval[1]) else None


def ratio_of(sign: int, before: float, after: float) -> float | None:
    """How many times better: 2 for half the cost, or twice the score. None where a quotient says nothing.

    Args:
        sign: 1 when larger is better, -1 when smaller is.
        before: Of the released candidate.
        after: Of the champion.
    """
    if before <= 0 or after <= 0:
        return None
    ratio = after / before if sign > 0 else before / after
    return ratio if math.isfinite(ratio) else None


def sentence(
    goal: Objective,
    accepted: bool,
    before: float | None,
    after: float | None,
    effect: float | None,
    interval: tuple[float, float] | None,
    ratio: float | None,
    ratio_interval: tuple[float, float] | None,
    basis: str,
    repaired: bool,
) -> str:
    """A verdict for people: what was measured, and whether it is shown.

    Args:
        goal: What was compared.
        basis: What the verdict rests on, such as "better in 12 of 12 pairs".
        repaired: Whether only the champion keeps every constraint.

    The others are those of `Verdict`; None where there is no such number.
    """
    unit = f" {goal.unit}" if goal.unit else ""
    if after is None:
        return f"{goal.name}: not shown; nothing could be measured ({basis})."
    if before is None:
        return f"{goal.name}: {after:.4g}{unit}, where the initial candidate had no value ({basis})."
    better = "lower" if goal.sign < 0 else "higher"
    text = f"{goal.name} went from {before:.4g} to {after:.4g}{unit}"
    details = []
    if ratio is not None and ratio >= 2:
        details.append(f"{ratio:.3g} times {better}" + _between(ratio_interval, ""))
    elif effect is not None and effect < 0:
        flipped = (-interval[1], -interval[0]) if interval is not None else None
        details.append(f"{-effect:.3g}{unit} worse" + _between(flipped, unit))
    elif effect is not None:
        details.append(f"{effect:.3g}{unit} better" + _between(interval, unit))
    text += f" ({'; '.join(details)})" if details else ""
    if accepted:
        why = "Shown" if not repaired else "Accepted, since only the new candidate keeps every constraint"
        return f"{text}. {why}: {basis}."
    return f"{text}. Not shown: {basis}."


def _between(interval: tuple[float, float] | None, unit: str) -> str:
    if interval is None:
        return ""
    return f", 95 % interval {interval[0]:.3g} to {interval[1]:.3g}{unit}"


def unexamined(goal: Objective, champion: str, released: str, why: str) -> Verdict:
    """The verdict on a champion that no exam was held on: nothing is known of it but what the search saw."""
    return Verdict(
        champion=champion,
        released=released,
        kind="none",
        accepted=False,
        before=None,
        after=None,
        effect=None,
        interval=None,
        ratio=None,
        ratio_interval=None,
        confidence=0.95,
        level=0.0,
        p=None,
        pairs=0,
        wins=0,
        sentence=f"{goal.name}: the best candidate looked better to the search, and nothing is proven: {why}.",
    )
