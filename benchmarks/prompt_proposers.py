"""What each proposer of prompts gains on real tasks with the embedded model as task model and as proposer.

    python benchmarks/prompt_proposers.py --data ../shared/data        # hours; call it again until nothing is left
    python benchmarks/prompt_proposers.py table                        # prints what is in the results

Two tasks with two labels each: requests to play music or to add to a playlist (snips), and the sentiment of a sentence
(instruction induction). The rows are read by path, from --data or $TRUEGAIN_DATA, and are no part of this repository.
Each seed deals other rows to train (30), val (30) and test (40); the proposers of a seed have the same ones, the same
initial prompt, the same space (instruction, and up to four examples out of train) and the same number of evaluations.
"random demos" draws sets of labelled examples and keeps the instruction: what any search over examples has to beat. (It
is `bootstrap` for which every row counts as passed.)

`spo` and `icpl` get no labels. What they climb is the preference of a program that knows none either: an output that
names one of the two labels is better than one that does not, and a bare label is better than one in a sentence. Their
accuracy is measured after the end like everybody's: best and initial prompt on the test rows, which no run has seen,
with the 95 % interval of the mean difference (`agent.gate.wealth.interval`).

Every finished run is one line of the results file, and what is there is not run again. Replies of the model are kept in
the work folder (equal requests get equal replies), so a run that was cut off is soon where it was.
"seconds" are what its calls took, the wait for one another included, also where a reply was kept from another run.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent import Budget, Demos, Prompt, Text, optimize_async  # noqa: E402
from agent.evaluators.prompt import Rendering  # noqa: E402
from agent.gate.wealth import interval  # noqa: E402
from agent.llm.connect import connect  # noqa: E402
from agent.llm.types import Adapter, Completion, ModelRequest, Usage  # noqa: E402
from agent.metrics.base import load  # noqa: E402
from agent.results.result import Result  # noqa: E402
from agent.space import Candidate, Space  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "prompt-proposers.csv"
MODEL = "local:smollm2-135m"
SPLITS = {"train": 30, "val": 30, "test": 40}
"""Rows of each."""
EVALUATIONS = 160
CALLS = 20
"""Calls of the proposer at most, beyond one of the task model for each evaluation."""
SMALL = {"rows": 2, "tokens": 600}
"""Short prompts: the embedded model reads about a hundred tokens a second."""
RANDOM = "random demos"
ARMS: dict[str, dict[str, Any]] = {
    RANDOM: {"threshold": 0.0, "measure": 0},
    "bootstrap": {},
    "mipro": {"instructions": 4, **SMALL},
    "paraphrase": {},
    "claps": {"rows": 6},
    "opro": {},
    "crossover": SMALL,
    "instinct": {"pool": 8, "per_call": 4, "rows": 2},
    "reflect": {"attempts": 4, **SMALL},
    "spo": {"attempts": 4, **SMALL},
    "icpl": {"size": 2, "rows": 1},
}
BLIND = ("spo", "icpl")
"""Those that get no labels."""


@dataclass(frozen=True)
class Task:
    """A task with two labels.

    Args:
        labels: What may be answered.
        instruction: The initial one.
        names: What a row and its answer are called in the template.
    """

    labels: tuple[str, str]
    instruction: str
    names: tuple[str, str]

    @property
    def prompt(self) -> Prompt:
        """The program."""
        what, reply = self.names
        shown = f"{what}: {{question}}\n{reply}:"
        return Prompt(
            f"{{instruction}}\n\n{{demos}}{shown}", demos="demos", demo=f"{shown} {{answer}}\n\n", max_output_tokens=5
        )


TASKS = {
    "snips": Task(
        ("play", "add"),
        "You are a helpful assistant with many years of experience. Read the request of the user with care. "
        "Does it ask to play music, or to add something to a playlist? Answer with one word, play or add.",
        ("Request", "Answer (play or add)"),
    ),
    "sentiment": Task(
        ("positive", "negative"),
        "You are a helpful assistant with many years of experience. Read the sentence of a film review with care. "
        "Does it like the film or not? Answer with one word, positive or negative.",
        ("Review", "Sentiment (positive or negative)"),
    ),
}
INTENTS = {"PlayMusic": "play", "AddToPlaylist": "add"}


def rows(task: str, data: Path) -> Iterator[tuple[str, str]]:
    """Question and answer, of all rows that are there."""
    if task == "snips":
        for part in ("train", "test"):
            for line in (data / "snips" / f"{part}.jsonl").read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                if row["target"] in INTENTS:
                    yield row["input"], INTENTS[row["target"]]
        return
    found = json.loads((data / "instruction_induction" / f"{task}.json").read_text(encoding="utf-8"))
    for row in (*found["train"], *found["test"]):
        yield row["input"], row["targets"][0]


def dealt(task: str, data: Path, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Rows by split."""
    known = [
        {"id": f"{task}-{number}", "question": question, "choices": list(TASKS[task].labels), "answer": answer}
        for number, (question, answer) in enumerate(dict(rows(task, data)).items())
    ]
    random.Random(f"{task} {seed}").shuffle(known)
    deal = iter(known)
    return {name: list(islice(deal, count)) for name, count in SPLITS.items()}


