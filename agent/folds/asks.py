"""What is wanted of the evaluator and was not started yet, in the order in which it will be."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from agent.gate.pairs import Pairs

NOISE = "noise"
"""Stage of the measurements that compare the initial candidate with itself."""
REPEATED, COMPARED = 3, 10
"""Rows that are measured twice at the start: to refute that measuring is deterministic, and to learn the noise."""


class Ask(NamedTuple):
    """A request that is wanted and was not started yet."""

    candidate: str
    example: str | None
    replicate: int
    pair: int
    purpose: str
    stage: str = "full"
    fidelity: float = 1.0
    key: str = ""
    """What its seed depends on, where that is not its pair or replicate."""


class Asks:
    """Two queues: races, exams and reports go before first looks.

    Args:
        rows: What a candidate is measured on as a whole; [None] where it is measured once, or row by row.
    """

    def __init__(self, rows: Sequence[str | None]) -> None:
        self.rows = rows
        self.urgent: deque[Ask] = deque()
        self.later: deque[Ask] = deque()
        self.next_pair = 0
        self._replicates: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self.urgent or self.later)

    @property
    def first(self) -> Ask | None:
        """What is to be started next."""
        queue = self.urgent or self.later
        return queue[0] if queue else None

    def started(self) -> None:
        """The first one was."""
        (self.urgent or self.later).popleft()

    def clear(self) -> None:
        """Nothing of it is wanted any more."""
        self.urgent.clear()
        self.later.clear()

    def candidate(self, candidate: str, pair: int = -1, purpose: str = "search") -> None:
        """A new replicate of a candidate, on all rows."""
        replicate = self._replicates.get(candidate, 0)
        self._replicates[candidate] = replicate + 1
        queue = self.later if pair < 0 else self.urgent
        queue.extend(Ask(candidate, row, replicate, pair, purpose) for row in self.rows)

    def rung(self, candidate: str, fidelity: float, climbs: bool) -> None:
        """A candidate on all rows with a share of the effort; who goes up a rung goes before those that begin.

        All rungs of a candidate are one replicate with one seed, so that an evaluator may go on from where it was.
        """
        asks = [Ask(candidate, row, 0, -1, "search", fidelity=fidelity) for row in self.rows]
        self._replicates.setdefault(candidate, 1)
        if climbs:
            self.later.extendleft(reversed(asks))
        else:
            self.later.extend(asks)

    def pair(self, race: Pairs, purpose: str) -> None:
        """A new replicate of both halves of a pair."""
        pair = self.next_pair
        self.next_pair += 1
        race.asked += 1
        for candidate in _halves(race, pair):
            self.candidate(candidate, pair, purpose)

    def noise(self, initial: str, rows: Iterable[str | None], replicates: Sequence[int]) -> None:
        """The initial candidate once more on some rows, to compare it with itself."""
        wanted = list(rows)
        for replicate in replicates:
            self.later.extend(Ask(initial, row, replicate, -1, "search", NOISE) for row in wanted)

    def exam(
        self, pairs: Pairs, rows: Iterable[str], replicate: int, known: Container[tuple[str, str]]
    ) -> list[tuple[int, str, str]]:
        """Both candidates of an exam on each of its rows.

        Args:
            pairs: Numbered already.
            rows: In the planned order.
            replicate: New for each exam.
            known: Candidates and rows that need no measuring again.

        Returns:
            The known ones: pair, candidate, row.
        """
        there = []
        for number, row in zip(pairs.numbers, rows, strict=False):
            for candidate in _halves(pairs, number):
                if (candidate, row) in known:
                    there.append((number, candidate, row))
                else:
                    self.urgent.append(Ask(candidate, row, replicate, number, "gate"))
        return there

    def report(self, candidates: Sequence[str], rows: Iterable[str]) -> None:
        """Each candidate on each test row."""
        for row in rows:
            self.urgent.extend(Ask(candidate, row, 0, -1, "report") for candidate in candidates)


def _halves(race: Pairs, pair: int) -> tuple[str, str]:
    # Alternating which half goes first cancels a steady drift of the machine.
    return (race.challenger, race.champion) if pair % 2 == 0 else (race.champion, race.challenger)
