"""What the gate claims and what it costs, beside other acceptance rules in the same worlds. No LLM is called.

    python benchmarks/gate.py null --repetitions 400
    python benchmarks/gate.py gain --sizes 50 100 --budget 1000 4000
    python benchmarks/gate.py all

Every slice of repetitions is appended to a CSV file in benchmarks/results/ and skipped when it is
there, so a stopped command goes on where it was. Delete the file after a change of the rules. What is
measured, and how to read it, is in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

import gate_ours as ours  # noqa: E402
import gate_scenes as scenes  # noqa: E402
from gate_peers import GREEDY, PEERS  # noqa: E402
from gate_plot import svg  # noqa: E402
from gate_worlds import Outcome, World  # noqa: E402

METHODS: dict[str, Callable[[World, float], Outcome]] = {
    "race+exam": ours.race_exam,
    "race+auto": ours.race_auto,
    "race only": ours.race_only,
    "race pooled": ours.race_pooled,
    **PEERS,
}
FULL = (20, 50, 100, 200, 500)
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Scene:
    """A command: which worlds, for how many calls, on how many rows."""

    kinds: tuple[str, ...]
    budgets: tuple[float, ...] = (math.inf,)
    sizes: tuple[int, ...] = FULL


COMMANDS = {
    "null": Scene(("null", "harmful")),
    "gain": Scene(("gain",), (1000, 4000)),
    "heldout": Scene(("heldout",), (2000,)),
    "small": Scene(("small",), (1000, 4000)),
    "others": Scene(("rare", "judge", "flips .1", "flips .4", "start .7", "memorises"), (4000,), (100,)),
    "nights": Scene(("nights, nothing better", "nights, a gain"), (scenes.NIGHTLY,), (100, 200)),
    "attack": Scene(("attack",), sizes=(100,)),
}


class Key(NamedTuple):
    """One row of a CSV file is about this."""

    kind: str
    n: int
    budget: float
    method: str
    measure: str


class Sums(NamedTuple):
    """Count, sum and sum of squares; slices add up."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def plus(self, other: Sums) -> Sums:
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))

    @classmethod
    def of(cls, values: Iterable[float]) -> Sums:
        there = [value for value in values if not math.isnan(value)]
        return cls(len(there), math.fsum(there), math.fsum(value**2 for value in there))

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else math.nan

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        if self.count < 2:
            return math.nan
        return math.sqrt(max(0.0, self.squares / self.count - self.mean**2) / (self.count - 1))


class Slice(NamedTuple):
    """Repetitions that are run and stored together."""

    kind: str
    n: int
    budget: float
    seed: int
    repetitions: int


def measured(job: Slice) -> dict[Key, Sums]:
    """All methods in the worlds of one slice."""
    seeds = range(job.seed, job.seed + job.repetitions)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for seed in seeds:
        if job.kind.startswith("nights"):
            told = {"Gate": scenes.night_after_night(job.n, seed, job.kind.endswith("gain"))}
        elif job.kind == "attack":
            told = {"Gate": scenes.attack(job.n, seed)}
        else:
            told = _methods(World(job.kind, job.n, seed), job.budget)
        for method, values in told.items():
            for measure, value in values.items():
                found[method, measure].append(value)
    return {Key(job.kind, job.n, job.budget, *name): Sums.of(values) for name, values in found.items()}


def _methods(world: World, budget: float) -> dict[str, dict[str, float]]:
    outcomes = {name: run(world, budget) for name, run in METHODS.items()}
    return {
        name: {
            "best": found.best,
            "released": found.released,
            "claimed": found.claimed,
            "false": found.false,
            "optimism": found.optimism,
            "change": found.best - world.initial.mean,
            "below": found.best < world.initial.mean - 1e-9,
            "calls": found.calls,
            "lead": outcomes["race+exam"].best - found.best,
        }
        for name, found in outcomes.items()
    }


