"""Programs as parameters: what each example reaches at equal budget, with a model and without.

    nice python benchmarks/code_examples.py                  # all examples, three seeds, the arms that need no model
    python benchmarks/code_examples.py --example tsp --seeds 1 --model openai:MODEL --calls 100 --tokens 2000
    python benchmarks/code_examples.py --table               # the tables, from what is measured
    python benchmarks/code_examples.py --table --write       # into the READMEs of the examples, too

The arms: the initial program; best of N random edits of it; random edits that climb, (1+1); evolution on islands with
random edits in the model's place; `tune`, its numbers without a model; and with --model `best_of_n` and `evolve`. All
have the same number of evaluations; on rows they hold no exam (`data.target = "suite"`), but for `spans`. What a run
ends with is measured once more on what no run has seen: other rows, or inputs of another seed.

A row of the CSV file is written when its run has ended; what is there is not measured again, so a session that was cut
off goes on where it was. Delete a row to have it anew.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import re
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.cli.run import session_of
from agent.config import load
from agent.evaluation import Request
from agent.events import RESUMABLE
from agent.setup import Setup
from agent.space import Candidate

ROOT = Path(__file__).resolve().parents[1]
CSV = ROOT / "benchmarks" / "results" / "code-examples.csv"
COLUMNS = (
    "example",
    "arm",
    "model",
    "seed",
    "evaluations",
    "seconds",
    "candidates",
    "failed",
    "calls",
    "used",
    "search",
    "unseen",
    "load",
)


@dataclass(frozen=True)
class Example:
    """An example and what it is measured with.

    Args:
        evaluations: The budget of every arm.
        unseen: File of rows that no run has seen; "" for the inputs of other seeds.
        programs: Whether programs are its parameters; else only numbers and choices are.
        more: Settings other than those of its problem.toml.
    """

    evaluations: int
    unseen: str = ""
    programs: bool = True
    more: tuple[tuple[str, Any], ...] = ()


EXAMPLES = {
    "hash": Example(150),
    "tsp": Example(400, "test.jsonl"),
    "sql": Example(200),
    "bin-packing": Example(400, "test.jsonl"),
    "spans": Example(
        250, "val.jsonl", programs=False, more=(("data.target", "population"),)
    ),  # F1 of a set has an exam
    "speedup": Example(48, programs=False, more=(("gate.exam_pairs", 6),)),
    "solver": Example(360, "val.jsonl"),
    "circle-packing": Example(24, more=(("evaluator.sandbox.seconds", 8),)),
}
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "best of N": ("random_edits", {"of": "initial"}),
    "climbing": ("random_edits", {"of": "champion"}),
    "islands": ("random_edits", {"of": "islands"}),
    "tune": ("tune", {}),
    "best_of_n": ("best_of_n", {}),
    "evolve": ("evolve", {}),
}
TITLES = {
    "initial": "the initial program",
    "best of N": "best of N random edits of it",
    "climbing": "random edits, climbing",
    "islands": "random edits on the islands of `evolve`",
    "tune": "`tune`, its numbers alone",
    "best_of_n": "`best_of_n`",
    "evolve": "`evolve`",
}
MODELS = ("best_of_n", "evolve")
SEEDS = range(1000, 1003)
"""Of the inputs that no run has seen."""


def setup(name: str, arm: str, seed: int, model: str, calls: int = 0, tokens: int = 0) -> Setup:
    """The problem of an example, with the proposer and the budget of an arm.

    Args:
        name: Of the example.
        arm: One of `TITLES`.
        seed: Of the run.
        model: Of the arms that ask one.
        calls: Most replies of that model; 0 for no limit but that of the evaluations.
        tokens: Most tokens of a reply; 0 for what the proposer thinks right.
    """
    example = EXAMPLES[name]
    given: dict[str, Any] = {
        "budget.evaluations": example.evaluations,
        "run.seed": seed,
        "models.propose": model if arm in MODELS else "none",
        **dict(example.more),
    }
    if arm in ARMS:
        proposer, options = ARMS[arm]
        given |= {"proposer.name": proposer, **{f"proposer.options.{key}": value for key, value in options.items()}}
    if arm in MODELS:
        given |= {"budget.calls": calls} if calls else {}
        given |= {"proposer.options.max_output_tokens": tokens} if tokens else {}
    if example.unseen:
        given.setdefault("data.target", "suite")
    return load(ROOT / "examples" / name, given)


async def measured(name: str, candidate: Candidate) -> float:
    """A candidate's mean on what no run has seen; of a quotient, that of all rows together; a failure is the worst."""
    example = EXAMPLES[name]
    made = setup(name, "initial", 0, "none")
    goal = made.problem.objective
    requests = [Request(candidate, seed=seed, stage="confirm", purpose="report") for seed in SEEDS]
    if example.unseen:
        lines = (ROOT / "examples" / name / example.unseen).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        requests = [Request(candidate, example=row["id"], row=row, stage="confirm", purpose="report") for row in rows]
    executor = session_of(made).make_executor(made.settings)
    try:
        outputs = [await executor.submit(request) for request in requests]
    finally:
        await executor.close()
    worst = goal.high if goal.direction == "minimize" else goal.low
    found = [output.value["values"] if output.failure is None else {} for output in outputs]
    if goal.numerator and goal.denominator:
        above, below = (
            sum(weight * values.get(key, 0.0) for values in found for key, weight in weights.items())
            for weights in (goal.numerator, goal.denominator)
        )
        return above / below if below else 0.0
    return statistics.fmean(values.get(goal.name, worst if worst is not None else float("nan")) for values in found)


