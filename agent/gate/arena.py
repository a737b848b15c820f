"""The race on rows: several challengers against the champion, each on the rows of a race set.

Used where a candidate is measured on single rows of data. The arena decides which candidate is
measured on which row next and what the results mean for the search; it claims nothing, so it may
look as often as it likes and stop at any time.

The race set is a random part of the training rows. A larger one would cost more measurements of new
champions than it gains; the other rows wait until the champion has outlived many challengers, whose
long series of comparisons on the same rows tends to favour a lucky one.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from agent.gate.planning import Seen
from agent.gate.race import Race, Ruling
from agent.problem import Problem

SMALLEST_SET, LARGEST_SET = 40, 150
"""Bounds of the race set's size; between them it is a thirtieth of the budget."""
OUTLIVED = 30
"""Challengers that the champion beats in a row before its scores are renewed."""
RENEWED = 20
"""Rows on which a champion is measured again when there are no fresh rows for a new race set."""
FEWEST = 15
"""Rows that must remain when those that a proposer has read are left out. With fewer, rows from outside the race set
are added; where there are none of them either, all of the race set is used, and only an exam tells."""


@dataclass(slots=True)
class Lane:
    """One challenger's way through the race set."""

    challenger: str
    order: list[str]
    anchors: list[str] = field(default_factory=list)
    """Rows that must be measured before a promotion, once the pairs speak for it."""
    won: bool = False
    """Whether the pairs spoke for it, so that the anchors are measured."""
    dirty: bool = True
    """Whether something changed since the last ruling."""