def stored(path: Path) -> dict[Slice, dict[Key, Sums]]:
    """The slices of a results file."""
    out: dict[Slice, dict[Key, Sums]] = defaultdict(dict)
    if path.is_file():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                n, budget = int(row["n"]), float(row["budget"])
                job = Slice(row["kind"], n, budget, int(row["seed"]), int(row["repetitions"]))
                key = Key(row["kind"], n, budget, row["method"], row["measure"])
                out[job][key] = Sums(int(row["count"]), float(row["sum"]), float(row["squares"]))
    return out


def run(command: str, given: argparse.Namespace) -> dict[Key, Sums]:
    """Run what is missing, and add up what there is."""
    scene, path = COMMANDS[command], given.results / f"gate-{command}.csv"
    given.results.mkdir(parents=True, exist_ok=True)
    seeds = range(given.seed, given.seed + given.repetitions, given.slice)
    jobs = [
        Slice(kind, n, budget, seed, min(given.slice, given.seed + given.repetitions - seed))
        for kind in scene.kinds
        if not given.kinds or kind in given.kinds
        for budget in given.budget or scene.budgets
        for n in given.sizes or scene.sizes
        for seed in seeds
    ]
    known = stored(path)
    missing = [job for job in jobs if job not in known]
    pool = ProcessPoolExecutor(given.workers) if given.workers > 1 else nullcontext()
    with pool as executor:
        results = executor.map(measured, missing) if executor is not None else map(measured, missing)
        for job, found in zip(missing, results, strict=True):
            print(f"{job.kind}, n = {job.n}, {job.budget:g} calls, from seed {job.seed}", file=sys.stderr)
            known[job] = found
            append(path, job, found)
    out: dict[Key, Sums] = defaultdict(Sums)
    for job in jobs:
        for key, sums in known[job].items():
            out[key] = out[key].plus(sums)
    return out


def append(path: Path, job: Slice, found: Mapping[Key, Sums]) -> None:
    """Store one slice."""
    fresh = not path.is_file()
    with path.open("a", newline="") as file:
        out = csv.writer(file)
        if fresh:
            out.writerow((*Slice._fields, "method", "measure", "count", "sum", "squares"))
        for key, sums in found.items():
            out.writerow((*job, key.method, key.measure, sums.count, f"{sums.total:.10g}", f"{sums.squares:.10g}"))


def table(found: Mapping[Key, Sums], kind: str, budget: float, measure: str, digits: int = 3) -> None:
    """Means by method and n, with the largest standard error of each line."""
    sizes = sorted({key.n for key in found if (key.kind, key.budget, key.measure) == (kind, budget, measure)})
    methods = dict.fromkeys(key.method for key in found if (key.kind, key.budget) == (kind, budget))
    if not sizes:
        return
    repetitions = max(found[Key(kind, sizes[0], budget, m, measure)].count for m in methods)
    calls = "" if math.isinf(budget) else f", {budget:g} calls"
    print(f"\n{kind}{calls}: {measure}, {repetitions} repetitions\n")
    print("| method | " + " | ".join(f"n = {n}" for n in sizes) + " | s.e. |")
    print("|---" * (len(sizes) + 2) + "|")
    for method in methods:
        cells = [found.get(Key(kind, n, budget, method, measure), Sums()) for n in sizes]
        error = max((cell.error for cell in cells if cell.count > 1), default=math.nan)
        shown = [f"{cell.mean:.{digits}f}" if cell.count else "–" for cell in cells]
        print(f"| {method} | " + " | ".join(shown) + f" | {error:.{digits}f} |")


def plot(found: Mapping[Key, Sums], kind: str, budget: float, measure: str, path: Path) -> None:
    """The same as a picture."""
    lines: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for key, sums in sorted(found.items(), key=lambda item: item[0].n):
        if (key.kind, key.budget, key.measure) == (kind, budget, measure) and sums.count > 1:
            lines[key.method].append((key.n, sums.mean, 2 * sums.error))
    ordered = {name: lines[name] for name in METHODS if name in lines}
    calls = "" if math.isinf(budget) else f", {budget:g} calls"
    if ordered and len(next(iter(ordered.values()))) > 1:
        path.write_text(svg(f"{kind}{calls}: {measure} (bars: 2 standard errors)", measure, ordered), encoding="utf-8")
        print(f"\nplot: {path}")


