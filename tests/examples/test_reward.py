"""Rewards as programs: the physics, the learner in the sandbox, and ICPL with a script that reads its prompts."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from agent.config import load
from agent.errors import PrerequisiteError
from agent.evaluation import Request
from agent.llm.types import ModelRequest
from agent.session import Session
from tests.examples.support import EXAMPLES, modules

FOLDER = EXAMPLES / "reward"
GOOD = (
    "def reward(position, speed, angle, spin, force):\n    return -10 * angle**2 - 0.1 * position**2 - 0.1 * spin**2\n"
)


@pytest.fixture
def example() -> Iterator[tuple[ModuleType, ...]]:
    with modules("reward", "cartpole", "terms", "person", "task") as found:
        yield found


def session(name: str = "problem.toml", model: Any = None, **overrides: Any) -> Session:
    names = {"evaluator.sandbox.unsafe": True} if name == "problem.toml" else {}
    setup = load(FOLDER / name, {**names, "models.propose": "scripted:terms" if model else "none", **overrides})
    return Session.of(setup, **({"model": model} if model else {}))


# The physics.


def test_the_equations_are_those_of_lagrange(example: Any) -> None:
    cartpole = example[0]
    m, p, half, g = cartpole.CART, cartpole.POLE, cartpole.HALF, cartpole.GRAVITY
    rng = np.random.default_rng(0)
    for x, v, angle, spin, force in rng.uniform(-1, 1, (20, 5)):
        # (m + p) a + p l (θ'' cos θ − θ'² sin θ) = F, and (4/3) l θ'' + a cos θ = g sin θ
        matrix = [[m + p, p * half * np.cos(angle)], [np.cos(angle), 4 / 3 * half]]
        right = [force + p * half * spin**2 * np.sin(angle), g * np.sin(angle)]
        speed, turn = np.linalg.solve(matrix, right)
        after = cartpole.step(np.array([[x], [v], [angle], [spin]]), force)[:, 0]
        dt = cartpole.STEP
        assert after == pytest.approx([x + dt * v, v + dt * speed, angle + dt * spin, spin + dt * turn])


def test_who_does_nothing_falls_and_who_steers_does_not(example: Any) -> None:
    cartpole = example[0]
    still, steered = cartpole.balanced([0, 0, 0, 0], 1), cartpole.balanced([0.1, 0.2, 2, 0.7], 1)
    assert still.mean() < 60 and steered.mean() > 400 and steered.max() <= 500
    assert cartpole.balanced([1e9, -1e9, 1e9, -1e9], 1).mean() < 60
    assert (cartpole.balanced([0, 0, 0, 0], 1) == still).all() and (cartpole.balanced([0, 0, 0, 0], 2) != still).any()


# The evaluator.


async def test_a_reward_is_worth_what_the_trained_policy_does(example: Any) -> None:
    made = session(**{"evaluator.sandbox.seconds": 20})
    executor, space = made.make_executor(made.settings), made.problem.space
    head = "def reward(position, speed, angle, spin, force):\n"
    programs = [GOOD, space.initial()["program"], head + "    return 1 / 0\n", head + "    return float('nan')\n"]
    try:
        good, start, broken, empty = [
            await executor.submit(Request(space.candidate({"program": program}), seed=3)) for program in programs
        ]
    finally:
        await executor.close()
    assert start.value["values"]["steps"] < 50 and good.value["values"]["steps"] > 200
    assert "falls in" in good.value["feedback"] and "angle" in good.value["feedback"]
    assert broken.failure is not None and "ZeroDivisionError" in broken.failure.message
    assert empty.failure is None and empty.value["values"]["steps"] < 150, "a reward without a number teaches nothing"


def test_a_policy_that_is_none_has_no_score(example: Any) -> None:
    task = example[3].Task()
    assert set(task.files({})) == {"harness.py", "cartpole.py"}, "nothing of the scorer lies beside the candidate"
    assert not set(task.inputs(1, "train")) & set(task.inputs(1, "confirm"))
    assert task.schema["minItems"] == task.schema["maxItems"] == 4


# Who writes.


def test_a_reward_of_terms_is_read_as_it_was_written(example: Any) -> None:
    terms, rng = example[1], random.Random(0)
    assert terms.terms_of((FOLDER / "reward.py").read_text()) == ["1 * -abs(position)"]
    for _ in range(200):
        before = terms.drawn(rng)
        assert terms.terms_of(terms.program(before)) == before
        after = terms.changed(before, rng)
        assert after and len(set(before) ^ set(after)) <= 2
        names: dict[str, Any] = {}
        exec(terms.program(after), names)
        assert isinstance(float(names["reward"](0.1, 0.2, 0.3, 0.4, 5.0)), float)


def test_the_script_goes_by_the_best_and_keeps_clear_of_the_worst(example: Any) -> None:
    terms = example[1]
    best, worst = terms.program(["1 * -abs(angle)", "0.1 * -abs(spin)"]), terms.program(["10 * -abs(force)"])
    for number in range(30):
        prompt = (
            f"The best of the last 6 versions:\nprogram =\n{best}\nThe worst of them:\nprogram =\n{worst}\n{number}"
        )
        made = terms.terms_of(terms.Writer().written(prompt))
        assert any("angle" in term or "spin" in term for term in made) and not any(
            "abs(force)" in term for term in made
        )
        assert terms.Writer(blind=True).written(prompt) == terms.program(terms.drawn(random.Random(prompt)))


async def test_icpl_shows_the_best_and_the_worst_of_a_round(example: Any, tmp_path: Path) -> None:
    prompts: list[str] = []

    class Heard(example[1].Writer):  # type: ignore[misc, name-defined]
        async def complete(self, request: ModelRequest, *, seed: int | None) -> Any:
            prompts.append(request.messages[0].text)
            return await super().complete(request, seed=seed)

    overrides = {"budget.evaluations": 40, "gate.exam_pairs": 6, "gate.suspicion": 0, "proposer.options": {"size": 2}}
    result = await session(model=Heard(), **overrides).run(tmp_path / "run")
    ranked = [text for text in prompts if "The worst of them:" in text]
    assert ranked and len(ranked) < len(prompts)
    by_program = {trial.candidate["program"].strip(): trial for trial in result.trials}
    pairs = [re.findall(r"def reward\(.*\n    return .*", text)[:2] for text in ranked]
    best, worst = ([by_program[pair[place]].values["steps"] for pair in pairs] for place in (0, 1))
    assert sum(best) > sum(worst), "what is shown as the best was put in order as the best"
    assert all(text.count("the pole falls in") >= 2 for text in ranked), "it is told what each of them did"


# A person.


def test_a_trial_is_drawn_until_the_pole_falls(example: Any) -> None:
    person = example[2]
    still, steered = person.drawn(np.zeros(4), 1), person.drawn(np.array([0.1, 0.2, 2, 0.7]), 1)
    assert re.fullmatch(r"(\.*[|/\\]\.*\n)+it falls after \d+ steps", still)
    assert len({len(line) for line in steered.splitlines()[:-1]}) == 1 and len(steered.splitlines()) > 10
    assert person.longer({}, steered, still) == 1 and person.longer({}, still, steered) == 0
    assert person.longer({}, still, still) == 0.5


async def test_a_person_is_asked_at_a_terminal_alone(example: Any, tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="terminal"):
        await session("person.toml", example[1].Writer()).run(tmp_path / "run")


async def test_a_program_may_stand_in_for_the_person(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "REWARD_UNSAFE", "1")
    swapped = "evaluator.metric_options.judge=person:longer"
    assert f"examples/reward/person.toml --model openai:MODEL --set {swapped}\n" in (FOLDER / "README.md").read_text()
    overrides = {**dict([swapped.split("=")]), "budget.evaluations": 30}
    try:
        result = await session("person.toml", example[1].Writer(), **overrides).run(tmp_path / "run")
    finally:
        example[2].sandbox().close()
    assert result.status in ("exact", "initial") and len(result.trials) > 3
    assert all(-1 <= trial.values["preference"] <= 1 for trial in result.trials if trial.values)
