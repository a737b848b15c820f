"""A gene screen in rounds: who finds more hits, and is it because of what the lab reported?

    python examples/gene-screen/screen.py --data FOLDER --seeds 5

FOLDER holds `Scharenberg22.csv` and `Scharenberg22.json` as BioDiscoveryAgent has them (or another screen, with
--screen). Without one the screen is made up. Every run is a `Study`: it asks for genes, the lab tells their scores.
Each picker also runs with shuffled reports, where scores and hits were dealt out to the genes at random. Who finds
no more with true reports than with shuffled ones has not learned from them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import screens

from agent import Budget, Demos, Objective, Output, Study

ROUNDS = 5
ARMS = {"random": None, "families": None, "model": "local:smollm2-135m"}


def run(
    screen: screens.Screen, picker: str, seed: int, *, shuffled: bool, runs: Path, model: Any, rounds: int = ROUNDS
) -> dict[str, Any]:
    """One screen: recall after each round, and how the genes were come by.

    Args:
        picker: Name of a class in pickers.py, in small letters.
        shuffled: Whether the lab reports somebody else's scores.
        model: As for `optimize`; None for pickers that ask none.
    """
    told = screen.shuffled(seed) if shuffled else screen
    pool = screen.genes
    picked: list[list[str]] = []
    with Study(
        name=f"{screen.name.lower()}-{picker}",
        space={"genes": Demos(pool, k=min(len(pool), rounds * screen.batch))},
        objectives=[Objective("found", "maximize")],
        description=f"The goal is to {screen.task}. A score is {screen.measured}.",
        deterministic=True,
        exclusive=True,  # no batch is chosen before the last one was reported
        budget=Budget(evaluations=rounds + 2),  # the empty list is told twice
        seed=seed,
        model=model,
        options={"proposer": f"pickers:{picker.capitalize()}", "options": {"batch": screen.batch}},
        runs=runs,
    ) as study:
        while (request := study.ask()) is not None:
            genes = [pool[place] for place in request.candidate["genes"]]
            before = picked[-1] if picked else []
            new = genes[len(before) :]
            if genes[: len(before)] != before or len(new) > screen.batch:
                study.tell(request, Output.failed("invalid", f"a round adds up to {screen.batch} genes to the last"))
                continue
            if new:
                picked.append(genes)
            report = {gene: [told.scores[gene], int(gene in told.hits)] for gene in new}
            study.tell(request, (len(told.hits & set(genes)), json.dumps(report) if new else ""))
    hows = [trial.rationale for trial in study.result.trials if trial.source == "model"]
    return {
        "screen": screen.name,
        "picker": picker,
        "shuffled": shuffled,
        "seed": seed,
        "recall": [len(screen.hits & set(genes)) / len(screen.hits) for genes in picked],
        "model": [sum(int(how.split(", ")[part].split()[0]) for how in hows) for part in range(3)] if hows else None,
        "calls": study.result.spent["calls"],
        "seconds": study.result.spent["seconds"],
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown: recall with true and shuffled reports, and the difference, paired by seed."""
    out = ["| picker | recall, true reports | recall, shuffled reports | difference | seeds |", "|---|---|---|---|---|"]
    for picker in dict.fromkeys(row["picker"] for row in rows):
        last = {(row["shuffled"], row["seed"]): row["recall"][-1] for row in rows if row["picker"] == picker}
        seeds = sorted({seed for _, seed in last})
        true, other = ([last[kind, seed] for seed in seeds] for kind in (False, True))
        cells = [spread(true), spread(other), spread([a - b for a, b in zip(true, other, strict=True)], "+")]
        out.append(f"| {picker} | {' | '.join(cells)} | {len(seeds)} |")
    return out


def spread(values: list[float], sign: str = "") -> str:
    """Mean and standard deviation, and the range."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    low, high = f"{min(values):{sign}.3f}", f"{max(values):{sign}.3f}"
    return f"{statistics.mean(values):{sign}.3f} ± {deviation:.3f} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the screens; else $TRUEGAIN_DATA/biodiscovery")
    parser.add_argument("--screen", default="Scharenberg22")
    parser.add_argument("--picker", action="append", choices=ARMS, help="default: all")
    parser.add_argument("--model", default=ARMS["model"], help="of the picker `model`, as provider:model")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--runs", type=Path, help="keep the run folders here")
    parser.add_argument("--json", action="store_true", help="every run as JSON")
    given = parser.parse_args()
    folder = given.data or (
        Path(os.environ["TRUEGAIN_DATA"]) / "biodiscovery" if "TRUEGAIN_DATA" in os.environ else None
    )
    if folder is not None and not (folder / f"{given.screen}.csv").is_file():
        parser.error(f"there is no {given.screen}.csv in {folder}")
    screen = screens.read(folder, given.screen) if folder is not None else screens.synthetic()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for picker in given.picker or ARMS:
            model = given.model if picker == "model" else None
            for seed in range(given.seeds):
                for shuffled in (False, True):
                    rows.append(
                        run(
                            screen,
                            picker,
                            seed,
                            shuffled=shuffled,
                            runs=given.runs or Path(temporary),
                            model=model,
                            rounds=given.rounds,
                        )
                    )
                    print(
                        f"{picker} seed {seed}{' shuffled' if shuffled else ''}: {rows[-1]['recall']}", file=sys.stderr
                    )
    if given.json:
        print(json.dumps(rows))
        return
    size = given.rounds * screen.batch
    print(
        f"{screen.name}: {len(screen.scores):,} genes, {len(screen.hits)} hits; {given.rounds} x {screen.batch} tested"
    )
    if screen.name == "synthetic":
        print("(a made-up screen: no data was named, see --data)")
    print(f"expected of random picks: {min(1.0, size / len(screen.scores)):.3f}\n")
    print("\n".join(table(rows)))
    counts = [sum(row["model"][part] for row in rows if row["model"]) for part in range(3)]
    if sum(counts):
        shares = [f"{count / sum(counts):.0%}" for count in counts]
        print(f"\nOf the model's genes {shares[0]} were named by it, {shares[1]} taken from a menu, {shares[2]} drawn.")


if __name__ == "__main__":
    main()
