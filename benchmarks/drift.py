"""Does the drift report keep quiet on quiet nights, and how soon does it see a change?

    python benchmarks/drift.py quiet      # false alarms over simulated nights on which nothing changed
    python benchmarks/drift.py planted    # changes of 5, 10 and 20 % of the range

Each night goes through what `truegain batch` uses, `agent.batch.drift.scores`, with the same rule for the
reference: all earlier nights since the last drift.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.batch.drift import Row, scores
from agent.goals import Objective

RESULTS = Path(__file__).parent / "results"
GOAL = Objective("score", "maximize")
STREAM = 30
"""Nights of one candidate that are tested; a night before them has nothing to compare with."""

Array = npt.NDArray[np.float64]
World = Callable[[np.random.Generator, int], Callable[[float], Array]]
"""From the number of rows to a night's scores under a loss of so much; NaN is a failure."""


def binary(rng: np.random.Generator, rows: int) -> Callable[[float], Array]:
    skill = rng.beta(2, 1, rows)  # rows differ: some are nearly always right
    return lambda loss: (rng.random(rows) < skill - loss).astype(float)


def gaussian(rng: np.random.Generator, rows: int) -> Callable[[float], Array]:
    centre = rng.uniform(0.2, 0.8, rows)
    return lambda loss: centre - loss + rng.normal(0, 0.1, rows)


def uneven(rng: np.random.Generator, rows: int) -> Callable[[float], Array]:
    centre, spread = rng.uniform(0.2, 0.8, rows), rng.exponential(0.1, rows)  # some rows are noisy, most are not
    return lambda loss: centre - loss + rng.normal(0, 1, rows) * spread


def heavy(rng: np.random.Generator, rows: int) -> Callable[[float], Array]:
    centre = rng.uniform(0.2, 0.8, rows)
    return lambda loss: centre - loss + 0.05 * rng.standard_t(1.5, rows)  # its variance is infinite


def skewed(rng: np.random.Generator, rows: int) -> Callable[[float], Array]:
    centre = rng.uniform(0.2, 0.8, rows)  # times: never much less than the least, sometimes far more
    return lambda loss: centre - loss + 0.1 * rng.lognormal(0, 1, rows)


def signs(rng: np.random.Generator, rows: int) -> Callable[[float], Array]:
    skill = rng.beta(1, 2, rows)  # +1 or -1, of a range of 2
    return lambda loss: np.where(rng.random(rows) < skill - loss, 1.0, -1.0)


def failing(rng: np.random.Generator, rows: int) -> Callable[[float], Array]:
    quiet = binary(rng, rows)
    return lambda loss: np.where(rng.random(rows) < 0.1, np.nan, quiet(loss))


WORLDS: dict[str, World] = {item.__name__: item for item in (binary, gaussian, uneven, heavy, skewed, signs, failing)}


def nights(world: World, rows: int, seed: int, losses: list[float]) -> Iterator[tuple[int, float, bool, float, float]]:
    """Night after night: its number, p of the scores, whether it is a drift, and the interval's ends."""
    rng = np.random.default_rng(seed)
    draw = world(rng, rows)
    known: list[Array] = []
    for number, loss in enumerate(losses):
        tonight = draw(loss)
        table = [Row(str(i), _score(tonight[i]), tuple(_score(night[i]) for night in known)) for i in range(rows)]
        found = scores(table, GOAL, deterministic=False, night=str(number), seed=seed * 1000 + number)
        if found.drift is not None:
            known = []
        known.append(tonight)
        if found.found is not None and number:
            yield number, found.found.p, found.drift is not None, *found.found.interval


def _score(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def quiet(total: int, rows: list[int], seed: int) -> list[dict[str, object]]:
    out = []
    for name, world in WORLDS.items():
        for count in rows:
            found = [
                night
                for stream in range(-(-total // STREAM))
                for night in nights(world, count, seed + stream, [0.0] * (STREAM + 1))
            ]
            p = np.array([night[1] for night in found])
            row = {
                "noise": name,
                "rows": count,
                "nights": len(found),
                "alarms": sum(night[2] for night in found),
                "p_0.05": round(float(np.mean(p <= 0.05)), 4),
                "p_0.01": round(float(np.mean(p <= 0.01)), 4),
                "covered": round(float(np.mean([night[3] <= 0 <= night[4] for night in found])), 4),
            }
            print(row, flush=True)
            out.append(row)
    return out


def planted(repeats: int, seed: int, after: int = 5) -> list[dict[str, object]]:
    """A loss begins on a night; how many are seen that night, and within five, and how many nights too early."""
    out = []
    for name in ("binary", "gaussian", "heavy"):
        for count in (20, 40, 100):
            for before in (1, 10, 30):
                for loss in (0.05, 0.10, 0.20):
                    first, covered = [], []
                    for repeat in range(repeats):
                        seen = None
                        losses = [0.0] * before + [loss] * after
                        # What comes before the change is `quiet`, and is not tested again here.
                        for night, drift, low, high in _from(WORLDS[name], count, seed + repeat, losses, before):
                            if night == before and name != "binary":
                                covered.append(low <= -loss <= high)
                            if drift:
                                seen = night - before
                                break
                        first.append(seen)
                    row = {
                        "noise": name,
                        "rows": count,
                        "nights_before": before,
                        "loss": loss,
                        "same_night": round(sum(night == 0 for night in first) / repeats, 3),
                        "within_5": round(sum(night is not None for night in first) / repeats, 3),
                        "covered": round(float(np.mean(covered)), 3) if covered else "",
                    }
                    print(row, flush=True)
                    out.append(row)
    return out


def _from(
    world: World, rows: int, seed: int, losses: list[float], before: int
) -> Iterator[tuple[int, bool, float, float]]:
    rng = np.random.default_rng(seed)
    draw = world(rng, rows)
    known = [draw(loss) for loss in losses[:before]]
    for number, loss in enumerate(losses[before:], before):
        tonight = draw(loss)
        table = [Row(str(i), _score(tonight[i]), tuple(_score(night[i]) for night in known)) for i in range(rows)]
        found = scores(table, GOAL, deterministic=False, night=str(number), seed=seed * 1000 + number)
        known.append(tonight)
        assert found.found is not None
        yield number, found.drift is not None, *found.found.interval


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["quiet", "planted"])
    parser.add_argument("--nights", type=int, default=2010, help="quiet nights of each kind")
    parser.add_argument("--rows", type=int, nargs="+", default=[40], help="of the quiet nights")
    parser.add_argument("--repeats", type=int, default=60, help="planted changes of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    table = quiet(given.nights, given.rows, given.seed) if given.what == "quiet" else planted(given.repeats, given.seed)
    path = given.out or RESULTS / f"drift-{given.what}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    main()