def run(name: str, arm: str, seed: int, model: str, calls: int = 0, tokens: int = 0) -> dict[str, Any]:
    """One run, and what comes of it; the arguments are those of `setup`."""
    made, begun = setup(name, arm, seed, model, calls, tokens), time.monotonic()
    out: dict[str, Any] = {"example": name, "arm": arm, "model": model if arm in MODELS else "", "seed": seed}
    best, values = made.problem.initial(), None
    if arm in ARMS:
        with tempfile.TemporaryDirectory() as folder:
            result = asyncio.run(session_of(made).run(Path(folder) / "run"))
        if result.reason in RESUMABLE:  # Ctrl-C, a signal, or a model that cannot be reached: no row of a half run
            raise SystemExit(result.exit_code)
        best = result.best
        values = next(trial for trial in result.trials if trial.id == best.id).values
        out["candidates"] = len(result.trials)
        out["failed"] = sum(trial.state == "failed" for trial in result.trials)
        out["evaluations"] = result.spent["evaluations"]
        if arm in MODELS:
            out["calls"] = result.spent["calls"]
            out["used"] = sum(":llm" in trial.source for trial in result.trials)
    out["seconds"] = round(time.monotonic() - begun, 1)
    out["search"] = (values or {}).get(made.problem.objective.name)
    out["unseen"] = asyncio.run(measured(name, best))
    out["load"] = round(os.getloadavg()[0], 1)
    return out


def applies(name: str, arm: str) -> bool:
    """Whether an arm can be run: some need a program among the parameters."""
    return EXAMPLES[name].programs or arm not in ("islands", *MODELS)


def known(path: Path) -> list[dict[str, str]]:
    """What is measured already."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def table(name: str, rows: list[dict[str, str]]) -> str:
    """An example's table, for its README: medians, and from the smallest to the largest where there are several."""
    goal = setup(name, "initial", 0, "none").problem.objective
    mine = [row for row in rows if row["example"] == name]
    unit = f", {goal.unit}" if goal.unit else ""
    out = [
        f"| {EXAMPLES[name].evaluations} evaluations | seeds | {goal.name}{unit}, on what no run has seen | in the "
        "search | candidates | of which failed | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in TITLES:
        models = sorted({row["model"] for row in mine if row["arm"] == arm})
        for model in models:
            group = [row for row in mine if row["arm"] == arm and row["model"] == model]
            ran = arm in ARMS
            counts = [_median(group, column) if ran else "" for column in ("candidates", "failed", "seconds")]
            cells = [_title(arm, group), str(len(group)) if ran else "", _spread(group, "unseen")]
            out.append("| " + " | ".join([*cells, _spread(group, "search"), *counts]) + " |")
        if not models:
            why = "not run" if applies(name, arm) else "no program is a parameter here"
            out.append(f"| {TITLES[arm]} | | {why} | | | | |")
    return "\n".join(out)


def written(text: str, made: str) -> str:
    """A README with the table that was made in the place of the one that is in it."""
    return re.sub(r"\| \d+ evaluations \|.*(?:\n\|.*)*", lambda _: made, text, count=1)


def _title(arm: str, group: list[dict[str, str]]) -> str:
    if not group[0]["model"]:
        return TITLES[arm]
    told = (
        f"{row['evaluations']} evaluations, {row['used']} of {row['calls']} replies were programs to measure"
        for row in group
    )
    return f"{TITLES[arm]} with {group[0]['model']}: {'; '.join(told)}"


def _spread(rows: list[dict[str, str]], column: str) -> str:
    found = [float(row[column]) for row in rows if row[column]]
    if not found:
        return ""
    middle, low, high = (f"{value:.4g}" for value in (statistics.median(found), min(found), max(found)))
    return middle if low == high else f"{middle} ({low} to {high})"


def _median(rows: list[dict[str, str]], column: str) -> str:
    return f"{statistics.median(float(row[column]) for row in rows):.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--example", choices=EXAMPLES, action="append", help="default: all")
    parser.add_argument("--arm", choices=TITLES, action="append", help="default: all that can be run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--model", default="none", help="provider:model, for best_of_n and evolve")
    parser.add_argument("--calls", type=int, default=0, help="most replies of the model in a run; default: no limit")
    parser.add_argument("--tokens", type=int, default=0, help="most tokens of a reply; default: the proposer's own")
    parser.add_argument("--table", action="store_true", help="measure nothing, print the tables")
    parser.add_argument("--write", action="store_true", help="put the tables into the READMEs of the examples")
    parser.add_argument("--csv", type=Path, default=CSV)
    given = parser.parse_args()
    names = given.example or list(EXAMPLES)
    rows = known(given.csv)
    done = {(row["example"], row["arm"], row["model"], row["seed"]) for row in rows}
    for seed in range(0 if given.table else given.seeds):
        for name in names:
            for arm in given.arm or TITLES:
                model = given.model if arm in MODELS else ""
                known_already = (name, arm, model, str(seed)) in done or (arm == "initial" and seed > 0)
                if known_already or model == "none" or not applies(name, arm):
                    continue
                row = run(name, arm, seed, given.model, given.calls, given.tokens)
                given.csv.parent.mkdir(parents=True, exist_ok=True)
                new = not given.csv.is_file()
                with given.csv.open("a", newline="", encoding="utf-8") as stream:
                    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
                    if new:
                        writer.writeheader()
                    writer.writerow(row)
                print(json.dumps(row), flush=True)
    for name in names:
        made = table(name, known(given.csv))
        print(f"\n{name}\n\n{made}")
        if given.write:
            path = ROOT / "examples" / name / "README.md"
            path.write_text(written(path.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    main()
