"""Several tasks judge one program: what one of them is fooled by gains nothing, and one that breaks is named."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent import Code, Programs, optimize
from agent.cli.run import session_of
from agent.config import load
from agent.errors import ConfigError
from agent.evaluation import Request
from agent.evaluators.build import build
from agent.evaluators.code import CodeEvaluator
from agent.evaluators.ensemble import EnsembleEvaluator
from agent.journal import read_all
from agent.problem import Problem
from agent.proposers.base import Context, Proposal
from agent.sandbox.layers import chosen
from agent.space import Candidate
from tests.evaluators import code_helpers

TASKS = '''
class Right:
    """Whether the answer is the square."""

    def inputs(self, seed, stage):
        return [5] if stage == "confirm" else [] if stage == "smoke" else [1, 2, 3, 4]

    def score(self, given, output):
        return float(output[0] == given * given)


class Quick:
    """How few steps the program says that it took; it takes its word for it."""

    schema = {"type": "array", "items": {"type": "number"}, "minItems": 2}

    def inputs(self, seed, stage):
        return [1, 2]

    def score(self, given, output):
        return {"score": 10 / (1 + output[1]), "steps": output[1]}
'''
TOML = """
[evaluator]
deterministic = true

[evaluator.ensemble]
combine = "COMBINE"

[evaluator.ensemble.members]
right = { kind = "code", target = "tasks:Right" }
quick = { kind = "code", target = "tasks:Quick", sandbox = { seconds = 30.0 } }

[evaluator.sandbox]
kind = "plain_box:Plain"
seconds = 20

[[objectives]]
name = "score"
direction = "maximize"

[[constraints]]
name = "score.right"
min = 0.2

[budget]
evaluations = 8

[space.program]
type = "code"
default = "def solve(x):\\n    return [x * x, 10]\\n"
entry = "solve"

