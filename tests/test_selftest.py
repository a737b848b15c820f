"""`truegain gate selftest`: it passes here, and each way to break the gate turns it red."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent import Float, Gate, Objective, Problem, Race, Space, optimize
from agent.errors import ConfigError, EvaluatorError
from agent.evaluators.function import FunctionEvaluator
from agent.gate.owntest import own
from agent.gate.race import Ruling
from agent.gate.selftest import Check, by_exams, by_runs
from agent.ledger import Budget
from agent.problem import Example
from agent.session import Session
from agent.settings import Settings
from tests.cli_helpers import call, folder

WORLDS = 40


def quiet(_: str) -> None:
    return None


def failed(checks: list[Check]) -> set[str]:
    """Names of the failing checks; each says what it means and what to do."""
    bad = [check for check in checks if not check.passed]
    assert all(check.meaning and check.fix for check in bad)
    return {check.name for check in bad}


def exams(gate: type[Gate] = Gate, race: Race | None = None) -> set[str]:
    return failed(asyncio.run(by_exams(gate, race or Race(), WORLDS, quiet)))


# Gates that are broken on purpose.


class Generous(Gate):
    """Accepts anything."""

    async def examine(self, *given: Any) -> bool:
        await super().examine(*given)
        return True


class Deaf(Gate):
    """Accepts nothing."""

    async def examine(self, *given: Any) -> bool:
        await super().examine(*given)
        return False


class Negating(Gate):
    """Counts every score the other way round."""

    async def examine(self, plan: Any, champion: Any, released: Any, measure: Callable[[Any, str], float]) -> bool:
        return await super().examine(plan, champion, released, lambda candidate, row: 1 - measure(candidate, row))


class OnlyMaximizes(Gate):
    """Ignores the direction."""

    def __init__(self, rows: Any, goals: Objective, **more: Any) -> None:
        super().__init__(rows, replace(goals, direction="maximize"), **more)


class Swapped(Gate):
    """Confuses the two candidates."""

    async def examine(self, plan: Any, champion: Any, released: Any, measure: Any) -> bool:
        return await super().examine(plan, released, champion, measure)


def test_the_gate_passes_in_made_up_worlds() -> None:
    assert exams() == set()


@pytest.mark.parametrize(
    ("gate", "names"),
    [
        (Generous, {"A/A", "planted loss"}),
        (Deaf, {"planted gain"}),
        (Negating, {"planted gain", "planted loss", "polarity"}),
        (OnlyMaximizes, {"polarity"}),
        (Swapped, {"planted gain", "planted loss", "polarity"}),
    ],
)
def test_a_broken_gate_fails_and_the_right_questions_say_so(gate: type[Gate], names: set[str]) -> None:
    assert exams(gate) == names


def test_a_race_that_promotes_nobody_fails_the_planted_gain() -> None:
    class Stubborn(Race):
        def update(self, differences: Any, longest: int) -> Ruling:
            return Ruling("drop", "no")

    assert exams(race=Stubborn()) == {"planted gain"}


def test_whole_runs_pass() -> None:
    assert failed(by_runs(optimize)) == set()


def test_whole_runs_that_go_the_wrong_way_fail() -> None:
    def backwards(evaluate: Any, **given: Any) -> Any:
        (goal,) = given.pop("objectives")
        turned = replace(goal, direction="maximize")  # whatever was asked for
        return optimize(evaluate, objectives=[turned], **given)

    def credulous(evaluate: Any, **given: Any) -> Any:
        """A run that claims whatever it comes across."""
        best = {"x": 0.2}
        return SimpleNamespace(status="proven", best=best, released=best, initial={}, verdict={"effect": 0.1})

    assert failed(by_runs(backwards)) == {"polarity, whole run"}
    assert failed(by_runs(credulous)) == {"A/A, whole runs", "planted loss, whole run"}


def test_whole_runs_that_claim_nothing_fail_the_planted_gain() -> None:
    def shy(evaluate: Any, **given: Any) -> Any:
        initial = {"x": given["space"]["x"].default}
        return SimpleNamespace(status="initial", best=initial, released=initial, initial=initial, verdict=None)

    assert "planted gain, whole run" in failed(by_runs(shy))


# On a user's own evaluator.


def session(evaluate: Callable[..., Any], rows: int = 0, **more: Any) -> Session:
    data = tuple(Example(f"r{i}", {"id": f"r{i}", "q": random.Random(i).random()}) for i in range(rows))
    goals = (more.pop("goal", Objective("score", "maximize", low=0, high=1)),)
    known = {"target": "population" if rows else "suite", "deterministic": False, **more}
    problem = Problem("own", Space({"x": Float(0, 1)}), FunctionEvaluator(evaluate, names=("score",)), goals,
                      data=data, **known)  # fmt: skip
    return Session(problem, Settings(executor="inline"), Budget(evaluations=500))


def asked(chosen: Session, evaluations: int | None = None, gate: type[Gate] = Gate) -> set[str]:
    return failed(asyncio.run(own(chosen, evaluations, quiet, gate=gate)))


def noisy(candidate: Any, row: Any, seed: int) -> float:
    return float(random.Random(f"{row['id']} {seed}").random() < 0.5)


def steady(candidate: Any, row: Any) -> float:
    return float(row["q"] < 0.5)


def graded(candidate: Any, row: Any, seed: int) -> float:
    return 100 + random.Random(f"{row['id']} {seed}").gauss(0, 3)


def plain(candidate: Any, seed: int) -> float:
    return 5 + random.Random(seed).gauss(0, 1)


def fixed(candidate: Any) -> float:
    return 5.0


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize(
    ("evaluate", "rows", "more"),
    [
        (noisy, 60, {}),
        (steady, 60, {"deterministic": True}),
        (graded, 60, {"unbounded": True}),
        (plain, 0, {"unbounded": True}),
        (fixed, 0, {"unbounded": True, "deterministic": True}),
        (noisy, 8, {"target": "suite"}),
    ],
)
def test_a_sound_evaluator_passes(evaluate: Any, rows: int, more: dict[str, Any], direction: Any) -> None:
    more = dict(more)
    goal = (
        Objective("score", direction) if more.pop("unbounded", False) else Objective("score", direction, low=0, high=1)
    )
    assert asked(session(evaluate, rows, goal=goal, **more)) == set()


@pytest.mark.parametrize(
    ("gate", "names"),
    [
        (Generous, {"A/A", "planted loss", "polarity"}),
        (Deaf, {"planted gain"}),
        (Negating, {"planted gain", "planted loss", "polarity"}),
        (Swapped, {"planted gain", "planted loss", "polarity"}),
    ],
)
def test_a_broken_gate_fails_on_a_users_evaluator_too(gate: type[Gate], names: set[str]) -> None:
    assert asked(session(noisy, 60), gate=gate) == names


def test_what_is_declared_deterministic_must_tie() -> None:
    assert asked(session(noisy, 60, deterministic=True)) == {"A/A"}


def test_an_evaluator_that_gets_better_when_it_is_asked_again_is_found() -> None:
    def warms_up(candidate: Any, row: Any, replicate: int) -> float:
        return float(replicate > 0)

    assert asked(session(warms_up, 60)) == {"A/A"}


def test_it_keeps_to_the_evaluations_it_is_allowed_and_never_measures_held_out_rows() -> None:
    seen: list[str] = []

    def counted(candidate: Any, row: Any) -> float:
        seen.append(row["id"])
        return 1.0

    chosen = session(counted, 100)
    assert asked(chosen, 30) == set()
    assert len(seen) == 30
    assert set(seen) <= {example.id for example in chosen.problem.split("train")}
    assert chosen.problem.split("val")
    with pytest.raises(ConfigError, match="planted gain") as error:
        asked(session(counted, 100), 12)
    assert "--evaluations 20" in error.value.hint
    assert len(seen) == 30


def test_what_cannot_be_scored_is_an_error_and_some_failures_are_not() -> None:
    def broken(candidate: Any, row: Any) -> float:
        raise RuntimeError("no such model")

    def shaky(candidate: Any, row: Any) -> float:
        if row["q"] < 0.3:
            raise RuntimeError("sometimes")
        return row["q"]

    with pytest.raises(EvaluatorError, match="no such model"):
        asked(session(broken, 60))
    assert asked(session(shaky, 60, deterministic=True)) == set()


TOML = """
[evaluator]
function = "evaluate:measure"
deterministic = true

