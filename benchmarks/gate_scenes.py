"""Nights, the attack and the clock: what the gate's benchmark measures besides single runs."""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
from gate_ours import GOAL, Search, gate_of
from gate_worlds import World

from agent.gate import heldout, planning
from agent.gate.arena import Arena
from agent.gate.evidence import sign_test
from agent.gate.gate import Gate
from agent.gate.race import Race
from agent.goals import Goals

NIGHTS, PER_NIGHT, NIGHTLY = 30, 90, 2000
"""Runs on one gate set, proposals of each at most, and metric calls of each."""
GAIN = 0.2
QUERIES = 200


def night_after_night(n: int, seed: int, gains: bool) -> dict[str, float]:
    """Thirty runs on one gate set, each from what the one before released.

    Args:
        n: Rows.
        seed: Of the repetition.
        gains: From the second night on the first proposal of each night is better by .2, until it is released; then
            ten nights are enough.
    """
    nights = 10 if gains else NIGHTS
    world = World("null", n, seed, rounds=nights * PER_NIGHT)
    gate = gate_of(n, NIGHTLY)
    released, false, proven = world.initial, 0, 0
    for night in range(nights):
        numbers = range(night * PER_NIGHT, (night + 1) * PER_NIGHT)
        search = Search(world, gate, NIGHTLY, released)
        better = gains and night and not proven
        search.run(numbers, True, lambda number: GAIN if better and number == numbers[0] else None)  # noqa: B023
        false += search.false
        released = search.released
        if gains and not proven and released.mean > world.initial.mean + GAIN / 2:
            proven = night + 1
            break
    out = {"false": float(false > 0), "exams": float(len(gate.exams))}
    if gains:
        out |= {f"proven by night {by}": float(0 < proven <= by) for by in (2, 3, 5, 10)}
    return out


def attack(n: int, seed: int) -> dict[str, float]:
    """Boosting: many random programs, of which those that the gate's answer favours vote (Blum and Hardt, 2015).

    Every program is right on a row with probability one half, and so is the vote; what it seems to gain on the
    gate's rows is what the answers gave away.
    """
    rng = np.random.default_rng([seed, n])
    queries = rng.random((QUERIES, n)) < 0.5
    seed_program = rng.random(n) < 0.5
    means = queries.mean(axis=1)
    sigma = 0.45 / math.sqrt(n)
    out = {}
    answers = {"scores": means > 0.5}
    best, told = -1.0, []
    for query in queries:  # the Ladder tells a new best only when it is clearly better
        gain = query.mean() - best
        told.append(best < 0 or gain > query.std(ddof=1) / math.sqrt(n))
        best = query.mean() if told[-1] else best
    answers["Ladder"] = np.array(told)
    train = (rng.random((QUERIES, n)) < 0.5).mean(axis=1)
    over = np.abs(train - means) > 4 * sigma + rng.normal(0, sigma, QUERIES)
    answers["Thresholdout"] = np.where(over, means + rng.normal(0, sigma, QUERIES), train) > 0.5
    gate = Gate([str(i) for i in range(n)], GOAL, total=math.inf)
    answers["bits"] = np.array([asyncio.run(_ask(gate, query, seed_program, last=False)) for query in queries])
    for name, chosen in answers.items():
        voters = queries[chosen] if chosen.any() else queries
        vote = voters.mean(axis=0) + rng.normal(0, 1e-6, n) > 0.5
        out[f"{name}: gain"] = float(vote.mean()) - 0.5
        wins, losses = int((vote & ~seed_program).sum()), int((~vote & seed_program).sum())
        out[f"{name}: passes .05"] = float(sign_test(wins, losses) <= 0.05)
        if name == "bits":
            out["bits: accepted by the gate"] = float(asyncio.run(_ask(gate, vote, seed_program, last=True)))
    return out


async def _ask(gate: Gate, new: np.ndarray, old: np.ndarray, last: bool) -> bool:
    plan = planning.Plan(new.size, last, "sign", 1.0, 0.0, 0.1, 0.5, new.size, 0.5)
    return await gate.examine(plan, "new", "old", lambda name, row: float((new if name == "new" else old)[int(row)]))


def clock(repeats: int) -> Iterator[tuple[str, str, list[float]]]:
    """What, its target, and milliseconds of each repeat."""
    rng = random.Random(1)
    goals = Goals((GOAL,))
    new, old = ([{"score": float(rng.random() < p)} for _ in range(500)] for p in (0.6, 0.5))
    graded = [[{"score": rng.random() ** p} for _ in range(500)] for p in (0.8, 1.0)]
    names = [str(i) for i in range(500)]
    signs = planning.Plan(500, True, "sign", 1.0, 0.0, 0.1, 0.5, 500, 0.8)
    bets = planning.Plan(500, True, "betting", 1.0, 0.0, 0.1, 0.5, 500, 0.8)
    d = [n["score"] - o["score"] for n, o in zip(new, old, strict=True)]
    units = heldout.Units.of(goals, new, old, names)
    seen = planning.Seen.of(d)
    gate = gate_of(500, 4000)

    def verdict(plan: planning.Plan, a: list[dict[str, float]], b: list[dict[str, float]]) -> None:
        heldout.examine(goals, plan, 0.0375, "new", "old", a, b, names)

    yield "verdict, 500 scores of 0 or 1", "50", timed(repeats, lambda: verdict(signs, new, old))
    yield "verdict, 500 graded scores", "50", timed(repeats, lambda: verdict(bets, *graded))
    yield "exact sign test, 500 pairs", "2", timed(repeats, lambda: sign_test(150, 100))
    yield "interval, 500 pairs", "", timed(repeats, lambda: heldout.interval(units, 1.0, True))
    yield "plan of an exam", "", timed(repeats, lambda: gate.plan(d, left=4000, last=True))
    yield "size to hold back", "", timed(repeats, lambda: planning.reserve(seen, rows=500, total=4000, level=0.0375))
    yield "race on 150 pairs, one ruling", "0.2", timed(repeats, lambda: Race().update(d[:150], 200))
    yield "arena, one evaluation (race set of 150)", "0.2", [_arena(rng) for _ in range(repeats)]


def timed(repeats: int, what: Callable[[], object]) -> list[float]:
    """Milliseconds of each repeat; what is built once and kept is built before."""
    what()
    out = []
    for _ in range(repeats):
        begun = time.perf_counter()
        what()
        out.append((time.perf_counter() - begun) * 1e3)
    return out


def _arena(rng: random.Random) -> float:
    """Milliseconds for one evaluation: what to measure, its score, and the ruling; the mean over a whole race."""
    rows = [str(i) for i in range(500)]
    arena = Arena(rows, "old", rng.random(), 1e9, scale=1.0, race=Race(promote=math.inf, drop=-math.inf))
    arena.enter("new")
    begun, count = time.perf_counter(), 0
    while arena.ruling() is None and (wanted := arena.next(1)) is not None:
        arena.begin(*wanted[:2])
        arena.add(wanted[0], wanted[1], float(rng.random() < 0.5))
        count += 1
    return (time.perf_counter() - begun) / count * 1e3


def spread(values: list[float]) -> str:
    """Median, and the smallest and largest."""
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"