[proposer]
name = "PROPOSER"
"""
HONEST = "def solve(x):\n    return [x * x, 4]\n"
LIAR = "def solve(x):\n    return [1, 0]\n"
BROKEN = "def solve(x):\n    return [x * x]\n"


class Three:
    """An honest program, one that is wrong and says that it took no steps, and one that a judge cannot read."""

    name, needs_model, texts = "three", False, True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        done, context.exhausted = context.exhausted, True
        return [] if done or context.decision > 1 else [Proposal({"program": p}, p) for p in (LIAR, BROKEN, HONEST)]

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 0, 0, 0


def problem(folder: Path, combine: str = "worst", text: str = TOML) -> Path:
    (folder / "tasks.py").write_text(TASKS)
    shutil.copy(code_helpers.__file__, folder / "plain_box.py")  # workers find no tests package
    (folder / "problem.toml").write_text(text.replace("COMBINE", combine).replace("PROPOSER", f"{__name__}:Three"))
    return folder


def ensemble(folder: Path, **given: Any) -> EnsembleEvaluator:
    made = load(problem(folder, **given)).problem.evaluator
    assert isinstance(made, EnsembleEvaluator)
    return made


def values(made: EnsembleEvaluator, program: str, **given: Any) -> dict[str, float]:
    output = asyncio.run(made.produce(Request(Candidate({"program": program}), **given), lambda _: None))
    assert output.failure is None, output.failure
    return dict(made.score(output).values)


@pytest.mark.parametrize(("combine", "best"), [("worst", HONEST), ("mean-sd", HONEST), ("mean", LIAR)])
async def test_a_judge_that_is_fooled_gains_nothing_unless_the_mean_counts(
    tmp_path: Path, combine: str, best: str
) -> None:
    (tmp_path / "p").mkdir()
    result = await session_of(load(problem(tmp_path / "p", combine))).run(tmp_path / "runs" / "one")
    assert result.best["program"] == best
    said = "\n".join(entry.event.body() for entry in read_all(tmp_path / "runs" / "one"))
    assert "member quick: train inputs: the output" in said or "member quick: smoke inputs: the output" in said


def test_each_judge_has_its_own_number_and_the_stage_of_a_purpose(tmp_path: Path) -> None:
    made = ensemble(tmp_path)
    found = values(made, LIAR)
    assert found == {
        "score": 0.25,
        "score.mean": 5.125,
        "score.sd": 4.875,
        "score.right": 0.25,
        "score.quick": 10.0,
        "steps": 0.0,
    }
    assert made.stage_for("gate") == "confirm" and made.stage_for("search") == "train"
    assert values(made, LIAR, stage="confirm")["score.right"] == 0.0


def test_members_share_the_sandbox_and_may_change_it_for_themselves(tmp_path: Path) -> None:
    made = ensemble(tmp_path)
    right, quick = (made.members[name] for name in ("right", "quick"))
    assert right.sandbox["caps"]["seconds"] == 20 and quick.sandbox["caps"]["seconds"] == 30  # type: ignore[attr-defined]
    assert right.sandbox["kind"] == quick.sandbox["kind"] == "plain_box:Plain"  # type: ignore[attr-defined]
    assert made.spec is not None
    again = build(made.spec)
    assert again.fingerprint == made.fingerprint and again.spec == made.spec


def test_a_suite_may_be_a_judge(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_square.py").write_text(
        "from program import solve\n\n\ndef test_square():\n    assert solve(3)[0] == 9\n"
    )
    suite = 'suite = { kind = "pytest", tests = ["tests"] }\n'
    text = TOML.replace("[evaluator.sandbox]\n", f"{suite}\n[evaluator.sandbox]\n")
    text = text.replace('kind = "plain_box:Plain"\n', "unsafe = true\nmemory_mb = 1024\n").replace(
        "default = ", 'file = "program.py" # '
    )
    (tmp_path / "program.py").write_text("def solve(x):\n    return [x * x, 10]\n")
    made = ensemble(tmp_path, text=text)
    found = values(made, HONEST)
    assert 1.0 <= found["score.suite"] <= 2.0 and found["score.right"] == 1.0 == found["score"]


def test_the_sandbox_of_the_members_is_guarded_and_told(tmp_path: Path) -> None:
    made = ensemble(tmp_path, text=TOML.replace('kind = "plain_box:Plain"\n', "unsafe = true\n"))
    told = made.guard()
    assert told["layers"] == list(chosen(None))
    output = asyncio.run(made.produce(Request(Candidate({"program": HONEST})), lambda _: None))
    assert output.failure is None and list(output.layers) == told["layers"] == list(made.layers)


def test_judges_without_programs_have_no_stages_and_no_sandbox() -> None:
    made = EnsembleEvaluator({"one": lambda x: x, "two": lambda x: x}, name="score", direction="maximize")
    assert not hasattr(made, "stage_for") and made.guard() == {} and made.layers == ()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('target = "tasks:Right"', 'code = "tasks:Right"', r"members\.right.*has code, allowed is target"),
        ("{ seconds = 30.0 }", "{ second = 30.0 }", r"members\.quick.*SandboxConfig: second"),
        ("{ seconds = 30.0 }", "3", r"sandbox: found 3, allowed is a table"),
        ("deterministic = true", 'duplicates = "behaviour"', "duplicates is for programs"),
        ('{ kind = "code", target = "tasks:Right" }', '"tasks:a"', None),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, words: str | None) -> None:
    text = TOML.replace(old, new)
    if words is None:  # a function may stand beside a task
        assert set(ensemble(tmp_path, text=text).members) == {"right", "quick"}
        return
    with pytest.raises(ConfigError, match=words):
        load(problem(tmp_path, text=text))


def test_a_sandbox_beside_judges_that_run_no_programs_is_refused(tmp_path: Path) -> None:
    text = TOML.replace('{ kind = "code", target = "tasks:Right" }', '"tasks:a"')
    text = text.replace('quick = { kind = "code"', 'quick = { kind = "function"').replace(
        ", sandbox = { seconds = 30.0 }", ""
    )
    with pytest.raises(ConfigError, match="sandbox is for programs"):
        load(problem(tmp_path, text=text))


def test_no_candidate_may_hold_what_a_judge_is_made_of(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("def solve(x):\n    return [x * x, 10]\n")
    text = TOML.replace('entry = "solve"', 'entry = "main:solve"').replace("default = ", 'files = ["*.py"] # ')
    tree = load(problem(tmp_path, text=text)).problem.initial()["program"]
    assert set(tree) == {"main.py"}, "neither the tasks nor the isolation"


class Right:
    def inputs(self, seed: int, stage: str) -> list[int]:
        return [1, 2, 3, 4]

    def score(self, given: int, output: Any) -> float:
        return float(output[0] == given * given)


class Quick(Right):
    def score(self, given: int, output: Any) -> float:
        return float(10 / (1 + output[1]))


class Broken(Right):
    def score(self, given: int, output: Any) -> float:
        raise KeyError("nobody")


SPACE = {"program": Code("def solve(x):\n    return [x * x, 10]\n", entry="solve")}


def run(tmp_path: Path, tasks: Mapping[str, Any], **given: Any) -> Any:
    more = {"proposer": f"{__name__}:Three", "executor": "inline"}
    sandbox = {"kind": f"{code_helpers.__name__}:Plain", "seconds": 20.0}
    return optimize(
        Programs(tasks, sandbox=sandbox, **given),
        space=SPACE,
        objectives="maximize",
        deterministic=True,
        budget=8,
        options=more,
        model=None,
        runs=tmp_path,
    )


def test_from_python(tmp_path: Path) -> None:
    result = run(tmp_path, {"right": Right, "quick": Quick}, ensemble={"combine": "worst"})
    assert result.best["program"] == HONEST and result.run.startswith("right-")


def test_a_judge_that_is_broken_is_named(tmp_path: Path) -> None:
    result = run(tmp_path, {"right": Right, "quick": Broken})
    said = "\n".join(entry.event.body() for entry in read_all(result.folder))
    assert result.status == "initial" and "member quick: train inputs: score() raised KeyError" in said


def test_wrong_settings_from_python(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ensemble: combined: unknown key"):
        run(tmp_path, {"right": Right, "quick": Quick}, ensemble={"combined": "worst"})
    with pytest.raises(ConfigError, match="there is one task alone"):
        run(tmp_path, Right, ensemble={"combine": "worst"})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="fewer than two"):
        run(tmp_path, {"right": Right})


def test_members_are_not_told_the_joined_number_of_a_rival(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    made = ensemble(tmp_path)
    real = CodeEvaluator.produce

    async def watched(self: CodeEvaluator, request: Request, partial: Any) -> Any:
        told.append(request.rival)
        return await real(self, request, partial)

    monkeypatch.setattr(CodeEvaluator, "produce", watched)
    rival: Any = object()
    values(made, HONEST, rival=rival)
    assert told == [None, None]
