"""A stream of linear systems, solved one after the other with the omega that a bandit chooses.

    python examples/relax/stream.py [--systems 2000] [--seed 0] [--json] [--plot out.svg]

After Khodak et al. 2024, "Learning to Relax" (arXiv 2310.02246). A method sees the shift of the next system at
most, chooses one omega of the grid, and learns the number of iterations that this one took. Each system is solved
with every omega of the grid once, for the rows that need hindsight; the bandits read one entry of that table.
"""

import argparse
import json
import random

import numpy as np
from sor import CAP, SHIFTS, SIZE, instances, iterations, place, young

from agent.bandits import InverseGap, TsallisINF, chebyshev

GRID = tuple(round(1.0 + 0.1 * k, 1) for k in range(10))
"""The arms."""
DEGREE = 4
"""Of the Chebyshev features of the shift's place."""


def tsallis_inf(table, shifts, seed):
    """The bandit that sees no shift: the grid's best omega for all."""
    bandit, rng = TsallisINF(len(GRID)), random.Random(f"tsallis {seed}")
    out = []
    for costs in table:
        arm = bandit.draw(rng)
        bandit.update(arm, costs[arm] / CAP)
        out.append(costs[arm])
    return out


def contextual(table, shifts, seed):
    """The bandit that sees the shift: each system's best omega."""
    bandit, rng = InverseGap(len(GRID), DEGREE + 1, scale=100.0), random.Random(f"contextual {seed}")
    out = []
    for costs, shift in zip(table, shifts, strict=True):
        features = chebyshev(place(shift), DEGREE)
        arm = bandit.draw(features, rng)
        bandit.update(features, arm, costs[arm] / CAP)
        out.append(costs[arm])
    return out


def run(systems, seed, size=SIZE):
    """Iterations of every system by method, and what the hindsight was."""
    stream = instances(systems, seed)
    shifts = [shift for shift, _ in stream]
    known = [iterations(shift, b, [*GRID, young(shift, size)], size) for shift, b in stream]
    table = [row[:-1].tolist() for row in known]
    sums = np.sum(table, axis=0)
    fixed = int(np.argmin(sums))
    return {
        "omega = 1 (Gauss-Seidel)": [row[0] for row in table],
        "Tsallis-INF": tsallis_inf(table, shifts, seed),
        f"best fixed omega in hindsight ({GRID[fixed]})": [row[fixed] for row in table],
        "inverse-gap, sees the shift": contextual(table, shifts, seed),
        "best omega of the grid for each system": [min(row) for row in table],
        "Young's formula, from the spectrum": [int(row[-1]) for row in known],
    }


def plot(by_method, path):
    """Iterations per system so far, as an SVG."""
    left, top, width, height = 60, 20, 560, 320
    count = len(next(iter(by_method.values())))
    curves = {name: np.cumsum(used) / np.arange(1, count + 1) for name, used in by_method.items()}
    high = 1.1 * max(curve[count // 10 :].max() for curve in curves.values())
    colors = ("#888888", "#c0392b", "#e08e0b", "#1f77b4", "#2e8b57", "#7d3c98")
    parts = [f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#999"/>']
    for tick in np.linspace(0, high, 5):
        y = top + height * (1 - tick / high)
        parts.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{tick:.0f}</text>')
    for number, (name, curve) in enumerate(curves.items()):
        places = np.unique(np.linspace(0, count - 1, 300).astype(int))
        at = " ".join(
            f"{left + width * (i + 1) / count:.1f},{top + height * (1 - min(curve[i], high) / high):.1f}"
            for i in places
        )
        parts.append(f'<polyline points="{at}" fill="none" stroke="{colors[number]}" stroke-width="1.5"/>')
        y, color = top + height + 45 + 16 * number, colors[number]
        parts.append(f'<text x="{left + 12}" y="{y}" fill="{color}">{name}: {curve[-1]:.1f}</text>')
    parts.append(f'<text x="{left + width / 2}" y="{top + height + 20}" text-anchor="middle">systems solved</text>')
    body = "\n".join(parts)
    title = "<title>Iterations per system so far</title>"
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 490" font-family="sans-serif" font-size="12">'
            f'{title}<rect width="640" height="490" fill="white"/>\n{body}\n</svg>\n'
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=SIZE, help="unknowns along each side")
    parser.add_argument("--json", action="store_true", help="cumulative iterations as JSON")
    parser.add_argument("--plot", metavar="FILE", help="iterations per system so far, as an SVG")
    given = parser.parse_args()
    if given.systems < 10 or given.size < 2:
        parser.error("at least 10 systems of size 2 are needed")
    by_method = run(given.systems, given.seed, given.size)
    if given.plot:
        plot(by_method, given.plot)
    last = given.systems // 2
    rows = {
        name: {"iterations": sum(used), "per_system": sum(used) / len(used), "second_half": float(np.mean(used[last:]))}
        for name, used in by_method.items()
    }
    if given.json:
        print(json.dumps({"systems": given.systems, "seed": given.seed, "shifts": SHIFTS, "methods": rows}))
        return
    print(f"{given.systems} systems, shifts {SHIFTS[0]} to {SHIFTS[1]}, seed {given.seed}")
    print(f"{'':44}{'iterations':>12}{'per system':>12}{'2nd half':>10}")
    for name, row in rows.items():
        print(f"{name:44}{row['iterations']:12,}{row['per_system']:12.1f}{row['second_half']:10.1f}")


if __name__ == "__main__":
    main()
