"""When to examine, and how many rows: worked out from search evidence alone.

The gate's guarantee rests on this. Which pair is examined, when, with how many rows and by which
test may depend on what the search saw and on the bits the gate has let out, and on nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from agent.gate.levels import exam_size, power

Test = Literal["sign", "betting", "exchangeable", "gaussian", "wins", "quotient", "resampling"]
"""sign: exact sign test for scores at the two ends of their range. betting: for graded scores with known bounds.
exchangeable: sign flips, for the null "the change did nothing". gaussian: for declared Gaussian noise.
wins: sign test of the win rate, where the scores' range is not known. quotient: for a quotient of sums whose
parts have a largest sum per row. resampling: for one whose parts have none; an estimate that proves nothing."""

RESERVE = 0.12
"""Share of the budget held back for the last exam, at most."""
SMALLEST = 40
"""Rows of the last exam that are paid for in any case: fewer could prove a large gain, and not say how large."""
INTERIM = 0.06
"""Share of the budget that interim exams may take together."""
SHRINK = 0.7
"""An interim exam is due only when it has become this much smaller than the one before."""
SPARE = 1.3
"""Rows beyond the computed size, as search evidence is optimistic."""
DISCORDANT = 5
"""Pairs that must be expected to differ; with fewer no level of .05 can be reached."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An exam that is to be held.

    Args:
        pairs: Rows to measure with both candidates.
        last: Whether it is the one at the end of the search.
        test: How the pairs are judged.
        scale: Range of a score, by which differences are divided.
        margin: The gain that is too small to count, as a share of `scale`.
        gain: Expected gain as a share of `scale`, one standard error below what the search saw.
        discordance: Share of pairs in which the two candidates differ, as the search saw it.
        needed: Rows for a power of 0.8.
        power: Expected chance to show the gain, if it is what is expected.
    """

    pairs: int
    last: bool
    test: Test
    scale: float
    margin: float
    gain: float
    discordance: float
    needed: int
    power: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the search saw of the champion and the released candidate on common rows.

    Args:
        mean: Mean paired difference as a share of the score's range.
        error: Its standard error.
        discordance: Share of rows on which they differ.
        pairs: Common rows.
        ends: Whether every score was at one end of its range.
    """

    mean: float
    error: float
    discordance: float
    pairs: int
    ends: bool

    @classmethod
    def of(cls, differences: Sequence[float], ends: bool | None = None) -> Seen:
        """Summarise paired differences in [-1, 1].

        Args:
            differences: One for each common row.
            ends: What is known of the scores themselves; without it, the differences tell.
        """
        n = len(differences)
        if not n:
            return cls(0.0, 1.0, 0.2, 0, True)
        mean = math.fsum(differences) / n
        variance = math.fsum((d - mean) ** 2 for d in differences) / max(1, n - 1)
        if ends is None:
            ends = all(abs(abs(d) - 1) < 1e-9 or abs(d) < 1e-9 for d in differences)
        # A few equal pairs have no spread, which does not make them certain.
        error = max(math.sqrt(variance / n), 1 / (n + 2))
        return cls(mean, error, sum(abs(d) > 1e-12 for d in differences) / n, n, ends)

    @classmethod
    def chain(cls, steps: Sequence[Seen]) -> Seen:
        """Of a series of improvements: means add up, and their errors as those of independent numbers do.

        The steps lie on different rows, so their sum may leave the range of one set of rows; it is cut there.
        """
        return cls(
            min(1.0, max(-1.0, math.fsum(step.mean for step in steps))),
            math.sqrt(math.fsum(step.error**2 for step in steps)),
            min(1.0, math.fsum(step.discordance for step in steps)),
            min((step.pairs for step in steps), default=0),
            all(step.ends for step in steps),
        )


def choose(
    seen: Seen,
    *,
    bounded: bool,
    null: str,
    noise: str,
    margin: float,
    of_set: bool = False,
    clustered: bool = False,
    most: float | None = None,
) -> Test:
    """The test that suits what the search saw; it is fixed before a row of the gate is read.

    Args:
        seen: Search evidence.
        bounded: Whether the range of the scores is known.
        null: "mean" or "exchangeable".
        noise: "any" or "gaussian".
        margin: The gain that is too small to count; the exact sign test knows none.
        of_set: Whether the claim is about a number of the whole set.
        clustered: Whether rows are averaged in clusters, so that even right-or-wrong scores become graded.
        most: The largest sum of a quotient's parts on one row, where it is declared.
    """
    if of_set:
        return "resampling" if most is None else "quotient"
    if noise == "gaussian":
        return "gaussian"
    if null == "exchangeable":
        return "exchangeable"
    if not bounded:
        return "wins"
    return "sign" if seen.ends and margin <= 0 and not clustered else "betting"


