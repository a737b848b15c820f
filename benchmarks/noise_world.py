"""200 candidates that are all equally good, on a noisy metric: what our gate says of them, and what GEPA's rule says.

    python benchmarks/noise_world.py [--seeds 5] [--candidates 200] [--planted 0.25] [--gepa PYTHON] [--json]

A scripted proposer writes one version after another. A row is right by chance, anew each time it is measured. Without
`--planted` every version has the same true accuracy, so every gain is a false one; with it, the version in the middle
is truly better by that much. `--gepa` names a Python that has the package `gepa`: there the same adapter, proposer and
rows go through `gepa.optimize`. Printed is the gain that each reports, beside the true one. Both sides may use the
same number of metric calls; ours holds a part of them back for the gate.

It ends with 1 when our side claims a gain that is not there more often than in 1 of 20 runs, or misses a planted one.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ACCURACY, ROWS, CALLS = 0.6, 100, 12_000
COMPONENT = "instructions"
SEED = {COMPONENT: "version 0"}


class World:
    """An adapter whose score is a coin, and the scripted proposer.

    Args:
        seed: Of the coins.
        candidates: How many versions are written.
        planted: By how much the version in the middle is truly better; 0 for a world of noise.
    """

    def __init__(self, seed: int, candidates: int, planted: float = 0.0) -> None:
        self.candidates, self.planted, self.made = candidates, planted, 0
        self._seed = seed
        self._times: dict[tuple[str, str], int] = {}

    def truth(self, text: str) -> float:
        """True accuracy of a version."""
        better = self.planted and text == f"version {self.candidates // 2}"
        return ACCURACY + self.planted if better else ACCURACY

    def evaluate(self, batch: Sequence[Any], candidate: Mapping[str, str], capture_traces: bool = False) -> Any:
        right = self.truth(candidate[COMPONENT])
        scores = [float(self._coin(candidate[COMPONENT], row) < right) for row in batch]
        shown: dict[str, Any] = {"outputs": ["right" if s else "wrong" for s in scores], "scores": scores}
        shown |= {"trajectories": [{"row": row, "score": s} for row, s in zip(batch, scores, strict=True)]}
        shown |= {"objective_scores": None, "num_metric_calls": None}
        return SimpleNamespace(**shown)

    def _coin(self, text: str, row: Any) -> float:
        """Uniform in [0, 1); another one each time that a version is measured on a row."""
        key = (text, str(row["question"]))
        self._times[key] = self._times.get(key, 0) + 1
        return random.Random(f"{self._seed} {key} {self._times[key]}").random()

    def make_reflective_dataset(
        self, candidate: Mapping[str, str], eval_batch: Any, components_to_update: Sequence[str]
    ) -> dict[str, list[dict[str, Any]]]:
        records = [{"Inputs": t["row"], "Feedback": f"score {t['score']}"} for t in eval_batch.trajectories]
        return dict.fromkeys(components_to_update, records)

    def propose(self, candidate: Any, reflective_dataset: Any, components_to_update: Any) -> dict[str, str]:
        self.made += 1
        return {COMPONENT: f"version {self.made}"}


def rows(split: str) -> list[dict[str, str]]:
    """Rows that have nothing to do with one another."""
    words = random.Random(split)
    return [{"question": "".join(words.choices("abcdefghijklmnopqrstuvwxyz ", k=60))} for _ in range(ROWS)]


def ours(seed: int, candidates: int, planted: float) -> dict[str, Any]:
    """The world in front of our search and gate."""
    sys.path.insert(0, str(ROOT))
    from agent.integrations.gepa import optimize

    world = World(seed, candidates, planted)
    with tempfile.TemporaryDirectory() as place:
        result = optimize(
            SEED,
            rows("train"),
            rows("val"),
            world,
            custom_candidate_proposer=world.propose,
            max_metric_calls=CALLS,
            run_dir=place,
            seed=seed,
            options={"report": False},
            checks=[lambda candidate: None if _number(candidate) <= candidates else "the script is at its end"],
        )
    best: Any = result.best_candidate
    return {
        "side": "ours",
        "status": result.status,
        "claimed": result.verdict["effect"] if result.status == "proven" and result.verdict else 0.0,
        "true": world.truth(best[COMPONENT]) - ACCURACY,
        "candidates": min(world.made, candidates),
        "metric_calls": result.total_metric_calls,
        "sentence": result.sentence,
    }


def _number(candidate: Mapping[str, Any]) -> int:
    return int(str(candidate[COMPONENT]).split()[-1])


def theirs(seed: int, candidates: int, planted: float) -> dict[str, Any]:
    """The same world through `gepa.optimize`, which must be importable here."""
    import gepa  # type: ignore[import-not-found]

    world = World(seed, candidates, planted)
    world.propose_new_texts = None  # type: ignore[attr-defined]
    result = gepa.optimize(
        seed_candidate=SEED,
        trainset=rows("train"),
        valset=rows("val"),
        adapter=world,
        custom_candidate_proposer=world.propose,
        max_metric_calls=CALLS,
        stop_callbacks=[lambda state: world.made >= candidates],
        seed=seed,
        logger=SimpleNamespace(log=lambda message: None),
    )
    scores = result.val_aggregate_scores
    return {
        "side": "gepa",
        "status": "reported",
        "claimed": scores[result.best_idx] - scores[0],
        "true": world.truth(result.best_candidate[COMPONENT]) - ACCURACY,
        "candidates": world.made,
        "metric_calls": result.total_metric_calls,
        "sentence": f"{len(scores)} candidates in the pool, best {scores[result.best_idx]:.2f}, seed {scores[0]:.2f}",
    }


def through_gepa(python: str, seed: int, candidates: int, planted: float) -> dict[str, Any]:
    """`theirs` in the Python that has gepa."""
    command = [python, __file__, "--side", "gepa", "--first", str(seed), "--seeds", "1", "--json"]
    command += ["--candidates", str(candidates), "--planted", str(planted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{python} cannot run gepa:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)["runs"][0]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="What is claimed of 200 candidates that are all equally good.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--planted", type=float, default=0.0)
    parser.add_argument("--gepa", metavar="PYTHON", help="a Python that has the package gepa")
    parser.add_argument("--side", choices=("ours", "gepa"), default="ours", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: list[dict[str, Any]] = []
    for seed in range(given.first, given.first + given.seeds):
        of = (seed, given.candidates, given.planted)
        found.append({"seed": seed, **(theirs(*of) if given.side == "gepa" else ours(*of))})
        if given.gepa:
            found.append({"seed": seed, **through_gepa(given.gepa, *of)})
    if given.json:
        print(json.dumps({"runs": found}))
    else:
        print(f"{'seed':>4}  {'side':<5} {'status':<9} {'claimed':>8} {'true':>6} {'candidates':>10} {'calls':>7}")
        for run in found:
            print(
                f"{run['seed']:>4}  {run['side']:<5} {run['status']:<9} {run['claimed']:>+8.3f} {run['true']:>+6.2f}"
                f" {run['candidates']:>10} {run['metric_calls']:>7}"
            )
    mine = [run for run in found if run["side"] == "ours"]
    false = sum(run["status"] == "proven" and run["true"] <= 0 for run in mine)
    missed = sum(run["status"] != "proven" for run in mine) if given.planted else 0
    return 1 if false > max(0, len(mine) // 20) or missed else 0


if __name__ == "__main__":
    sys.exit(main())