def show(command: str, found: Mapping[Key, Sums], given: argparse.Namespace) -> None:
    """Tables, plots, and what must hold."""
    for kind, budget in dict.fromkeys((key.kind, key.budget) for key in found):
        if command in ("nights", "attack"):
            _list(found, kind)
            continue
        measures = ("false", "optimism", "change") if command == "null" else ("best", "released", "false", "lead")
        for measure in measures:
            table(found, kind, budget, measure)
        name = f"gate-{kind}{'' if math.isinf(budget) else f'-{budget:g}'}.svg".replace(" ", "")
        plot(found, kind, budget, measures[0], given.results / name)
        for n in sorted({key.n for key in found}):
            _verdict(found, kind, budget, n)


def _list(found: Mapping[Key, Sums], kind: str) -> None:
    for key, sums in found.items():
        if key.kind == kind:
            print(f"{kind}, n = {key.n}: {key.measure}: {sums.mean:.3f} (s.e. {sums.error:.3f}, {sums.count} times)")


def _verdict(found: Mapping[Key, Sums], kind: str, budget: float, n: int) -> None:
    for method in ("race+exam", "race+auto"):
        false = found[Key(kind, n, budget, method, "false")]
        bound = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / false.count)
        met = "met" if false.mean <= bound else "NOT MET"
        print(f"{kind}, n = {n}: {method} claims falsely in {false.mean:.4f}, bound {bound:.4f}: {met}")
    if kind in ("null", "harmful"):
        return
    rival = max(GREEDY, key=lambda name: found[Key(kind, n, budget, name, "best")].mean)
    lead = found[Key(kind, n, budget, rival, "lead")]
    print(f"{kind}, n = {n}: lead of race+exam over {rival}: {lead.mean:+.3f} (s.e. {lead.error:.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=(*COMMANDS, "speed", "walk", "all"))
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--sizes", type=int, nargs="+", help="rows of train, and as many of val")
    parser.add_argument("--kinds", nargs="+", help="only these of the command's worlds")
    parser.add_argument("--budget", type=float, nargs="+", help="metric calls; null worlds count 200 rounds instead")
    parser.add_argument("--seed", type=int, default=0, help="of the first repetition (0)")
    parser.add_argument("--slice", type=int, default=100, help="repetitions that are stored together (100)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    if min(given.repetitions, given.slice, given.workers, *(given.sizes or [20])) < 1:
        parser.error("repetitions, slice, workers and sizes are at least 1")
    for command in [*COMMANDS, "speed", "walk"] if given.command == "all" else [given.command]:
        if command == "speed":
            speed(given.results)
        elif command == "walk":
            walk()
        else:
            show(command, run(command, given), given)


def speed(folder: Path, repeats: int = 30) -> None:
    """The clock."""
    folder.mkdir(parents=True, exist_ok=True)
    print("| what | milliseconds: median (range) | target |\n|---|---|---|")
    with (folder / "gate-speed.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("what", "repeat", "milliseconds"))
        for what, target, values in scenes.clock(repeats):
            out.writerows((what, number, f"{value:.6g}") for number, value in enumerate(values))
            met = (
                f"{target} ms: {'met' if sorted(values)[repeats // 2] < float(target) else 'NOT MET'}" if target else ""
            )
            print(f"| {what} | {scenes.spread(values)} | {met} |")


def walk(worlds: int = 20, numbers: range = range(100)) -> None:
    """Whether the walk in one step decides every race as the arena does step by step."""
    for kind in ("gain", "null", "heldout"):
        for seed in range(worlds):
            world = World(kind, (20, 50, 100, 500)[seed % 4], seed)
            assert ours.stepwise(world, numbers) == ours.at_once(world, numbers), (kind, seed)
    print(f"{3 * worlds * len(numbers)} races: the same decisions after the same calls")


if __name__ == "__main__":
    main()