[space.x]
type = "float"
low = -1
high = 1

[[objectives]]
name = "loss"

[budget]
evaluations = 12
"""


def test_the_command_ends_with_0_or_1_and_says_what_to_do(tmp_path: Path) -> None:
    folder(tmp_path / "good", TOML, "def measure(candidate): return candidate['x'] ** 2 + 1")
    folder(tmp_path / "bad", TOML, "calls = []\ndef measure(candidate):\n    calls.append(1)\n    return len(calls)")
    good = call("gate", "selftest", "good", "--json", cwd=tmp_path)
    assert (good.code, good.json["ok"]) == (0, True)
    assert [check["name"] for check in good.json["checks"]] == ["A/A", "planted gain", "planted loss", "polarity"]
    assert "2 evaluations of the initial candidate" in good.err
    bad = call("gate", "selftest", "bad", cwd=tmp_path)
    assert bad.code == 1
    assert "FAIL A/A" in bad.out and "declared deterministic" in bad.out and "remove deterministic = true" in bad.out
    assert json.dumps(call("gate", "selftest", "bad", "--json", cwd=tmp_path).json["ok"]) == "false"
    wrong = call("gate", "selftest", "--evaluations", 10, cwd=tmp_path)
    assert wrong.code == 2 and "PROBLEM" in wrong.err