class Arena:
    """Races on rows. All methods are cheap; nothing here waits.

    Args:
        rows: Ids of the training rows.
        champion: Candidate id of the first champion.
        seed: Of the orders in which rows are measured.
        budget: Evaluations that the run may make; the race set is a thirtieth of it.
        sign: +1 when larger scores are better, -1 when smaller ones are.
        scale: Range of a score; None means that it is learned from the scores.
        anchors: Rows on which no champion may do worse than the one before.
        repeatable: Whether measuring a row again can give another score.
        race: The sequential test.
    """

    def __init__(
        self,
        rows: Sequence[str],
        champion: str,
        seed: object,
        budget: float,
        sign: int = 1,
        scale: float | None = None,
        anchors: Iterable[str] = (),
        repeatable: bool = True,
        race: Race | None = None,
    ) -> None:
        self.rows = tuple(rows)
        self.champion = champion
        self.path = [champion]
        """All champions, in order."""
        self.seed = seed
        self.sign = sign
        self.anchors = tuple(anchors)
        self.repeatable = repeatable
        self.race = race or Race()
        self.cap = int(min(max(budget / 30, SMALLEST_SET), LARGEST_SET, len(self.rows)))
        self.scores: dict[str, dict[str, float]] = {champion: {}}
        """By candidate and row: the mean of its measurements."""
        self.lanes: dict[str, Lane] = {}
        self.outlived = 0
        self.sets = 0
        self._scale = scale
        self._span = [0.0, 0.0]
        self._kinds: set[float] = set()
        """Different scores of single measurements; three of them are enough to know that scores are graded."""
        self._counts: dict[tuple[str, str], int] = {}
        self._flight: set[tuple[str, str]] = set()
        self._made: dict[str, tuple[frozenset[str], tuple[str, ...]]] = {}
        self._again: list[str] = []
        self._used: set[str] = set()
        self._draw()

    @classmethod
    def of(cls, problem: Problem, initial: str, seed: object, budget: float, race: Race) -> Arena:
        """The arena of a problem, for its training rows."""
        bounds, train = problem.bounds, problem.split("train")
        return cls(
            [example.id for example in train],
            initial,
            seed,
            budget,
            sign=problem.objective.sign,
            scale=bounds[1] - bounds[0] if bounds is not None else None,
            anchors=[example.id for example in train if example.anchor],
            repeatable=not problem.deterministic,
            race=race,
        )

    @property
    def scale(self) -> float:
        """What a difference of scores is divided by, so that it lies in [-1, 1]."""
        if self._scale is not None:
            return self._scale
        return max(self._span[1] - self._span[0], 1e-12)

    @property
    def worst(self) -> float:
        """The worst score so far; what a failure counts with where nothing is declared."""
        return self._span[0] if self.sign > 0 else self._span[1]

    def _draw(self) -> None:
        """A new race set, of rows that were in none before as far as there are any."""
        self.sets += 1
        rng = random.Random(f"{self.seed} race set {self.sets}")
        fresh = [row for row in self.rows if row not in self._used]
        chosen = rng.sample(fresh, min(self.cap, len(fresh)))
        old = [row for row in self.rows if row in self._used]
        chosen += rng.sample(old, self.cap - len(chosen))
        self._used.update(chosen)
        self.race_set = tuple(chosen)

    def enter(self, challenger: str, read: Iterable[str] = (), parents: Iterable[str] = ()) -> None:
        """A new challenger begins its race, in a fresh order of the rows.

        What was read can be learned by heart, so rows that were read for the challenger and not for the
        champion say nothing. What the champion's own line has learned, the challenger inherits: such
        rows favour neither, and leaving them out would soon leave few.

        Args:
            challenger: Candidate id.
            read: Rows whose content was read when it was made.
            parents: Candidates that it was made from; what was read for them counts as well, up to where its line
                left the champion's.
        """
        self._made[challenger] = frozenset(read), tuple(parents)
        shared = self._line(self.champion, frozenset())
        known = frozenset().union(*(self._made[name][0] for name in self._line(challenger, shared)))
        rng = random.Random(f"{self.seed} {challenger}")
        order = [row for row in self.race_set if row not in known]
        if len(order) < FEWEST:
            inside = set(self.race_set)
            others = [row for row in self.rows if row not in known and row not in inside]
            order += rng.sample(others, min(len(others), FEWEST - len(order)))
        if len(order) < min(FEWEST, len(self.race_set)):
            order = list(self.race_set)
        rng.shuffle(order)
        self.scores.setdefault(challenger, {})
        self.lanes[challenger] = Lane(challenger, order, list(self.anchors))

    def _line(self, candidate: str, without: Set[str]) -> set[str]:
        """A candidate and all that it was made from, as far as they entered; `without` ends a line."""
        found: set[str] = set()
        ahead = [candidate]
        while ahead:
            name = ahead.pop()
            if name in self._made and name not in found and name not in without:
                found.add(name)
                ahead.extend(self._made[name][1])
        return found

    # What to measure.

    @property
    def waiting(self) -> int:
        """Challengers that were not measured on any row yet."""
        return sum(not self.scores[name] and not self._flying(name) for name in self.lanes)

    @property
    def ahead(self) -> int:
        """Measurements that the open races would still take if none of them ended early."""
        wanted = {
            (name, row)
            for lane in self.lanes.values()
            for row in (lane.anchors if lane.won else lane.order)
            for name in (lane.challenger, self.champion)
            if row not in self.scores[name]
        }
        return len(wanted - self._flight)

    def _flying(self, candidate: str) -> bool:
        return any(name == candidate for name, _ in self._flight)

    def next(self, slots: int) -> tuple[str, str, int] | None:
        """The candidate, row and replicate to measure next; None when nothing is wanted.

        Args:
            slots: Measurements that may be in flight at once. The oldest races come first; they ask ahead of
                their results only as far as slots would stand idle otherwise.
        """
        if self._again:
            row = self._again[0]
            return self.champion, row, self._counts.get((self.champion, row), 0)
        lanes = list(self.lanes.values())[:slots]
        ahead = -(-slots // len(lanes)) if lanes else 0
        for lane in lanes:
            found = self._next(lane, ahead)
            if found is not None:
                return found
        return None

    def _next(self, lane: Lane, ahead: int) -> tuple[str, str, int] | None:
        new, old = self.scores[lane.challenger], self.scores[self.champion]
        unfinished = 0
        for row in lane.anchors if lane.won else lane.order:
            if row in new and row in old:
                continue
            unfinished += 1
            if unfinished > ahead:
                return None
            for candidate, known in ((lane.challenger, new), (self.champion, old)):
                if row not in known and (candidate, row) not in self._flight:
                    return candidate, row, 0
        return None

    def begin(self, candidate: str, row: str) -> None:
        """A measurement was started."""
        self._flight.add((candidate, row))
        if self._again and candidate == self.champion and row == self._again[0]:
            self._again.pop(0)

    def add(self, candidate: str, row: str, score: float) -> None:
        """A measurement gave a score; a failed one counts with the score of a failure."""
        self._flight.discard((candidate, row))
        scores = self.scores.setdefault(candidate, {})
        count = self._counts.get((candidate, row), 0)
        scores[row] = (scores.get(row, 0.0) * count + score) / (count + 1)
        self._counts[candidate, row] = count + 1
        if len(self._counts) == 1:
            self._span = [score, score]
        self._span = [min(self._span[0], score), max(self._span[1], score)]
        if len(self._kinds) < 3:
            self._kinds.add(score)
        for lane in self.lanes.values():
            if candidate in (lane.challenger, self.champion):
                lane.dirty = True

    # What it means.

    def differences(self, new: str, old: str, rows: Iterable[str] | None = None) -> list[float]:
        """How much better `new` scored than `old` on each row that both were measured on, in [-1, 1]."""
        after, before, scale = self.scores.get(new, {}), self.scores.get(old, {}), self.scale
        shared = [row for row in (self.rows if rows is None else rows) if row in after and row in before]
        return [min(1.0, max(-1.0, self.sign * (after[row] - before[row]) / scale)) for row in shared]

    def raced(self, challenger: str) -> list[str]:
        """The rows of its race that both a challenger and the champion were measured on."""
        new, old = self.scores[challenger], self.scores[self.champion]
        return [row for row in self.lanes[challenger].order if row in new and row in old]

    @property
    def ends(self) -> bool:
        """Whether every single measurement was at one end of the scores' range."""
        wide = abs(self._span[1] - self._span[0] - self.scale) <= 1e-9 * self.scale
        return len(self._kinds) == 1 or (len(self._kinds) == 2 and wide)

    def seen(self, new: str, old: str) -> Seen:
        """What is known of two champions: from common rows, or step by step where the race set changed in between."""
        direct = self.differences(new, old)
        ends = self.ends if self._kinds else None  # scores filled in from outside tell nothing
        if len(direct) >= min(FEWEST, len(self.race_set)) or old not in self.path or new not in self.path:
            return Seen.of(direct, ends)
        steps = self.path[self.path.index(old) : self.path.index(new) + 1]
        return Seen.chain([Seen.of(self.differences(b, a), ends) for a, b in itertools.pairwise(steps)])

    def ruling(self) -> tuple[str, Ruling] | None:
        """The first race that is decided, and how; None while all go on."""
        for lane in self.lanes.values():
            if lane.dirty:
                ruling = self._rule(lane)
                if ruling.decision != "continue":
                    return lane.challenger, ruling
                lane.dirty = False
        return None

    def _rule(self, lane: Lane) -> Ruling:
        differences = self.differences(lane.challenger, self.champion, lane.order)
        ruling = self.race.update(differences, len(lane.order))
        if ruling.decision == "drop" or (ruling.decision == "continue" and not lane.won):
            return ruling
        lane.won = True
        new, old = self.scores[lane.challenger], self.scores[self.champion]
        for row in lane.anchors:
            if row not in new or row not in old:
                return Ruling("continue", "the anchors are measured")
            if self.sign * (new[row] - old[row]) < 0:
                return Ruling("drop", f"does worse on the anchor {row}: {new[row]:.4g} against {old[row]:.4g}")
        return Ruling("promote", ruling.reason, ruling.evidence)

    def decided(self, challenger: str, promoted: bool) -> None:
        """A race is over. After a promotion the others go on against the new champion, on the rows both know."""
        del self.lanes[challenger]
        if promoted:
            self.champion = challenger
            self.path.append(challenger)
            self.outlived = 0
            self._again.clear()
            for lane in self.lanes.values():
                lane.dirty, lane.won = True, False
            return
        self.outlived += 1
        if self.outlived % OUTLIVED == 0:
            self._renew()

    def _renew(self) -> None:
        if len(self._used) < len(self.rows):
            self._draw()
        elif self.repeatable:
            rng = random.Random(f"{self.seed} again {self.champion} {self.outlived}")
            known = [row for row in self.race_set if row in self.scores[self.champion]]
            self._again = rng.sample(known, min(RENEWED, len(known)))

    def forget(self, candidates: Iterable[str]) -> None:
        """Drop the scores of candidates that nothing will be compared with again."""
        for candidate in candidates:
            if candidate != self.champion and candidate not in self.lanes:
                self.scores.pop(candidate, None)

    def means(self) -> Mapping[str, float]:
        """Mean score by candidate, over the rows that it was measured on."""
        return {name: sum(rows.values()) / len(rows) for name, rows in self.scores.items() if rows}
