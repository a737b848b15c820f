"""What each example reaches: the default proposer, random and coordinate search at equal budget.

    python benchmarks/examples.py --example sqlite --seeds 3

Runs are ordinary ones, one after the other, in a temporary folder; the table gives the median over the
seeds and the range. For the scikit-learn examples the held-out accuracy of the best candidate stands
beside the cross-validated one that selected it.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import importlib.util
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from agent.cli.run import session_of
from agent.config import load
from agent.results.result import Result

EXAMPLES = {"sqlite": "sqlite", "forest": "sklearn/forest", "mlp": "sklearn/mlp", "starter": "starter"}
FOLDER = Path(__file__).resolve().parents[1] / "examples"


def run(example: str, proposer: str, seed: int, evaluations: int | None) -> Result:
    """One run of an example."""
    overrides: dict[str, Any] = {"proposer.name": proposer, "run.seed": seed, "budget.seconds": 3600.0}
    if evaluations is not None:
        overrides["budget.evaluations"] = evaluations
    setup = load(FOLDER / EXAMPLES[example], overrides)
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(session_of(setup).run(Path(folder) / "run"))


def heldout(example: str, candidate: Any) -> float | None:
    """The held-out accuracy of a candidate, where the example has one."""
    spec = importlib.util.spec_from_file_location(f"example_{example}", FOLDER / EXAMPLES[example] / "evaluate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return float(module.heldout(candidate)["test_accuracy"]) if hasattr(module, "heldout") else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--example", choices=EXAMPLES, action="append", help="default: all with a model's help")
    parser.add_argument("--proposer", action="append", help="default: default, random, coordinate")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, help="default: the example's own budget")
    parser.add_argument("--csv", type=Path, help="also write every run as a row of this file")
    given = parser.parse_args()
    rows = []
    for example in given.example or ["sqlite", "forest", "mlp"]:
        for proposer in given.proposer or ["default", "random", "coordinate"]:
            for seed in range(given.seeds):
                result = run(example, proposer, seed, given.evaluations)
                goal = result.problem.objective
                best = next(t for t in result.trials if t.id == result.best.id)
                verdict = result.verdict or {}
                rows.append(
                    {
                        "example": example,
                        "proposer": proposer,
                        "seed": seed,
                        "value": verdict.get("after", (best.values or {}).get(goal.name)),
                        "ratio": verdict.get("ratio"),
                        "status": result.status,
                        "heldout": heldout(example, dict(result.best)),
                        "heldout_initial": heldout(example, dict(result.initial)),
                        "evaluations": result.spent["evaluations"],
                        "calls": result.spent["calls"],
                        "seconds": result.spent["seconds"],
                    }
                )
                print(rows[-1], file=sys.stderr)
    if given.csv:
        with given.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    print("| example | proposer | value: median (range) | times better | held-out | status | model calls | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for key in dict.fromkeys((row["example"], row["proposer"]) for row in rows):
        group = [row for row in rows if (row["example"], row["proposer"]) == key]
        cells = [spread([row[name] for row in group]) for name in ("value", "ratio", "heldout")]
        statuses = ", ".join(
            f"{sum(r['status'] == s for r in group)} {s}" for s in sorted({r["status"] for r in group})
        )
        tail = [spread([row[name] for row in group], 3) for name in ("calls", "seconds")]
        print("| " + " | ".join([*key, *cells, statuses, *tail]) + " |")


def spread(values: list[Any], digits: int = 4) -> str:
    """Median and range of the values that are known."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    low, high = f"{min(known):.{digits}g}", f"{max(known):.{digits}g}"
    middle = f"{statistics.median(known):.{digits}g}"
    return middle if low == high else f"{middle} ({low} to {high})"


if __name__ == "__main__":
    main()
