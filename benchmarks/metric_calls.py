"""How many metric calls it takes to a prompt that is truly better by 10 points: ours beside the package gepa.

    python benchmarks/metric_calls.py --gepa PYTHON --seeds 50     # about an hour on one core
    python benchmarks/metric_calls.py                              # the table of what is in the CSV file

The worlds are scripted (`metric_worlds.py`): the n-th call of the proposer adds the same rule to the prompt that it is
shown, for either side. Both have the same labelled rows and the same number of metric calls. `--gepa` names a Python
that has the package gepa. Each finished run is one row of `results/metric-calls.csv` and is not made again; delete the
rows after a change of the rules. `--until` ends our runs where the goal is reached, which is a fifth of the time; what
is handed out at the end is then not known. It ends with 1 when our median is above gepa's in a world.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import gt, lt
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from metric_worlds import FIRST, GOAL, KINDS, Kind, World, shown

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "metric-calls.csv"
BUDGET = 1000
"""Metric calls of a run: twenty times the val rows of the middle world; gepa advises fifteen to thirty times."""
ARMS = ("ours", "interim", "gepa")
FIELDS = ("world", "seed", "arm", "reached", "proven_at", "gain", "moved", "proven", "proven_gain", "calls")
FIELDS += ("proposals", "cpu_ms", "whole")


class Enough(Exception):
    """The goal was reached, and nothing more is asked for."""


class Watch:
    """When what is handed out was first truly better by the goal.

    Args:
        world: It counts the calls.
        until: Whether the run ends there.
    """

    def __init__(self, world: World, until: bool = False) -> None:
        self._world, self._until, self.reached, self.proven_at = world, until, 0, 0

    def best(self, text: str) -> None:
        """It would be handed out from now on."""
        if not self.reached and self._world.gain(text) >= GOAL:
            self.reached = self._world.calls
            if self._until:
                raise Enough

    def proven(self, text: str) -> None:
        """It is released from now on."""
        if not self.proven_at and self._world.gain(text) >= GOAL:
            self.proven_at = self._world.calls


def ours(kind: Kind, seed: int, interim: bool = False, until: bool = False) -> dict[str, Any]:
    """A run of `optimize` with the proposer `reflect`, one row at a time; `until`: no further than to the goal."""
    sys.path.insert(0, str(ROOT))
    from agent import Objective, Text, optimize
    from agent.llm.types import Completion, Usage

    world = World(kind, seed)
    watch = Watch(world, until)

    class Model:
        async def complete(self, request: Any, *, seed: int | None) -> Completion:
            text = world.child(shown(request.messages[-1].text))
            said = json.dumps({"reasoning": "one more rule", "changes": {"prompt": text}})
            return Completion(said, usage=Usage(input=1, output=1))

        async def close(self) -> None:
            return None

    async def metric(candidate: Mapping[str, str], row: Mapping[str, Any]) -> tuple[float, str]:
        score = world.score(candidate["prompt"], row["row"])
        return score, "right" if score else "wrong"

    def seen(event: Any, state: Any) -> None:
        if type(event).__name__ == "RaceDecided" and event.decision == "promote":
            watch.best(state.history[event.candidate].candidate["prompt"])
        elif type(event).__name__ == "ExamDecided" and event.accepted:
            watch.proven(state.history[state.gate.released].candidate["prompt"])

    with tempfile.TemporaryDirectory() as place:
        began = time.process_time()
        try:
            result = optimize(
                metric,
                space={"prompt": Text(FIRST)},
                data=world.rows,
                objectives=Objective("score", "maximize", low=0, high=1),
                model=Model(),
                budget=BUDGET,
                seed=seed,
                options={"proposer": "reflect", "workers": 1, "interim": interim},
                runs=place,
                observers=[seen],
            )
        except Enough:
            return {**_told(world, watch, "ours", FIRST, FIRST, time.process_time() - began), "whole": 0}
        cpu = time.process_time() - began
        best, released = result.best["prompt"], result.released["prompt"]
    told = _told(world, watch, "interim" if interim else "ours", best, released, cpu)
    return {**told, "whole": int(not until)}  # or only those that never got there would tell of the end


def gepa(kind: Kind, seed: int) -> dict[str, Any]:
    """A run of `gepa.optimize` as it comes: minibatches of three, all of val for what was better on one."""
    import gepa as package  # type: ignore[import-not-found]

    world = World(kind, seed)
    watch = Watch(world)

    class Adapter:
        propose_new_texts = None

        def evaluate(self, batch: Sequence[Any], candidate: Mapping[str, str], capture_traces: bool = False) -> Any:
            scores = [world.score(candidate["prompt"], row["row"]) for row in batch]
            told = ["right" if score else "wrong" for score in scores]
            traces = [{"Inputs": row, "Feedback": word} for row, word in zip(batch, told, strict=True)]
            return SimpleNamespace(
                outputs=told,
                scores=scores,
                trajectories=traces,
                objective_scores=None,
                num_metric_calls=None,
            )

        def make_reflective_dataset(self, candidate: Any, batch: Any, names: Sequence[str]) -> dict[str, Any]:
            return dict.fromkeys(names, batch.trajectories)

    class Seen:
        def on_valset_evaluated(self, event: Mapping[str, Any]) -> None:
            if event["is_best_program"]:
                watch.best(event["candidate"]["prompt"])

    # Its documentation: halves below 200 rows, four fifths to one fifth from there.
    cut = kind.rows // 2 if kind.rows < 200 else kind.rows * 4 // 5
    began = time.process_time()
    result = package.optimize(
        seed_candidate={"prompt": FIRST},
        trainset=world.rows[:cut],
        valset=world.rows[cut:],
        adapter=Adapter(),
        reflection_lm=lambda request: f"```\n{world.child(shown(str(request)))}\n```",
        max_metric_calls=BUDGET,
        callbacks=[Seen()],
        seed=seed,
        logger=SimpleNamespace(log=lambda message: None),
    )
    cpu = time.process_time() - began
    return _told(world, watch, "gepa", result.best_candidate["prompt"], FIRST, cpu)


def _told(world: World, watch: Watch, arm: str, best: str, released: str, cpu: float) -> dict[str, Any]:
    return {
        "world": str(world.kind),
        "seed": world.seed,
        "arm": arm,
        "reached": watch.reached,
        "proven_at": watch.proven_at,
        "gain": round(world.gain(best), 4),
        "moved": int(best != FIRST),
        "proven": int(released != FIRST),
        "proven_gain": round(world.gain(released), 4),
        "calls": world.calls,
        "proposals": world.written,
        "cpu_ms": round(1000 * cpu / world.calls, 3),
        "whole": 1,
    }


RUNS: dict[str, Callable[[Kind, int], dict[str, Any]]] = {
    "ours": ours,
    "interim": lambda kind, seed: ours(kind, seed, interim=True),
    "gepa": gepa,
}


def known(path: Path) -> list[dict[str, Any]]:
    """What is in the CSV file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{k: v if k in ("world", "arm") else float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def made(
    arm: str, kinds: Sequence[Kind], seeds: Sequence[int], python: str, until: bool = False
) -> Iterator[dict[str, Any]]:
    """Runs of one arm; those of gepa in its own Python."""
    if arm != "gepa" or python == sys.executable:
        for kind in kinds:
            for seed in seeds:
                yield ours(kind, seed, until=True) if until and arm == "ours" else RUNS[arm](kind, seed)
        return
    command = [python, __file__, "--side", arm, "--gepa", python]
    command += ["--first", str(seeds[0]), "--seeds", str(len(seeds)), "--worlds", *(str(KINDS.index(k)) for k in kinds)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        yield from map(json.loads, process.stdout)
    if process.returncode:
        raise SystemExit(f"{python} cannot run gepa")


def measure(
    arms: Sequence[str], kinds: Sequence[Kind], seeds: Sequence[int], python: str, path: Path, until: bool
) -> None:
    """Make the runs that are not in the file yet."""
    there = {(row["world"], int(row["seed"]), row["arm"]) for row in known(path)}
    for kind in kinds:
        for arm in arms:
            left = [seed for seed in seeds if (str(kind), seed, arm) not in there]
            for row in made(arm, [kind], range(left[0], left[-1] + 1), python, until) if left else ():
                if (row["world"], row["seed"], arm) in there:
                    continue
                new = not path.is_file()
                with path.open("a", encoding="utf-8", newline="") as file:
                    writer = csv.DictWriter(file, FIELDS)
                    if new:
                        writer.writeheader()
                    writer.writerow(row)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The quarter, the middle and three quarters of the way; runs that never got there count as infinity."""
    ordered = sorted(value or math.inf for value in values)
    last = len(ordered) - 1
    return ordered[last // 4], median(ordered), ordered[last - last // 4]


def shown_quartiles(values: Sequence[float]) -> str:
    low, middle, high = (f"{value:.0f}" if math.isfinite(value) else "never" for value in quartiles(values))
    return f"{middle} ({low} to {high})"


def sides(rows: Sequence[Mapping[str, Any]], whole: bool) -> Iterator[tuple[str, list[Any], list[Any]]]:
    """By world: our runs and gepa's of the same seeds; `whole`: only those that went on to the end of the budget."""
    for kind in map(str, KINDS):
        here = [row for row in rows if row["world"] == kind and (row["whole"] or not whole)]
        mine, other = ({row["seed"]: row for row in here if row["arm"] == arm} for arm in ("ours", "gepa"))
        both = sorted(mine.keys() & other.keys())
        if both:
            yield kind, [mine[seed] for seed in both], [other[seed] for seed in both]


def reach_table(rows: Sequence[Mapping[str, Any]]) -> tuple[str, int]:
    """The calls to the goal as Markdown, and in how many worlds our median is above gepa's."""
    lines = [
        "| world | seeds | ours: calls to +10 | gepa: calls to +10 | never: ours, gepa | sooner: ours, gepa |",
        "|---|---|---|---|---|---|",
    ]
    lost = 0
    for kind, mine, other in sides(rows, whole=False):
        at, theirs = ([row["reached"] or math.inf for row in side] for side in (mine, other))
        wins, losses = (sum(compare(a, b) for a, b in zip(at, theirs, strict=True)) for compare in (lt, gt))
        lost += quartiles(at)[1] > quartiles(theirs)[1]
        never = [sum(map(math.isinf, side)) for side in (at, theirs)]
        lines.append(
            f"| {kind} | {len(mine)} | {shown_quartiles(at)} | {shown_quartiles(theirs)} | {never[0]}, {never[1]} |"
            f" {wins}, {losses} |"
        )
    return "\n".join(lines), lost


def end_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """What is handed out when the budget is spent, as Markdown."""
    lines = [
        "| world | seeds | true +10: ours, gepa | changed for no true gain: ours, gepa | ours proven | of that false |",
        "|---|---|---|---|---|---|",
    ]
    for kind, mine, other in sides(rows, whole=True):
        good = [sum(row["gain"] >= GOAL for row in side) for side in (mine, other)]
        false = [sum(bool(row["moved"]) and row["gain"] <= 0 for row in side) for side in (mine, other)]
        proven = [row for row in mine if row["proven"]]
        wrong = sum(row["proven_gain"] <= 0 for row in proven)
        lines.append(
            f"| {kind} | {len(mine)} | {good[0]}, {good[1]} | {false[0]}, {false[1]} | {len(proven)} | {wrong} |"
        )
    return "\n".join(lines)


def interim_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """What exams before the end add: when a gain of 10 points was first proven."""
    lines = ["| world | seeds | proven +10 after, calls | before the end | false |", "|---|---|---|---|---|"]
    for kind in map(str, KINDS):
        found = [row for row in rows if row["world"] == kind and row["arm"] == "interim"]
        if found:
            early = sum(0 < row["proven_at"] < 0.95 * BUDGET for row in found)
            wrong = sum(row["proven"] and row["proven_gain"] <= 0 for row in found)
            calls = shown_quartiles([row["proven_at"] for row in found])
            lines.append(f"| {kind} | {len(found)} | {calls} | {early} | {wrong} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Metric calls to a true gain of 10 points, beside gepa.")
    parser.add_argument("--gepa", metavar="PYTHON", default=os.environ.get("TRUEGAIN_GEPA", ""))
    parser.add_argument("--seeds", type=int, default=0, help="0: nothing is run, the table is printed")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--worlds", type=int, nargs="*", default=list(range(len(KINDS))), help="by number, all")
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=["ours", "gepa"])
    parser.add_argument("--until", action="store_true", help="our runs go no further than to the goal")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--side", choices=ARMS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    kinds, seeds = [KINDS[number] for number in given.worlds], range(given.first, given.first + given.seeds)
    if given.side:
        for row in made(given.side, kinds, seeds, sys.executable):
            print(json.dumps(row), flush=True)
        return 0
    if given.seeds and "gepa" in given.arms and not given.gepa:
        parser.error("--gepa PYTHON is needed: a Python that has the package gepa")
    if given.seeds:
        measure(given.arms, kinds, seeds, given.gepa, given.results, given.until)
    rows = known(given.results)
    text, lost = reach_table(rows)
    print(f"{text}\n\n{end_table(rows)}")
    early = interim_table(rows)
    print(f"\n{early}" if early else "", end="\n" if early else "")
    for arm in ARMS:
        cpu = [row["cpu_ms"] for row in rows if row["arm"] == arm and row["whole"]]
        if cpu:
            low, middle, high = quartiles(cpu)
            print(f"CPU, {arm}: {middle:.2f} ms for a metric call ({low:.2f} to {high:.2f}, {len(cpu)} runs)")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
