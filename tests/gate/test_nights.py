"""A schedule that runs every night on the same rows: it rarely claims what is not there, and still proves what is."""

from __future__ import annotations

import math
import random
from pathlib import Path

from agent import Gate, Objective
from agent.gate.accounts import Accounts
from agent.gate.levels import level, power
from agent.problem import Example

GOAL = Objective("score", "maximize", low=0, high=1)
ROWS = 100
NIGHTS = 30


def null(rng: random.Random) -> list[tuple[float, float]]:
    """Two programs of equal quality that differ on a quarter of the rows."""
    return [(float(u < 0.125), float(0.125 <= u < 0.25)) for u in (rng.random() for _ in range(ROWS))]


def better(rng: random.Random) -> list[tuple[float, float]]:
    """One is right on 22.5 % of the rows where the other is wrong, and wrong on 2.5 %: a gain of .2."""
    return [(float(u < 0.225), float(0.225 <= u < 0.25)) for u in (rng.random() for _ in range(ROWS))]


async def examined(gate: Gate, pairs: list[tuple[float, float]]) -> bool | None:
    """One night's exam; None when the gate sees that it could not show anything."""
    plan = gate.plan([1.0] * 30 + [-1.0] * 10 + [0.0] * 60, left=2 * ROWS, last=True)
    if plan is None:
        return None
    return await gate.examine(plan, "new", "old", lambda side, row: pairs[int(row)][side == "old"])


async def test_thirty_null_nights_claim_no_more_often_than_the_level() -> None:
    rng, worlds, wrong = random.Random(1), 80, 0
    for _ in range(worlds):
        gate = Gate([str(n) for n in range(ROWS)], GOAL, total=1000)
        fixed = null(rng)  # the same rows every night: what is proposed inherits most of what was there
        nights = [
            [pair if rng.random() < 0.9 else fresh for pair, fresh in zip(fixed, null(rng), strict=True)]
            for _ in range(NIGHTS)
        ]
        wrong += any([await examined(gate, pairs) for pairs in nights])
    assert wrong / worlds <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / worlds)


async def test_a_gain_that_appears_on_the_second_night_is_still_proven() -> None:
    # On a hundred rows an exam at the second night's level shows this gain in 95 of 100 cases.
    rng, worlds, proven = random.Random(2), 100, 0
    assert 0.9 < power(ROWS, 0.2, 0.25, level(0.05, accepts=0, tests=1, run=2, taken=0, last=True)) < 0.97
    for _ in range(worlds):
        gate = Gate([str(n) for n in range(ROWS)], GOAL, total=1000)
        await examined(gate, null(rng))  # the first night has nothing better
        proven += bool(await examined(gate, better(rng)))
    assert proven / worlds > 0.85


def test_the_accounts_of_thirty_nights_sum_to_less_than_alpha_and_do_not_die(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    words = random.Random(3)
    rows = [Example(str(n), {"text": " ".join(str(words.getrandbits(40)) for _ in range(8))}) for n in range(ROWS)]
    levels = []
    for night in range(1, NIGHTS + 1):
        begun = accounts.begin(run=f"night {night}", exam=1, rows=rows, alpha=0.05, last=True, planned=ROWS)
        assert begun.number_of_run == night and begun.tests == night - 1
        assert begun.level == level(0.05, accepts=0, tests=night - 1, run=night, taken=0, last=True)
        accounts.end(run=f"night {night}", exam=1, accepted=False, note={})
        levels.append(begun.level)
    assert sum(levels) < 0.05 and levels == sorted(levels, reverse=True)
    assert levels[1] > 0.003, "the second night can still show a gain of .2 on a hundred rows"