def plan(
    seen: Seen,
    *,
    rows: int,
    left: float,
    total: float,
    level: float,
    last: bool,
    test: Test,
    scale: float,
    margin: float = 0.0,
    previous: int | None = None,
    spent: int = 0,
    per_unit: float = 1.0,
) -> Plan | None:
    """The exam to hold now, or None when none is due, affordable, or able to show anything.

    Args:
        seen: Search evidence of champion against released.
        rows: Rows that the gate has.
        left: Evaluations that may still be made; each pair takes two.
        total: The run's budget of evaluations.
        level: Error level that the exam will have.
        last: Whether the search is over.
        test: From `choose`.
        scale: Range of a score.
        margin: The gain that is too small to count, as a share of `scale`.
        previous: `needed` of the last interim exam of this run.
        spent: Evaluations that interim exams have taken.
        per_unit: Rows in one independent unit (a cluster), on average.
    """
    discordance = max(seen.discordance, abs(seen.mean), 1e-6)
    gain = seen.mean - seen.error - margin
    affordable = min(rows, int(min(left, 1e12) // 2))
    needed = math.ceil(per_unit * exam_size(gain, discordance, level)) if gain > 0 else rows + 1
    if last:
        if seen.mean <= margin or affordable / per_unit * discordance < DISCORDANT:
            return None
        pairs = affordable
    else:
        pairs = math.ceil(SPARE * needed)
        too_soon = previous is not None and needed > SHRINK * previous
        if gain <= 0 or pairs > rows or too_soon or spent + 2 * pairs > INTERIM * total or pairs > affordable:
            return None
    expected = power(max(1, int(pairs / per_unit)), max(gain, 0.0), max(discordance, gain), level)
    return Plan(pairs, last, test, scale, margin, gain, discordance, needed, expected)


def lacking(seen: Seen, *, rows: int, left: float, margin: float = 0.0, per_unit: float = 1.0) -> str:
    """Why `plan` holds no last exam although the search saw a gain: what there is too little of.

    Args:
        seen: As for `plan`, and so are all others.
        rows: As there.
        left: As there.
        margin: As there.
        per_unit: As there.
    """
    if seen.mean <= margin:
        return "the gain that the search saw is smaller than the smallest one that counts"
    discordance = max(seen.discordance, abs(seen.mean), 1e-6)
    differ = f"they differ on {discordance:.0%} of the rows"
    if rows / per_unit * discordance < DISCORDANT:
        return f"{differ}, and {rows} held-out rows are too few to show such a difference; add examples to the data"
    return (
        f"{differ}, and the budget is too small for an exam: the {max(0.0, left):.0f} evaluations left for it pay for"
        f" {min(rows, int(max(0.0, left) // 2))} of the {rows} held-out rows; give the run more evaluations"
    )


def paying(rows: int) -> int:
    """The budget of evaluations whose reserve pays for an exam on all rows of the gate."""
    return math.ceil(2 * rows / RESERVE)


def reserve(seen: Seen | None, *, rows: int, total: float, level: float, per_unit: float = 1.0) -> int:
    """Evaluations held back for the last exam: for one and a half times the rows that it needs, at most 12 %.

    At least for `SMALLEST` rows, as far as 12 % pay for them.

    Args:
        seen: Search evidence of the champion against the released candidate; None while there is none.
        rows: Rows that the gate has.
        total: The run's budget of evaluations.
        level: Error level that the exam will have.
        per_unit: Rows in one independent unit (a cluster), on average.
    """
    if not rows or math.isinf(total):
        return 2 * rows
    most = min(2 * rows, int(RESERVE * total))
    if seen is None or seen.mean - seen.error <= 0:
        return most
    needed = exam_size(seen.mean - seen.error, max(seen.discordance, seen.mean), level)
    return min(most, 2 * max(math.ceil(1.5 * per_unit * needed), SMALLEST))
