"""What a trace adds for OptoPrime and TextGrad, against a masked trace and random search, and what prompts cost.

    python benchmarks/opto.py                     # everything; about half an hour with the embedded model
    python benchmarks/opto.py tokens              # tokens of evidence against the number of spans; no model
    python benchmarks/opto.py numeric battleship --model provider:model --seeds 10

A run that is there already in benchmarks/results/opto-*.json is not made again; `table` only prints them. What is
measured, and how to read it, is in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from opto_worlds import POLICIES, WORLDS, game  # noqa: E402

from agent.api import optimize  # noqa: E402
from agent.ledger import Budget  # noqa: E402
from agent.llm.connect import connect  # noqa: E402
from agent.llm.estimate import text_bound  # noqa: E402
from agent.proposers.packing import Case, packed  # noqa: E402
from agent.tracing.spans import Raised, Span, Trace, Value  # noqa: E402

RESULTS = Path(__file__).parent / "results"
MODEL = "local:smollm2-135m"
TRACE_TOKENS = (31, 60)
"""Tokens of a prompt for each operation, by OptoPrime and OptoPrimeV2 of the package trace-opt."""
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "optoprime": ("optoprime", {}),
    "optoprime, trace masked": ("optoprime", {"trace": False}),
    "textgrad": ("textgrad", {}),
    "random": ("random", {}),
}
RANDOM = {"numeric": "random", "battleship": "opto_worlds:RandomEdits"}
"""Random search: over numbers, or random edits of the program."""
PROPOSED = {"numeric": 5, "battleship": 2}
"""Candidates beside the initial one."""
CALLS = {"numeric": None, "battleship": 2}
"""Limit on calls: a model that cannot write a program would be asked again and again."""
TOKENS = {"numeric": 1000, "battleship": 1000}
"""Of the evidence in a prompt: the embedded model reads about a hundred a second."""


def run(world: str, arm: str, seed: int, model: str, runs: Path) -> dict[str, Any]:
    """One run, as a row of the results."""
    evaluate, space, direction = WORLDS[world](seed)
    name, options = ARMS[arm]
    asks = arm != "random"
    if not asks:
        name = RANDOM[world]
    given = {**options, "tokens": TOKENS[world]} if asks else {}
    began = time.monotonic()
    result = optimize(
        evaluate,
        space=space,
        objectives=direction,
        model=model if asks else None,
        budget=Budget(evaluations=PROPOSED[world] + 1, calls=CALLS[world]),
        seed=seed,
        deterministic=True,
        options={"proposer": name, "options": given},
        runs=runs,
        name=f"{world}-{seed}",
    )
    sign = -1 if direction == "minimize" else 1
    best, curve = -float("inf"), []
    for trial in result.trials:
        if trial.values is not None:
            best = max(best, sign * trial.values["value"])
        curve.append(sign * best)
    made = [trial.source for trial in result.trials[1:]]
    return {
        "arm": arm,
        "seed": seed,
        "model": model if asks else "",
        "curve": curve,
        "proposed": len(made),
        "by_model": sum(source.endswith(":llm") for source in made),
        "failed": sum(trial.values is None for trial in result.trials[1:]),
        "calls": result.spent["calls"],
        "tokens": result.spent["tokens"]["input"] + result.spent["tokens"]["output"],
        "seconds": round(time.monotonic() - began, 1),
        "end": result.reason,
    }


def stored(world: str) -> list[dict[str, Any]]:
    """The rows of earlier runs."""
    path = RESULTS / f"opto-{world}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


async def sweep(world: str, arms: list[str], seeds: int, model: str) -> None:
    """All runs in a world, each stored as soon as it is finished; the model stays loaded between them.

    One seed after the other, so that what is cut off has equally many of each arm.
    """
    rows = stored(world)
    done = {(row["arm"], row["seed"], row["model"] or model) for row in rows}
    kept = connect(model)
    try:
        if hasattr(kept, "start"):
            await kept.start()
        with tempfile.TemporaryDirectory() as folder:
            for seed in range(seeds):
                for arm in arms:
                    if (arm, seed, model) in done:
                        continue
                    rows.append(await asyncio.to_thread(run, world, arm, seed, model, Path(folder)))
                    print(f"{world} {arm} #{seed}: {rows[-1]['curve'][-1]:.4g}, {rows[-1]['seconds']} s", flush=True)
                    lines = ",\n".join(json.dumps(row) for row in rows)
                    (RESULTS / f"opto-{world}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    finally:
        await kept.close()


def table(world: str) -> str:
    """The runs of a world, one line for each arm and model: medians and quartiles over the seeds."""
    rows = stored(world)
    out = [
        "| arm | model | seeds | start | best, median (quartiles) | better than random | by the model | calls "
        "| tokens of a run |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    luck = {row["seed"]: row["curve"][-1] for row in rows if row["arm"] == "random"}
    sign = -1 if world == "numeric" else 1
    for arm, model in dict.fromkeys((row["arm"], row["model"]) for row in rows):
        these = [row for row in rows if (row["arm"], row["model"]) == (arm, model)]
        ends = [row["curve"][-1] for row in these]
        low, middle, high = statistics.quantiles(ends, n=4, method="inclusive") if len(ends) > 1 else ends * 3
        shared = [row for row in these if row["seed"] in luck]
        wins = sum(sign * row["curve"][-1] > sign * luck[row["seed"]] for row in shared)
        own = sum(row["by_model"] for row in these) / max(1, sum(row["proposed"] for row in these))
        out.append(
            f"| {arm} | {model or 'none'} | {len(these)} | {statistics.median(row['curve'][0] for row in these):.3g} "
            f"| {middle:.3g} ({low:.3g} to {high:.3g}) | {'' if arm == 'random' else f'{wins} of {len(shared)}'} "
            f"| {'' if arm == 'random' else f'{own:.0%}'} | {statistics.median(row['calls'] for row in these):.0f} "
            f"| {statistics.median(row['tokens'] for row in these):,.0f} |"
        )
    return "\n".join(out)


def long_trace(count: int, kinds: int) -> Trace:
    """A traced loop: calls of some kinds, each with a value of its own, and one that fails at the end."""
    values, spans = {}, []
    for number in range(count):
        text = f"passage {number}: " + "some words of a text " * 8
        values[f"v{number}"] = Value("str", len(text), text)
        wrong = Raised("KeyError", "'title'", "rank.py", 31, "return row['title']") if number == count - 1 else None
        given = {"passage": f"v{number}", **({"before": f"v{number - 1}"} if number else {})}
        name, read = f"step{number % kinds}", ("limit",) if number % 3 == 0 else ()
        feeds = ((number - 1, True),) if number else ()
        output = "" if wrong else f"v{number}"
        spans.append(Span(number, None, "op", name, given, output, wrong, read, feeds))
    return Trace(tuple(spans), values)


def tokens() -> str:
    """Tokens of evidence (an upper bound) against the number of spans, beside what Trace's prompts take."""
    low, high = TRACE_TOKENS
    out = [
        "| spans | tokens, budget 1,000 | budget 3,000 | packed in | Trace, 31 to 60 an operation |",
        "|---|---|---|---|---|",
    ]
    for count in (10, 100, 1_000, 10_000):
        case = Case("row q1: 0", "a question", "the answer is wrong", long_trace(count, 5))
        sizes = [text_bound(packed([case], ["limit"], budget)) for budget in (1000, 3000)]
        began = time.perf_counter()
        packed([case], ["limit"], 3000)
        spent = 1000 * (time.perf_counter() - began)
        out.append(
            f"| {count:,} | {sizes[0]:,} | {sizes[1]:,} | {spent:.0f} ms | {low * count:,} to {high * count:,} |"
        )
    return "\n".join(out)


def reference(games: int = 1000) -> str:
    """Hits per shot of three policies, outside the sandbox, on other boards than the runs have."""
    out = ["| policy | hits per shot, mean | standard error |", "|---|---|---|"]
    for name, text in POLICIES.items():
        space: dict[str, Any] = {}
        exec(text, space)
        found = [game(space["plan"], f"reference {number}")[0] for number in range(games)]
        error = statistics.stdev(found) / games**0.5
        out.append(f"| {name} | {statistics.mean(found):.3f} | {error:.4f} |")
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["tokens", "numeric", "battleship", "table"])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    args = parser.parse_args()
    parts = args.parts or ["tokens", "numeric", "battleship"]
    if "tokens" in parts:
        print(tokens())
    worlds = list(WORLDS) if "table" in parts else [part for part in parts if part in WORLDS]
    for world in worlds:
        if "table" not in parts:
            asyncio.run(sweep(world, args.arms, args.seeds, args.model))
        print(f"\n{world}\n\n{table(world)}")
        if world == "battleship":
            print(f"\n{reference()}")


if __name__ == "__main__":
    main()
