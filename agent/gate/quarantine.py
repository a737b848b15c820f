"""Quarantine: a suspicious candidate is measured again, beside the champion and on fresh seeds, before it counts."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from agent.evaluation import Suspicious
from agent.events import CandidateSuspected
from agent.gate import race
from agent.gate.pairs import Pairs
from agent.gate.race import Race, Ruling
from agent.gate.suspicion import Suspicion, beyond_bound, jump, newly_internal, programs_of
from agent.history import AGAIN, History, Trial
from agent.problem import Problem
from agent.texts import Code

CONFIRM = "confirm"
"""Stage of its measurements; an evaluator of programs has other inputs for it."""
SECOND = (CONFIRM, AGAIN)
"""Stages of measurements that make up no score."""
FIRST = 1_000_000
"""Number of the first replicate and pair in quarantine; no other measurement has such a high one, nor its seed."""
KEPT = 0.5
"""Share of a jump that must be there again."""
COMPARED = 200
"""Scores, the newest, that say what is usual."""
RUNS = 3
"""Runs of a program before an exact claim about it, at the least."""
FALLEN = 4
"""Champions that may fall when they are to be claimed; after that nothing is claimed any more."""
CHECKS = 3
"""Checks before a claim that the search leaves evaluations for, where it has them."""
SHARE = 20
"""It leaves at most one of so many evaluations for them, but always enough for one check."""


class Measurement(NamedTuple):
    """What a quarantine wants to be measured: candidate, row of data (None for the whole), replicate, pair."""

    candidate: str
    row: str | None
    replicate: int
    pair: int


class Quarantine:
    """The repeated measurements of one suspect.

    Args:
        event: Says whom, beside whom and why.
        jumped: How much the suspect gained over the champion in the search, in the objective's unit.
        rows: What a candidate is measured on as a whole, where `event.rows` is empty.
        first: Replicates and pairs that were in quarantine before.
        shortest: Pairs before it is cleared, on a noisy problem without rows.
        longest: Pairs at which the majority decides there.
        held: What the suspect scored.
    """

    def __init__(
        self,
        event: CandidateSuspected,
        jumped: float,
        rows: Sequence[str | None],
        first: int,
        shortest: int,
        longest: int,
        held: Mapping[str, float] | None = None,
    ) -> None:
        self._held = held
        self.suspect, self.champion, self.reason = event.candidate, event.champion, event.reason
        self._jumped = jumped
        self._rows = list(rows)
        self._raced: list[str] = list(event.rows)
        self._alone: list[Mapping[str, float] | None] = []
        self.pairs = Pairs(event.candidate, event.champion, shortest, longest, FIRST + first)
        self.wanted: deque[Measurement] = deque()
        """What was not started yet."""
        if not self.champion:
            self.wanted.extend(Measurement(self.suspect, row, self.pairs.first, -1) for row in self._rows)
        elif self._raced:
            for row in self._raced:
                self._pair([row])
        else:
            self._more()

    @property
    def replicates(self) -> range:
        """Replicates that are its own."""
        return range(self.pairs.first, self.pairs.first + max(1, self.pairs.asked))

    @property
    def again(self) -> bool:
        """Whether nothing speaks against it."""
        return self.reason == AGAIN

    def _pair(self, rows: Sequence[str | None]) -> None:
        number = self.pairs.first + self.pairs.asked
        self.pairs.asked += 1
        # As in a race, alternating which goes first cancels a steady drift of the machine.
        both = (self.suspect, self.champion) if number % 2 == 0 else (self.champion, self.suspect)
        self.wanted.extend(Measurement(name, row, number, number) for name in both for row in rows)

    def _more(self) -> None:
        while self.pairs.asked < self.pairs.wanted:
            self._pair(self._rows)

    def add(self, candidate: str, pair: int, values: Mapping[str, float] | None) -> None:
        """A measurement came to its end; None where it failed."""
        if not self.champion:
            self._alone.append(values)
            return
        self.pairs.add(pair, candidate, values)
        if not self._raced:
            self._more()

    def ruling(self, problem: Problem, test: Race | None, scale: float = 1.0) -> Ruling:
        """ "promote" clears, "drop" convicts, "continue" waits.

        Args:
            problem: Objectives and constraints.
            test: The race's test on rows, where candidates are raced on rows.
            scale: What a difference on rows is divided by.
        """
        if not self.champion:
            if not self._alone:
                return Ruling("continue", "")
            if self.again:
                return self._same(problem)
            if self._alone[0] is None:
                return Ruling("drop", "failed again on fresh inputs")
            return Ruling("promote", "measured on fresh inputs without a sign of it")
        if self._raced:
            return self._on_rows(problem, test, scale)
        if any(both.get(self.suspect, both) is None for both in self.pairs.halves.values()):
            return Ruling("drop", "failed when it was measured again")
        found = self._exact(problem) if problem.exact else self.pairs.update(problem)
        return self._as_large(found) if found.decision == "promote" and self.reason == "jump" else found

    def _same(self, problem: Problem) -> Ruling:
        now, then = self._alone[0], self._held
        if now == then:
            return Ruling("promote", "the same once more")
        if now is None or then is None:
            return Ruling("drop", "failed when it was measured again")
        new, old = problem.compared(now), problem.compared(then)
        return Ruling("drop", f"measuring is deterministic, and it scored {old:.6g} and later {new:.6g}")

    def _exact(self, problem: Problem) -> Ruling:
        if not self.pairs.complete:
            return Ruling("continue", "")
        new, old = self.pairs.of(self.suspect)[0], self.pairs.of(self.champion)[0]
        assert new is not None
        return race.look(problem, new, old)

    def _on_rows(self, problem: Problem, test: Race | None, scale: float) -> Ruling:
        if self.pairs.complete < len(self._raced) or test is None:
            return Ruling("continue", "")
        new, old = (self._scores(problem, name) for name in (self.suspect, self.champion))
        gains = []
        for after, before in zip(new, old, strict=True):
            if after is None:
                return Ruling("drop", "failed when it was measured again")
            if before is not None:
                gains.append(min(1.0, max(-1.0, problem.objective.gain(after, before) / scale)))
        return test.update(gains, len(gains))

    def _scores(self, problem: Problem, name: str) -> list[float | None]:
        """On each row; where it failed, what a failure counts with."""
        values = self.pairs.of(name)
        return [problem.compared(item) if item is not None else problem.failure for item in values]

    def _as_large(self, found: Ruling) -> Ruling:
        gain = float(found.evidence.get("gain", math.inf))
        if gain >= KEPT * self._jumped:
            return found
        return Ruling("drop", f"the gain was {self._jumped:.4g}, and {gain:.4g} on fresh inputs", found.evidence)


def watches(problem: Problem, k: float) -> bool:
    """Whether a run has a quarantine: where a parameter is a program, unless `k` switches it off."""
    return k > 0 and _searches_programs(problem)


def confirms(problem: Problem) -> bool:
    """Whether an exact claim is measured again before it is made: where a parameter is a program, whatever `k` says.

    A program can roll dice or read a clock. That the problem is declared deterministic is no proof that it does not.
    """
    return problem.exact and _searches_programs(problem)


def runs(fallen: int) -> int:
    """How often a program is run before an exact claim about it, beside what the search measured.

    Whoever takes the place of a champion that fell has one run more, since the search may have run it once where it
    ran the champion twice, and two more for each that fell before: many that are lucky half of the time would else
    pass one after the other what one of them hardly passes.

    Args:
        fallen: Champions of this run that were not what they had been when they were to be claimed.
    """
    return RUNS + (1 + 2 * fallen if fallen else 0)


def _searches_programs(problem: Problem) -> bool:
    return any(isinstance(item, Code) for item in problem.space.values())


def refuse_impossible(problem: Problem, values: Mapping[str, float]) -> None:
    """Take no score that an objective's declared range excludes: a program that has one has found a trick.

    Raises:
        Suspicious: One lies outside it.
    """
    found = beyond_bound(values, {goal.name: (goal.low, goal.high) for goal in problem.objectives})
    if found:
        raise Suspicious(found[0].evidence)


def signs(problem: Problem, history: History, trial: Trial, k: float) -> Suspicion | None:
    """What is suspicious of a candidate that was measured, or failed; None where nothing is.

    Args:
        problem: With the evaluator's specification, whose modules are internals.
        history: What the others scored.
        trial: The candidate; the initial one is above suspicion.
        k: Deviations, see `jump`.
    """
    if trial.suspicion not in ("", "forgiven") or not trial.number:
        return None
    if trial.values is None:
        told = trial.failure.partition(": ")[2]  # without its kind
        return Suspicion(trial.sign, told) if trial.sign and not trial.suspicion else None
    names = str((problem.evaluator.spec or {}).get("target", "")).partition(":")[0].split(".")
    initial = history.trials[0].candidate
    found = newly_internal(
        programs_of(problem.space, trial.candidate), programs_of(problem.space, initial), filter(None, names)
    )
    if found is not None:
        return found
    newest = (t for t in reversed(history.trials) if t.values is not None and t.feasible and t.id != trial.id)
    earlier = [problem.compared(t.values or {}) for t in islice(newest, COMPARED)][::-1]
    return jump(earlier, problem.compared(trial.values), problem.objective.sign, k)
