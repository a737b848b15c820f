"""What came of a search by order alone, and the problem it stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agent.evaluation import Output, Request, Score
from agent.gate.evidence import Evidence, sign_test
from agent.gate.exam import LEVEL
from agent.goals import Objective
from agent.problem import Problem
from agent.space import Candidate, Space

PLACE = "place"
"""The objective that an order stands for; smaller is better."""


@dataclass(frozen=True)
class RankedResult:
    """What came of a ranked study.

    Args:
        status: "open" before the exam is over; then "proven", "unproven", or "initial" when nothing ever came before
            the initial candidate.
        best: The champion: first in its round, and before the champion until then.
        initial: The starting candidate.
        rounds: Rounds that were put in order.
        shown: Candidates that were put in order, the initial one included.
        pairs: Pairs of the exam.
        wins: Pairs in which the best one came first.
        losses: Pairs in which the initial one did.
        p: One-sided sign test on these; None without an exam.
        level: What p is held against.
        sentence: All of this for people.
    """

    status: str
    best: Candidate
    initial: Candidate
    rounds: int
    shown: int
    pairs: int
    wins: int
    losses: int
    p: float | None
    level: float
    sentence: str

    @property
    def released(self) -> Candidate:
        """The best one when that was proven, else the initial one."""
        return self.best if self.status == "proven" else self.initial

    def to_json(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in ("status", "sentence", "rounds", "shown")},
            **{name: getattr(self, name).values_json for name in ("best", "released", "initial")},
            "exam": {name: getattr(self, name) for name in ("pairs", "wins", "losses", "p", "level")},
        }

    @classmethod
    def of(
        cls,
        best: Candidate,
        initial: Candidate,
        *,
        rounds: int,
        shown: int,
        gains: Sequence[int],
        planned: int | None,
    ) -> RankedResult:
        """The outcome of the exam so far.

        Args:
            best: The champion.
            initial: The starting candidate.
            rounds: Rounds that were put in order.
            shown: Candidates that were.
            gains: Of each pair of the exam: 1 when the best one came first, -1 when the initial one did, 0 for a tie.
            planned: Pairs of the exam; None before it begins, 0 when there is nothing to examine.
        """
        evidence = Evidence(tuple(range(len(gains))), tuple(map(float, gains)), (0.0,) * len(gains))
        wins, losses, over = evidence.wins, evidence.losses, planned is not None and len(gains) >= planned
        p = sign_test(wins, losses) if over and planned else None
        status = "open" if not over else "initial" if p is None else "proven" if p <= LEVEL else "unproven"
        said = _sentence(status, rounds, wins, losses, len(gains), p)
        return cls(status, best, initial, rounds, shown, len(gains), wins, losses, p, LEVEL, said)


def _sentence(status: str, rounds: int, wins: int, losses: int, pairs: int, p: float | None) -> str:
    if status == "open":
        return f"Rounds put in order: {rounds}; nothing is claimed before the exam is over."
    if p is None:
        return f"Nothing came before the initial candidate (rounds put in order: {rounds})."
    ties = pairs - wins - losses
    found = (
        f"The best candidate came before the initial one in {wins} of {pairs} fresh pairs shown in random order"
        f"{f' ({ties} ties)' if ties else ''}; p = {p:.2g} by the sign test at level {LEVEL:g}."
    )
    if status == "unproven":
        return f"{found} Not shown."
    return f"{found} Shown: whoever gave the order prefers it, as far as the answers did not depend on each other."


def problem_of(space: Space) -> Problem:
    """The problem that proposers see: a place in an order is to be made small, and there is noise in it."""
    return Problem("ranked", space, _Asked(), (Objective(PLACE),))


@dataclass(frozen=True, slots=True)
class _Asked:
    """An evaluator that there is none: orders come from `tell`."""

    exclusive: bool = False
    blocking: bool = False
    keeps_limits: bool = False
    spec: None = None
    fingerprint: str = "put in order from outside"

    async def produce(self, request: Request, partial: Callable[[Any], None]) -> Output:
        return Output.failed("error", "a ranked study has no numbers to measure")

    def score(self, output: Output) -> Score:
        raise ValueError("a ranked study has no numbers to judge")
