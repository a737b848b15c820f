"""Optimizer discovery: the language, equal programs, the funnel, the networks, and a run with its verdict."""

from __future__ import annotations

import asyncio
import json
import math
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.config import load
from agent.errors import BudgetExceeded, ConfigError
from agent.history import History
from agent.session import Session
from tests.examples.support import EXAMPLES, modules

FOLDER = EXAMPLES / "optimizer-discovery"
KNOWN = ("update", "sgd", "lion")


@pytest.fixture
def example() -> Iterator[Any]:
    names = ("language", "discover", "nets", "worlds", "task", "rows", "ops")
    with modules("optimizer-discovery", *names) as found:
        yield SimpleNamespace(**dict(zip(names, found, strict=True)))


def known(name: str) -> str:
    return (FOLDER / f"{name}.py").read_text(encoding="utf-8")


def rows(split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", KNOWN)
def test_a_program_is_read_and_written_and_does_what_its_text_says(example: Any, name: str) -> None:
    program = example.language.parsed(known(name))
    assert example.language.text(program) == known(name)
    update = example.rows.program(known(name))
    rng = np.random.default_rng(1)
    w, g, m, v = (rng.normal(size=(3, 4)) for _ in range(4))
    lr, decay = np.full((3, 1), 0.1), np.full((3, 1), 0.3)
    space = example.language.run(program, {"w": w, "g": g, "m": m, "v": v, "lr": lr, "decay": decay, "step": 3})
    for mine, theirs in zip((w - space["u"], space["m"], space["v"]), update(w, g, m, v, lr, decay, 3), strict=True):
        assert np.array_equal(mine, theirs)


def test_the_initial_program_is_adamw(example: Any) -> None:
    update = example.rows.program(known("update"))
    w, m, v = np.array([[1.0, -2.0]]), np.zeros((1, 2)), np.zeros((1, 2))
    first, second, expected = np.zeros(2), np.zeros(2), w[0].copy()
    for step, g in enumerate(([0.5, -0.1], [0.2, 0.4], [-1.0, 0.3]), 1):
        w, m, v = update(w, np.array([g]), m, v, np.array([[0.01]]), np.array([[0.1]]), step)
        first = 0.9 * first + 0.1 * np.array(g)
        second = 0.999 * second + 0.001 * np.array(g) ** 2
        moved = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        expected = expected - 0.01 * (moved + 0.1 * expected)
    assert w[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("def update(w, g, m, v, lr, decay, step):\n    import os\n    return w - u, m, v\n", "one operation"),
        ("def update(w, g):\n    u = g * g\n    return w - u, m, v\n", "begins with"),
        ("def update(w, g, m, v, lr, decay, step):\n    u = g * c\n    return w - u, m, v\n", "language"),
        ("def update(w, g, m, v, lr, decay, step):\n    u = open(g)\n    return w - u, m, v\n", "language"),
        ("def update(w, g, m, v, lr, decay, step):\n    u = g * g\n    return w + u, m, v\n", "language"),
        ("def update(w, g, m, v, lr, decay, step):\n    u = g.__class__\n    return w - u, m, v\n", "one operation"),
        ("import os\n\ndef update(w, g, m, v, lr, decay, step):\n    u = g * g\n    return w - u, m, v\n", "language"),
    ],
)
def test_what_is_not_in_the_language_is_refused(example: Any, broken: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        example.language.parsed(broken)


def test_changes_at_random_stay_in_the_language(example: Any) -> None:
    language, rng = example.language, random.Random(5)
    program = language.parsed(known("update"))
    lengths = set()
    for _ in range(400):
        program = language.mutated(rng, program)
        lengths.add(len(program))
        assert language.parsed(language.text(program)) == program
    assert len(lengths) > 4 and max(lengths) <= language.MOST
    assert all(language.valid(language.drawn(rng, length)) for length in (3, 8, 12))


def test_programs_that_do_the_same_are_one(example: Any) -> None:
    language = example.language
    body = known("update")
    whole = language.behaviour(language.parsed(body))
    same = body.replace("    u = a / b\n", "    c = w - g\n    u = a / b\n")
    assert same != body and language.behaviour(language.parsed(same)) == whole
    assert language.text(language.cleaned(language.parsed(same))) == body  # and what changes nothing is taken out
    for other in (body.replace("0.999,", "0.998,"), body.replace("u = a / b", "u = a * b"), known("lion")):
        assert language.behaviour(language.parsed(other)) not in ("", whole)
    assert all(len(language.cleaned(language.parsed(known(n)))) == len(language.parsed(known(n))) for n in KNOWN)


@pytest.mark.parametrize("line", ["u = w * decay", "u = g - g", "u = g / c", "u = lr * lr"])
def test_what_no_gradient_moves_is_useless(example: Any, line: str) -> None:
    text = f"{example.language.HEAD}\n    c = g - g\n    {line}\n{example.language.END}"
    assert example.language.behaviour(example.language.parsed(text)) == ""


@pytest.mark.parametrize("kind", ["quadratic", "linear", "logistic", "mlp", "autoencoder", "softmax"])
def test_gradients_are_those_of_the_losses(example: Any, kind: str) -> None:
    row = {"kind": kind, "features": 4, "hidden": 3, "steps": 5, "batch": 8, "seed": "gradient"}
    world = example.worlds.world(row)
    given, (x, y) = world["given"], world["held"]
    rest = (x, y, given["hidden"], given["outputs"])
    w = np.random.default_rng(0).normal(size=(2, len(given["start"])))
    found, near = example.nets.gradient(kind, w, *rest), np.empty_like(w)
    for place in range(w.shape[1]):
        up, down = w.copy(), w.copy()
        up[:, place] += 1e-6
        down[:, place] -= 1e-6
        near[:, place] = (example.nets.losses(kind, up, *rest) - example.nets.losses(kind, down, *rest)) / 2e-6
    ratio = found[np.abs(near) > 1e-4] / near[np.abs(near) > 1e-4]
    assert ratio == pytest.approx(np.full(len(ratio), 1.0), rel=1e-3)


def test_splits_share_no_task_and_val_has_kinds_that_the_search_never_sees(example: Any) -> None:
    found = {split: rows(split) for split in ("train", "val", "test")}
    seeds = [row["seed"] for part in found.values() for row in part]
    assert len(set(seeds)) == len(seeds) == 184
    kinds = {split: {kind for row in part for kind in row["kinds"]} for split, part in found.items()}
    assert kinds["val"] == kinds["test"] == kinds["train"] | {"linear", "softmax"} and len(kinds["train"]) == 4
    assert max(row["features"] for row in found["train"]) < max(row["features"] for row in found["test"])
    assert {row["steps"] for row in found["test"]} == {300}
    for rung in example.discover.RUNGS:
        assert any(row["id"].startswith(rung) for row in found["train"])


def test_what_adamw_and_sgd_come_to_is_in_the_rows(example: Any) -> None:
    for row in (rows("train")[1], rows("val")[3]):
        for rival, file in (("adamw", "update"), ("sgd", "sgd")):
            found = example.rows.loss(row, 1, example.rows.program(known(file)))
            assert found == pytest.approx(row[rival][1], rel=1e-3)


def test_a_program_never_sees_the_rows_that_score_it(example: Any) -> None:
    task, row = example.task.Task(), rows("val")[1]
    given = task.inputs(0, "train", row)
    assert len(given) == len(row["kinds"]) and task.inputs(0, "smoke", row) == []
    asked, held = task.question(given[0]), example.task.made(row, 0)["held"]
    assert "seed" not in asked and "adamw" not in asked
    seen = {tuple(line) for line in asked["x"].tolist()}
    assert not any(tuple(line) in seen for line in held[0].tolist())


def test_scores_are_level_for_adamw_and_the_worst_for_what_diverges(example: Any) -> None:
    task, row = example.task.Task(), rows("train")[1]
    (given, *_) = task.inputs(0, "train", row)
    runs, size = len(example.worlds.GRID), len(task.question(given)["start"])
    lost = {"weights": np.zeros((runs, size)), "fine": [False] * runs}
    assert task.score(given, lost) == {"gain": -0.5, "over_sgd": -0.5}
    hostile = {"weights": np.full((runs, size), math.inf), "fine": [True] * runs}
    assert task.score(given, hostile)["gain"] == -0.5
    for wrong in (np.zeros((runs, size + 1)), np.zeros((1, size)), [0.0] * runs):
        with pytest.raises(ValueError, match="weights of shape"):
            task.score(given, {"weights": wrong, "fine": [True] * runs})


class _Runs:
    """Stands for a run: what a program is worth is made up, and every look is counted."""

    def __init__(self, example: Any, worth: Any, limit: float = math.inf) -> None:
        self.problem = load(FOLDER).problem
        initial = self.problem.initial()
        self.history = History(initial, self.problem.objective)
        self.rng, self.memory, self.options = random.Random(0), None, {}
        self.exhausted, self.rejections, self.looks, self.limit = False, [], [], limit
        self.worth, self.language = worth, example.language

    async def look(self, values: Any, examples: list[str], *, key: str) -> Any:
        if len(self.looks) >= self.limit:
            raise BudgetExceeded("evaluations", 0, 0, message="nothing is left")
        self.looks.append((values["program"], examples[0]))
        gain = self.worth(self.language.parsed(values["program"]))
        return SimpleNamespace(rows=[SimpleNamespace(values={"gain": gain})] * len(examples))

    def reject(self, reason: str, source: str, text: str = "") -> None:
        self.rejections.append(reason)


def test_no_two_programs_that_do_the_same_are_sent_into_the_funnel(example: Any) -> None:
    run = _Runs(example, lambda program: -0.01 * len(program))
    for _ in range(4):
        asyncio.run(example.discover.RegularisedEvolution().propose(run, 1))
        run.memory = json.loads(json.dumps(run.memory))  # as it is journalled
    assert run.memory["equal"] > 0 and run.memory["useless"] > 0
    assert len(set(run.memory["seen"])) == len(run.memory["seen"]) == run.memory["measured"]
    assert len(run.memory["alive"]) <= example.discover.Options().population
    assert len(run.memory["results"]["small"]) < len(run.memory["results"]["tiny"]) == run.memory["measured"]


def test_the_oldest_dies_however_good_it_is(example: Any) -> None:
    initial = load(FOLDER).problem.initial()["program"]
    run = _Runs(example, lambda program: 0.4 if example.language.text(program) == initial else -0.1)
    memory = example.discover.Memory()
    work = example.discover._Work(run, example.discover.Options(population=4), memory)
    programs = [example.language.parsed(known(name)) for name in ("update", "sgd", "lion")]
    asyncio.run(work.climbed(programs))
    assert len(memory.alive) == 3 and memory.alive[0] == [initial, 0.4]
    asyncio.run(work.climbed([example.language.parsed(initial.replace("0.999,", f"0.{k},")) for k in (97, 98)]))
    assert len(memory.alive) == 4 and initial not in [text for text, _ in memory.alive]


def test_statements_that_are_worth_nothing_are_removed_before_the_race(example: Any) -> None:
    needed = {"root", "/"}

    def worth(program: Any) -> float:
        return 0.1 * len(needed & {item.operation for item in program})

    run, language, memory = _Runs(example, worth), example.language, example.discover.Memory()
    adamw = language.parsed(known("update"))
    work = example.discover._Work(run, example.discover.Options(), memory)
    gain, program = asyncio.run(work.removed(worth(adamw), adamw))
    assert gain == 0.2 and needed <= {item.operation for item in program}
    assert memory.removed == len(adamw) - len(program) > 4
    for shorter in language.shorter(program):  # nothing more can go
        assert language.behaviour(shorter) == "" or worth(shorter) < 0.2


def test_when_nothing_is_left_to_pay_with_the_search_ends_and_says_so(example: Any) -> None:
    run = _Runs(example, lambda program: 0.0, limit=0)
    assert asyncio.run(example.discover.RegularisedEvolution().propose(run, 1)) == []
    assert run.exhausted and "nothing is left" in run.rejections[0]


def test_a_foreign_initial_program_is_told_before_anything_is_paid(example: Any, tmp_path: Path) -> None:
    for file in FOLDER.glob("*"):
        if file.is_file():
            shutil.copy(file, tmp_path)
    (tmp_path / "update.py").write_text("def update(w):\n    return w\n")
    problem = load(tmp_path).problem
    with pytest.raises(ConfigError, match="the initial program: a program begins with"):
        example.discover.RegularisedEvolution().forecast(problem, 10, {})


@pytest.mark.parametrize("proposer", ["Mutants", "RandomPrograms"])
def test_what_evolution_has_to_beat_goes_through_the_same_funnel(example: Any, proposer: str) -> None:
    run = _Runs(example, lambda program: -0.01 * len(program))
    made = next(p for _ in range(30) for p in asyncio.run(getattr(example.discover, proposer)().propose(run, 1)))
    assert made.source in ("mutants", "random-programs") and "programs were measured" in made.rationale
    assert example.language.parsed(made.values["program"])
    rungs = [row.partition("-")[0] for _, row in run.looks]
    assert rungs.count("small") < rungs.count("tiny")


async def test_a_run_ends_with_a_verdict_of_the_gate_on_held_out_tasks(tmp_path: Path) -> None:
    overrides = {"evaluator.sandbox.unsafe": True, "budget.evaluations": 110, "gate.report": False}
    with modules("optimizer-discovery"):
        result = await Session.of(load(FOLDER, overrides)).run(tmp_path / "one")
    assert result.status in ("proven", "unproven", "initial") and result.sentence
    assert 40 < result.spent["evaluations"] <= 110 and result.spent["calls"] == 0
    assert result.reason in ("exhausted", "evaluations"), result.sentence
    assert {trial.source for trial in result.trials} <= {"initial", "evolution"}


def test_evolution_that_is_stuck_begins_anew_from_the_best_so_far(example: Any) -> None:
    initial = load(FOLDER).problem.initial()["program"]
    run = _Runs(example, lambda program: 0.4 if example.language.text(program) == initial else -0.1)
    run.options = {"population": 4, "patience": 8}
    asyncio.run(example.discover.RegularisedEvolution().propose(run, 1))
    assert run.memory["alive"] == [[initial, 0.4]] and "did better" in run.rejections[-1]