class Kept:
    """A model whose replies are kept in a file, with the seconds that they took.

    Args:
        model: Who is asked what is not there.
        path: JSON lines, appended.
    """

    def __init__(self, model: Adapter, path: Path) -> None:
        self.model, self.path = model, path
        self.known: dict[str, dict[str, Any]] = {}
        self.seconds = 0.0
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    kept = json.loads(line)
                except ValueError:
                    continue  # cut off by a kill
                self.known[kept["key"]] = kept

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Completion:
        """The reply."""
        greedy = request.temperature == 0 or request.embed
        key = f"{request.key(MODEL)} {None if greedy else seed}"
        if key not in self.known:
            began = time.monotonic()
            reply = await self.model.complete(request, seed=seed)
            taken = time.monotonic() - began
            kept = {"key": key, "text": reply.text, "stop": reply.stop, "usage": asdict(reply.usage), "seconds": taken}
            self.known[key] = kept
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(kept) + "\n")
        found = self.known[key]
        self.seconds += found["seconds"]
        return Completion(found["text"], stop=found["stop"], usage=Usage(**found["usage"]), model=MODEL)

    async def close(self) -> None:
        """The model stays, for the next run."""


def bare(labels: tuple[str, str], output: str) -> int:
    """How much an output is an answer at all: 2 for a bare label, 1 for one in a sentence, 0 for none or both."""
    text = output.strip().strip(".").lower()
    return 2 if text in labels else int(sum(label in text for label in labels) == 1)


async def run(arm: str, task: str, seed: int, splits: Mapping[str, Any], model: Kept, folder: Path) -> Result:
    """One run, in a folder of its own, so that no error level is shared."""
    about = TASKS[task]

    def better(row: Mapping[str, Any], one: str, other: str) -> float:
        first, second = bare(about.labels, one), bare(about.labels, other)
        return 0.5 + 0.5 * ((first > second) - (first < second))

    def unlabelled(row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: row[name] for name in ("id", "question")}

    train, val, scored = splits["train"], splits["val"], {"metric": "choice_match", "metric_options": {}}
    if arm in BLIND:
        fine, poor = about.labels[0], "I do not know."
        planted = [{"row": unlabelled(train[0]), "good": fine, "bad": poor}]
        wish = f"The answer is the bare word {about.labels[0]} or {about.labels[1]}, whichever is right."
        scored = {
            "metric": "preference",
            "metric_options": {"requirements": wish, "judge": better, "planted": planted},
        }
        val = [unlabelled(row) for row in val]
    return await optimize_async(
        about.prompt,
        space=space(task, train),
        data={"train": [unlabelled(row) for row in train] if arm in BLIND else train, "val": val},
        model={"propose": model, "task": model, "embed": model} if arm == "instinct" else model,
        budget=Budget(evaluations=EVALUATIONS, calls=EVALUATIONS + CALLS),
        seed=seed,
        deterministic=True,
        folder=folder,
        runs=folder / "runs",
        options={"proposer": "bootstrap" if arm == RANDOM else arm, "options": ARMS[arm]},
        **scored,
    )


def space(task: str, train: list[dict[str, Any]]) -> Space:
    """What may change."""
    pool = tuple({name: row[name] for name in ("id", "question", "answer")} for row in train)
    return Space({"instruction": Text(TASKS[task].instruction, max_chars=600), "demos": Demos(pool, 4)})


async def accuracy(
    task: str, candidate: Candidate, known: Space, test: list[dict[str, Any]], model: Kept
) -> list[float]:
    """Whether each row is answered right."""
    rendering, metric = Rendering(TASKS[task].prompt, known, "answer"), load("choice_match")
    replies = [await model.complete(rendering.request(candidate, row), seed=seed) for seed, row in enumerate(test)]
    return [metric.score(reply.text, row)[0] for reply, row in zip(replies, test, strict=True)]


