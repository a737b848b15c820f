"""Does the gate keep its word? Planted worlds whose truth is known, through the public API.

Four questions: is a candidate that is no better claimed too often (A/A), is a true gain shown, is a
loss ever claimed, and does a mirrored problem give the mirrored answer. `agent.gate.owntest` asks
the same of a user's own evaluator.
"""

from __future__ import annotations

import asyncio
import math
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any

from agent.gate.gate import Gate
from agent.gate.race import Race
from agent.gate.verdict import Verdict
from agent.goals import Objective
from agent.parameters import Float

Optimize = Callable[..., Any]
Say = Callable[[str], None]

ALPHA = 0.05
TRAIN, HELD, CHALLENGERS, BATCH = 60, 100, 8, 5
DIFFERING = 0.3
"""Share of rows on which a candidate differs from the initial one in the made-up worlds."""
GAIN, LOSS, SMALL = 0.25, -0.2, 0.12
MOST = 0.8
"""Share of the worlds with a true gain in which it must be shown."""
INSTALL = "install the package again; if it stays, report it with this output: no claim can be trusted meanwhile"


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer.

    Args:
        name: Of the question.
        passed: Whether the answer is the right one.
        found: What was seen.
        meaning: What it means that it failed.
        fix: What to do then.
    """

    name: str
    passed: bool
    found: str
    meaning: str
    fix: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class World:
    """Scores of 0 and 1 whose true means are known.

    Args:
        seed: Of everything in it.
        gains: True gain of each challenger over the initial candidate, number 0, on rows that nobody trained on.
        heart: Whether challengers know the training rows by heart, so that they look better there.
    """

    def __init__(self, seed: int, gains: Sequence[float], heart: bool = False) -> None:
        self.seed, self.gains, self.heart = seed, (0.0, *gains), heart
        self.train = [f"train {i}" for i in range(TRAIN)]
        self.held = [f"held {i}" for i in range(HELD)]

    def score(self, candidate: int, row: str) -> float:
        """0 or 1; the same whenever it is asked for."""
        base = random.Random(f"{self.seed} {row}").random() < 0.5
        if candidate == 0:
            return float(base)
        gain = GAIN if self.heart and row.startswith("train") else self.gains[candidate]
        flip = DIFFERING - gain if base else DIFFERING + gain
        return float(base != (random.Random(f"{self.seed} {row} {candidate}").random() < flip))

    def champion(self, race: Race) -> int:
        """What the race makes of the challengers."""
        champion = 0
        for challenger in range(1, len(self.gains)):
            d: list[float] = []
            decision = "continue"
            while decision == "continue":
                rows = self.train[len(d) : len(d) + BATCH]
                d += [self.score(challenger, row) - self.score(champion, row) for row in rows]
                decision = race.update(d, TRAIN).decision
            champion = challenger if decision == "promote" else champion
        return champion

    async def verdict(self, make: type[Gate], race: Race, mirrored: bool = False) -> Verdict | None:
        """Search, then one exam; None when there is nothing to examine.

        Args:
            make: The gate.
            race: The race.
            mirrored: Whether scores are counted down from 1, and smaller ones are better.
        """
        goal = Objective("score", "minimize" if mirrored else "maximize", low=0, high=1)
        champion = self.champion(race)
        if champion == 0:
            return None
        gate = make(self.held, goal, total=4000, alpha=ALPHA)
        seen = [self.score(champion, row) - self.score(0, row) for row in self.train]
        plan = gate.plan(seen, left=1000, last=True)
        if plan is None:
            return None

        def measure(candidate: int, row: str) -> float:
            score = self.score(candidate, row)
            return 1 - score if mirrored else score

        bit = await gate.examine(plan, champion, 0, measure)
        return replace(gate.verdicts()[-1], accepted=bit)


def synthetic(
    optimize: Optimize, say: Say, *, gate: type[Gate] = Gate, race: Race | None = None, worlds: int = 400
) -> list[Check]:
    """The four questions on made-up worlds, and by whole runs. Takes well under a minute and costs nothing.

    Args:
        optimize: `agent.optimize`.
        say: Is told how far it is.
        gate: The gate to test.
        race: The race to test.
        worlds: For the question that needs most of them; the others take half as many.
    """
    chosen = race or Race()
    checks = asyncio.run(by_exams(gate, chosen, worlds, say))
    say("whole runs …")
    return [*checks, *by_runs(optimize)]


async def by_exams(gate: type[Gate], race: Race, worlds: int, say: Say) -> list[Check]:
    """The four questions to race and gate alone, in many made-up worlds."""
    say(f"candidates know the training rows by heart, and are no better on others: {worlds} worlds …")
    nothing = [0.0] * CHALLENGERS
    bits = [await _accepted(World(seed, [0.0], heart=True), gate, race) for seed in range(worlds)]
    rate, allowed = sum(bits) / worlds, ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / worlds)
    out = [
        Check(
            "A/A",
            rate <= allowed,
            f"a candidate that knew the training rows by heart was no better: claimed in {rate:.1%} of {worlds} worlds"
            f" (at most {allowed:.1%})",
            "gains that are not there are claimed more often than the level allows",
            INSTALL,
        )
    ]
    half = max(1, worlds // 2)
    say(f"one candidate is better: {half} worlds …")
    planted = [*nothing[: CHALLENGERS // 2], GAIN, *nothing[CHALLENGERS // 2 + 1 :]]
    shown = sum([await _accepted(World(1000 + seed, planted), gate, race) for seed in range(half)]) / half
    out.append(
        Check(
            "planted gain",
            shown >= MOST,
            f"one candidate was better by {GAIN:g}: shown in {shown:.0%} of {half} worlds (at least {MOST:.0%})",
            "true gains are missed: a run would end unproven although something better was found",
            INSTALL,
        )
    )
    say(f"candidates know the training rows by heart, and are worse on others: {half} worlds …")
    worse = sum([await _accepted(World(2000 + seed, [LOSS], heart=True), gate, race) for seed in range(half)])
    out.append(
        Check(
            "planted loss",
            worse == 0,
            f"a candidate that knew the training rows by heart was worse by {-LOSS:g}: claimed in {worse} of {half}"
            " worlds (in none)",
            "a worse candidate passes as a proven gain",
            INSTALL,
        )
    )
    say(f"mirrored worlds: {half} …")
    odd = sum([not await _mirrored(World(3000 + seed, [SMALL]), gate, race) for seed in range(half)])
    out.append(
        Check(
            "polarity",
            odd == 0,
            f"smaller is better gave the mirrored verdict of larger is better in {half - odd} of {half} worlds (in"
            " all)",
            "better and worse are confused for one of the two directions",
            INSTALL,
        )
    )
    return out


async def _accepted(world: World, gate: type[Gate], race: Race) -> bool:
    verdict = await world.verdict(gate, race)
    return verdict is not None and verdict.accepted


async def _mirrored(world: World, gate: type[Gate], race: Race) -> bool:
    one, two = await world.verdict(gate, race), await world.verdict(gate, race, mirrored=True)
    if one is None or two is None:
        return one is two
    truth = [world.score(1, row) - world.score(0, row) for row in world.held[: one.pairs]]
    effect = math.fsum(truth) / len(truth)
    return one.accepted == two.accepted and one.p == two.p and _close(one.effect, effect) and _close(two.effect, effect)


def _close(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


# Whole runs.

ROWS = [{"id": f"r{i}", "text": sha256(f"row {i}".encode()).hexdigest()} for i in range(160)]
BUDGET = 400


def _luck(*what: Any) -> float:
    return random.Random(" ".join(map(str, what))).random()


def _skilled(candidate: Any, row: Any) -> float:
    """The best x is 0.7; a row is answered when it is easier than the candidate is good."""
    return float(_luck(row["id"]) < 0.85 - 0.6 * abs(candidate["x"] - 0.7))


def by_runs(optimize: Optimize) -> list[Check]:
    """The four questions to whole runs."""

    def run(evaluate: Callable[[Any, Any], float], x: float, direction: str = "maximize", seed: int = 0) -> Any:
        with tempfile.TemporaryDirectory(prefix="truegain-") as runs:  # a folder each: no run knows of another's rows
            return optimize(
                evaluate,
                space={"x": Float(0, 1, default=x)},
                data=ROWS,
                objectives=[Objective("score", direction, low=0, high=1)],  # type: ignore[arg-type]
                model=None,
                budget=BUDGET,
                seed=seed,
                deterministic=True,
                runs=runs,
                name="selftest",
            )

    def chance(candidate: Any, row: Any) -> float:
        return float(_luck(candidate["x"], row["id"]) < 0.5)

    lucky = [run(chance, 0.5, seed=seed) for seed in range(3)]
    same = run(lambda candidate, row: float(_luck(row["id"]) < 0.5), 0.5)
    gain, loss = run(_skilled, 0.1), run(_skilled, 0.7)
    mirror = run(lambda candidate, row: 1 - _skilled(candidate, row), 0.1, "minimize")
    claimed = sum(result.status == "proven" for result in lucky)
    mirrored = (gain.status, dict(gain.best)) == (mirror.status, dict(mirror.best)) and _close(
        *(result.verdict["effect"] if result.verdict else None for result in (gain, mirror))
    )
    return [
        Check(
            "A/A, whole runs",
            claimed <= 1 and same.status == "initial",
            f"scores were luck: {claimed} of 3 runs claimed a gain (at most 1); all candidates the same: {same.status}"
            " (initial)",
            "a run claims gains that are not there",
            INSTALL,
        ),
        Check(
            "planted gain, whole run",
            gain.status == "proven" and abs(gain.best["x"] - 0.7) < abs(0.1 - 0.7),
            f"the best x is 0.7: from 0.1 the run went to {gain.best['x']:.3g}, {gain.status} (proven)",
            "a run misses a large gain, or moves away from it",
            INSTALL,
        ),
        Check(
            "planted loss, whole run",
            loss.status in ("initial", "unproven") and loss.released == loss.initial,
            f"the initial candidate was the best one: {loss.status} (not proven)",
            "a run releases a candidate that is worse",
            INSTALL,
        ),
        Check(
            "polarity, whole run",
            mirrored,
            f"larger is better: x = {gain.best['x']:.3g}, {gain.status}; mirrored: x = {mirror.best['x']:.3g},"
            f" {mirror.status} (the same)",
            "a run goes the wrong way for one of the two directions",
            INSTALL,
        ),
    ]
