"""Worlds for `metric_calls.py` in which the true accuracy of every prompt is known.

It needs the standard library alone, since the package gepa runs in an environment of its own.

A prompt is a first line and rules. A rule turns some rows right and some wrong, drawn once; of two rules that touch the
same row, the later line decides. What a prompt is worth is counted on `FRESH` rows that nobody is given.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

FIRST = "Answer."
FRESH = 4000
"""Rows by which the true accuracy is counted."""
INITIAL = 0.5
GOAL = 0.10
"""The true gain that is to be reached."""
SLIP = 0.1
"""In a noisy world: how often a right row is scored wrong, and a wrong one right, anew each time."""
RULE = re.compile(r"^Rule (\d+)\.$", re.MULTILINE)
WHOLE = re.compile(r"Answer\.(\nRule \d+\.)*")


@dataclass(frozen=True, slots=True)
class Kind:
    """A world but for its seed.

    Args:
        rate: Share of proposals that are useful.
        step: What a useful one would gain on the initial prompt, in accuracy, if it turned no row both ways; `worth`
            is what it gains.
        rows: Labelled rows, train and val together.
        noisy: Whether a score is a coin anew each time that it is measured.
    """

    rate: float = 0.2
    step: float = 0.12
    rows: int = 100
    noisy: bool = True

    @property
    def scale(self) -> float:
        """What a row that is right is worth in accuracy."""
        return 1 - 2 * SLIP if self.noisy else 1

    @property
    def up(self) -> float:
        """Share of the rows that a useful rule turns right; a tenth of the others it turns wrong."""
        return self.step / self.scale / INITIAL + 0.1

    @property
    def worth(self) -> float:
        """What a useful rule gains on the initial prompt, in accuracy."""
        return self.scale * (INITIAL * self.up - INITIAL * 0.1 * (1 - self.up))

    def __str__(self) -> str:
        noise = "noisy" if self.noisy else "exact"
        return f"{self.rate:.0%} gain +{100 * self.worth:.0f}, {self.rows} rows, {noise}"


KINDS = tuple(
    [Kind(rate=rate, noisy=noisy) for noisy in (True, False) for rate in (0.5, 0.2, 0.05)]
    + [Kind(step=step, noisy=noisy) for noisy in (True, False) for step in (0.06, 0.24)]
    + [Kind(rows=rows, noisy=noisy) for noisy in (True, False) for rows in (50, 300)]
)


class World:
    """What a metric and a proposer need.

    Args:
        kind: Of the world.
        seed: Of rules, rows and coins.
    """

    def __init__(self, kind: Kind, seed: int) -> None:
        self.kind, self.seed, self.calls, self.written = kind, seed, 0, 0
        self._size = kind.rows + FRESH
        self._start = self._rows("initial", INITIAL)
        self._fresh = ((1 << FRESH) - 1) << kind.rows
        self._rules: dict[int, tuple[int, int]] = {}
        self._right: dict[str, int] = {}
        self._times: dict[tuple[str, int], int] = {}
        words = random.Random(f"words {seed}")
        self.rows = [
            {"row": number, "question": "".join(words.choices("abcdefghijklmnopqrstuvwxyz ", k=60))}
            for number in range(kind.rows)
        ]

    def _rows(self, name: str, share: float) -> int:
        """A random set of rows, as bits."""
        draw = random.Random(f"{self.seed} {name}").random
        return int("".join("1" if draw() < share else "0" for _ in range(self._size)), 2)

    def _rule(self, number: int) -> tuple[int, int]:
        """The rows that a rule turns right, and those that it turns wrong."""
        if number not in self._rules:
            lot = random.Random(f"{self.seed} kind {number}").random()
            other = (lot - self.kind.rate) / (1 - self.kind.rate) if self.kind.rate < 1 else 0.0
            if lot < self.kind.rate:
                up, down = self.kind.up, 0.1
            elif other < 1 / 3:  # other words, and nothing else
                up, down = 0.0, 0.0
            elif other < 2 / 3:
                up, down = 0.1, 0.1
            else:
                up, down = 0.1, 0.3
            better = self._rows(f"better {number}", up)
            self._rules[number] = better, self._rows(f"worse {number}", down) & ~better
        return self._rules[number]

    def right(self, text: str) -> int:
        """The rows that a prompt answers right, as bits."""
        if text not in self._right:
            found = self._start
            for number in RULE.findall(text):
                better, worse = self._rule(int(number))
                found = (found | better) & ~worse
            self._right[text] = found
        return self._right[text]

    def truth(self, text: str) -> float:
        """True accuracy of a prompt."""
        share = (self.right(text) & self._fresh).bit_count() / FRESH
        return SLIP + self.kind.scale * share if self.kind.noisy else share

    def gain(self, text: str) -> float:
        """How much better than the initial prompt it truly is."""
        return self.truth(text) - self.truth(FIRST)

    def score(self, text: str, row: int) -> float:
        """One call of the metric."""
        self.calls += 1
        right = bool(self.right(text) >> row & 1)
        if not self.kind.noisy:
            return float(right)
        times = self._times[text, row] = self._times.get((text, row), 0) + 1
        slipped = random.Random(f"{self.seed} {text} {row} {times}").random() < SLIP
        return float(right != slipped)

    def child(self, text: str) -> str:
        """The proposer: the next rule, after the others. The n-th call gives the same rule, whoever calls."""
        self.written += 1
        return f"{text}\nRule {self.written}."


def shown(request: str) -> str:
    """The prompt that a request for a better one shows first."""
    match = WHOLE.search(request)
    assert match is not None, "the request shows no prompt"
    return match[0]