async def measured(arm: str, task: str, seed: int, data: Path, model: Kept) -> dict[str, Any]:
    """A line of the results."""
    splits, model.seconds = dealt(task, data, seed), 0.0
    with tempfile.TemporaryDirectory() as folder:
        result = await run(arm, task, seed, splits, model, Path(folder))
        cost = result.cost
    seconds, known = model.seconds, space(task, splits["train"])
    before = await accuracy(task, result.initial, known, splits["test"], model)
    after = await accuracy(task, result.best, known, splits["test"], model)
    gains = [new - old for new, old in zip(after, before, strict=True)]
    low, high = interval(gains)
    best = next(trial for trial in result.trials if trial.candidate == result.best)
    goal = result.problem.objective.name
    return {
        "task": task,
        "seed": seed,
        "arm": arm,
        "status": result.status,
        "train": round((best.values or {}).get(goal, 0.0), 3),
        "rows": best.count,
        "test_initial": statistics.fmean(before),
        "test_best": statistics.fmean(after),
        "gain": round(statistics.fmean(gains), 4),
        "low": round(low, 3),
        "high": round(high, 3),
        "candidates": len(result.trials) - 1,
        "evaluations": result.spent["evaluations"],
        "calls": cost.get("propose", {}).get("calls", 0),
        "embed": cost.get("embed", {}).get("calls", 0),
        "seconds": round(seconds),
        "source": best.source,
        "reason": result.reason,
        "instruction": result.best["instruction"],
        "demos": json.dumps(result.best["demos"]),
    }


def kept(path: Path) -> list[dict[str, str]]:
    """The results so far."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


async def all_of(given: argparse.Namespace) -> None:
    """Every run that is missing, seed after seed, so that what is cut off at the end is the last seed."""
    given.work.mkdir(parents=True, exist_ok=True)
    given.results.parent.mkdir(parents=True, exist_ok=True)
    adapter = connect(MODEL)
    model = Kept(adapter, given.work / "replies.jsonl")
    until = time.monotonic() + 60 * given.minutes
    try:
        for seed in range(given.seeds):
            for task in given.tasks:
                for arm in given.arms:
                    done = {(row["task"], row["seed"], row["arm"]) for row in kept(given.results)}
                    if (task, str(seed), arm) in done:
                        continue
                    if time.monotonic() > until:
                        return
                    row = await measured(arm, task, seed, given.data, model)
                    new = not given.results.is_file()
                    with given.results.open("a", newline="", encoding="utf-8") as file:
                        writer = csv.DictWriter(file, list(row))
                        if new:
                            writer.writeheader()
                        writer.writerow(row)
                    print(*(f"{name}={row[name]}" for name in list(row)[:18]), flush=True)
    finally:
        await adapter.close()


def table(path: Path) -> None:
    """The results as Markdown."""
    found = kept(path)
    heads = ("task, seed", "proposer", "status", "train (rows)", "test: initial, best", "gain (95 % interval)")
    heads += ("candidates", "evaluations", "calls", "seconds")
    print("|", " | ".join(heads), "|\n|" + "---|" * len(heads))
    order = list(ARMS)
    for row in sorted(found, key=lambda row: (row["task"], row["seed"], order.index(row["arm"]))):
        cells = (
            f"{row['task']}, {row['seed']}",
            f"`{row['arm']}`",
            row["status"],
            f"{float(row['train']):.2f} ({row['rows']})",
            f"{float(row['test_initial']):.2f}, {float(row['test_best']):.2f}",
            f"{float(row['gain']):+.2f} ({float(row['low']):+.2f} to {float(row['high']):+.2f})",
            row["candidates"],
            row["evaluations"],
            row["calls"] + (f" + {row['embed']} for vectors" if row["embed"] != "0" else ""),
            row["seconds"],
        )
        print("|", " | ".join(cells), "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("run", "table"), default="run")
    data = os.environ.get("TRUEGAIN_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(data), help="folder with snips and instruction_induction")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--minutes", type=float, default=600.0, help="no run is begun after so many")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "prompt-proposers", help="where replies are kept")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.what == "table":
        return table(given.results)
    for name in ("snips/train.jsonl", "instruction_induction/sentiment.json"):
        if not (given.data / name).is_file():
            raise SystemExit(f"there is no {given.data / name}; name the folder with --data")
    asyncio.run(all_of(given))


if __name__ == "__main__":
    main()
