"""Several judges in place of one: what fools one of them gains nothing, and a failing one is named."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.evaluation import Limits, Output, Request
from agent.evaluators.build import build
from agent.evaluators.command import CommandEvaluator
from agent.evaluators.ensemble import EnsembleEvaluator
from agent.evaluators.function import FunctionEvaluator
from agent.executors.inline import InlineExecutor
from agent.executors.select import executor_for
from agent.space import Candidate
from agent.testing import EvaluatorContract

CANDIDATE = {"x": 2.0}


def tone(candidate: Mapping[str, Any]) -> tuple[float, str]:
    return candidate["x"], "friendly"


def facts(candidate: Mapping[str, Any]) -> dict[str, float]:
    return {"quality": candidate["x"] / 2, "words": 12.0}


async def style(candidate: Mapping[str, Any]) -> dict[str, float]:
    await asyncio.sleep(0.001)
    return {"quality": 3.0, "words": 14.0}


MEMBERS = {"tone": tone, "facts": facts, "style": style}


def of(members: Mapping[str, Any] = MEMBERS, **options: Any) -> EnsembleEvaluator:
    return EnsembleEvaluator(members, **{"name": "quality", "direction": "maximize", **options})


def produce(evaluator: EnsembleEvaluator, candidate: Any = CANDIDATE, **given: Any) -> Output:
    return asyncio.run(evaluator.produce(Request(Candidate(candidate), **given), lambda _: None))


def values(evaluator: EnsembleEvaluator) -> dict[str, float]:
    output = produce(evaluator)
    assert output.failure is None, output.failure
    return dict(evaluator.score(output).values)


def failure(evaluator: EnsembleEvaluator, **given: Any) -> str:
    output = produce(evaluator, **given)
    assert output.value is None and output.failure is not None
    return f"{output.failure.kind}: {output.failure.message}"


class TestMixed(EvaluatorContract):
    def make(self) -> EnsembleEvaluator:
        return of()

    def request(self) -> Request:
        return Request(Candidate(CANDIDATE))

    def bad_request(self) -> Request:
        return Request(Candidate({}))


class TestComputing(TestMixed):
    def make(self) -> EnsembleEvaluator:
        return of({"tone": tone, "facts": f"{__name__}:facts"}, combine="worst", folder=Path(__file__).parents[2])


class TestLambdas(TestMixed):
    def make(self) -> EnsembleEvaluator:
        return of({"a": lambda c: c["x"], "b": lambda c: -c["x"]}, direction="minimize", combine="uncertainty")


class TestCommands(TestMixed):
    SOURCE = "import json, os; r = json.load(open(os.environ['TRUEGAIN_REQUEST'])); print(r['candidate']['x'])"

    def make(self) -> EnsembleEvaluator:
        argv = [sys.executable, "-c", self.SOURCE]
        return of({name: {"kind": "command", "argv": argv} for name in "ab"}, folder="/tmp", exclusive=True)


# ---------------------------------------------------------------- what it makes of the members' values


def test_each_value_is_recorded_and_they_are_joined() -> None:
    deviation = math.sqrt(2 / 3)  # of 2, 1 and 3
    assert values(of()) == pytest.approx(
        {
            "quality": 2 - deviation,
            "quality.mean": 2.0,
            "quality.sd": deviation,
            "quality.tone": 2.0,
            "quality.facts": 1.0,
            "quality.style": 3.0,
            "words": 13.0,
        }
    )
    assert of().score(produce(of())).feedback == "tone: friendly"


@pytest.mark.parametrize(
    ("combine", "larger", "smaller"),
    [
        ("mean", 2.0, 2.0),
        ("worst", 1.0, 3.0),
        ("mean-sd", 2 - math.sqrt(2 / 3), 2 + math.sqrt(2 / 3)),
        ("uncertainty", 2 - 5 * 2 / 3, 2 + 5 * 2 / 3),
    ],
)
def test_pessimism_follows_the_direction(combine: Any, larger: float, smaller: float) -> None:
    assert values(of(combine=combine))["quality"] == pytest.approx(larger)
    assert values(of(combine=combine, direction="minimize"))["quality"] == pytest.approx(smaller)


def test_how_much_disagreement_costs_is_an_option() -> None:
    assert values(of(kappa=2))["quality"] == pytest.approx(2 - 2 * math.sqrt(2 / 3))
    assert values(of(combine="uncertainty", weight=0.5))["quality"] == pytest.approx(2 - 0.5 * 2 / 3)


# ---------------------------------------------------------------- members


def test_a_member_that_fails_is_named() -> None:
    assert (
        failure(of({"good": tone, "bad": lambda c: 1 / 0})) == "error: member bad: ZeroDivisionError: division by zero"
    )
    assert failure(of({"good": style, "bad": lambda c: 1 / 0})).startswith("error: member bad: Zero")
    wrong = of({"good": tone, "bad": lambda c: "much"})
    assert failure(wrong) == "invalid: member bad: quality must be a number, not 'much'"


def test_the_first_of_several_failures_is_named_however_quick_the_others_are() -> None:
    async def slow(candidate: Any) -> float:
        await asyncio.sleep(0.02)
        raise ValueError("slow")

    async def quick(candidate: Any) -> float:
        raise ValueError("quick")

    assert failure(of({"one": slow, "two": quick})) == "error: member one: ValueError: slow"


def test_one_by_one_nothing_is_measured_after_a_failure() -> None:
    asked: list[str] = []
    assert "member bad" in failure(of({"bad": lambda c: 1 / 0, "good": lambda c: asked.append("good")}))
    assert not asked


def test_a_member_that_cancels_itself_is_a_failure() -> None:
    async def gives_up(candidate: Any) -> float:
        raise asyncio.CancelledError

    assert failure(of({"good": style, "bad": gives_up})).startswith("error: member bad: it cancelled itself")


def test_what_is_missing_is_told() -> None:
    class Other(FunctionEvaluator):
        def __init__(self, target: Any) -> None:
            super().__init__(target, names=["other"])

    assert "member b: quality is missing; found other" in failure(of({"a": tone, "b": Other(lambda c: 1.0)}))
    assert failure(of(names=["quality", "tokens"])).startswith("invalid: tokens is missing; found quality")
    assert produce(of(names=["quality", "quality.facts", "words"])).failure is None


def test_a_member_cannot_pose_as_the_ensemble() -> None:
    found = values(of({"a": tone, "b": lambda c: {"quality": 1.0, "quality.mean": 9.0, "quality.a": 9.0}}))
    assert (found["quality.mean"], found["quality.a"]) == (1.5, 2.0)
    assert (found["quality.b.mean"], found["quality.b.a"]) == (9.0, 9.0)


def test_an_output_of_other_members_is_not_judged() -> None:
    with pytest.raises(ValueError, match="an output of each of tone, facts"):
        of({"tone": tone, "facts": facts}).score(produce(of()))


def test_cost_log_and_limits_are_shared_out() -> None:
    class Paid:
        exclusive, blocking, keeps_limits, spec, fingerprint = False, False, False, None, "paid"

        async def produce(self, request: Request, partial: Any) -> Output:
            return Output(value=1.0, usd=0.25, log=f"{request.limits.log_chars}")

        def score(self, output: Output) -> Any:
            return FunctionEvaluator(tone, names=["quality"]).score(output)

    output = produce(of({"a": Paid(), "b": Paid()}), limits=Limits(log_chars=100))
    assert (output.usd, output.log) == (0.5, "a: 50\nb: 50")
    failed = produce(of({"a": Paid(), "b": lambda c: 1 / 0}))
    assert failed.failure is not None and failed.usd == 0.25


def test_partial_results_carry_the_members_name() -> None:
    def learns(candidate: Any, partial: Any) -> float:
        partial(0.5)
        return 1.0

    seen: list[Any] = []
    evaluator = of({"a": learns, "b": tone})
    asyncio.run(evaluator.produce(Request(Candidate(CANDIDATE)), seen.append))
    assert seen == [{"values": {"quality.a": 0.5}, "feedback": ""}]


def test_those_that_wait_run_at_the_same_time_and_those_that_compute_hold_nobody_up() -> None:
    gate = threading.Event()

    async def opens(candidate: Any) -> float:
        gate.set()
        return 1.0

    def needs(candidate: Any) -> float:
        assert gate.wait(20), "the other one never ran"
        return 1.0

    assert values(of({"needs": needs, "opens": opens}))["quality"] == 1.0


def test_an_exclusive_member_has_the_machine_for_itself() -> None:
    running: list[str] = []
    overlaps: list[str] = []

    async def careful(candidate: Any) -> float:
        running.append("x")
        overlaps.extend(running[1:])
        await asyncio.sleep(0.01)
        running.pop()
        return 1.0

    alone = FunctionEvaluator(careful, names=["quality"], exclusive=True)
    assert of({"a": alone, "b": careful}).exclusive and not of({"a": careful, "b": careful}).exclusive
    assert values(of({"a": alone, "b": careful}))["quality"] == 1.0 and not overlaps
    assert values(of({"a": careful, "b": careful}))["quality"] == 1.0 and overlaps


def test_one_by_one_they_share_the_time_limit() -> None:
    argv = [sys.executable, "-c", "import time; time.sleep(0.6); print(1)"]
    member = CommandEvaluator(argv, cwd="/tmp", names=["quality"])
    evaluator = of({"a": member, "b": member, "c": member}, exclusive=True)
    assert evaluator.keeps_limits
    started = time.monotonic()
    text = failure(evaluator, limits=Limits(seconds=1.0))
    assert text.startswith("timeout: member ") and not text.startswith("timeout: member c")
    assert time.monotonic() - started < 15


def test_a_member_that_hangs_in_a_thread_is_given_up_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    def hangs(candidate: Any) -> float:
        release.wait(20)
        return 1.0

    async def run() -> Output:
        executor = InlineExecutor(of({"hangs": hangs, "style": style}))
        try:
            return await executor.submit(Request(Candidate(CANDIDATE), limits=Limits(seconds=0.05)))
        finally:
            await executor.close()

    with caplog.at_level(logging.WARNING):
        output = asyncio.run(run())
    release.set()
    assert output.failure is not None and output.failure.kind == "timeout"
    assert 'executor = "subprocess"' in caplog.text


@pytest.mark.parametrize("kind", [None, "subprocess"])
def test_it_runs_in_worker_processes(kind: Any) -> None:
    folder = Path(__file__).parents[2]
    members = {"a": f"{__name__}:tone", "b": f"{__name__}:facts"}
    if kind is not None:
        members["c"] = f"{__name__}:style"
    evaluator = of(members, folder=folder)

    async def run() -> Output:
        executor = executor_for(evaluator, workers=1, kind=kind)
        try:
            return await executor.submit(Request(Candidate(CANDIDATE)))
        finally:
            await executor.close()

    output = asyncio.run(run())
    assert output.failure is None, output.failure
    assert evaluator.score(output).values["quality.a"] == 2.0


# ---------------------------------------------------------------- what it is made from


def test_members_are_targets_callables_evaluators_or_specs(tmp_path: Path) -> None:
    (tmp_path / "judges.py").write_text("def strict(candidate):\n    return 0.0\n")
    evaluator = of(
        {
            "target": "judges:strict",
            "spec": {"kind": "function", "target": "judges:strict"},
            "callable": tone,
            "evaluator": FunctionEvaluator(tone, names=["quality"]),
            "command": {"kind": "command", "argv": ["true"]},
        },
        folder=tmp_path,
    )
    specs = [dict(member.spec or {}) for member in evaluator.members.values()]
    assert specs[0] == specs[1] and specs[0]["folder"] == str(tmp_path) and specs[0]["names"] == ["quality"]
    assert specs[2] == specs[3] and specs[4]["cwd"] == str(tmp_path)
    assert evaluator.spec is not None
    assert build(evaluator.spec).spec == evaluator.spec
    evaluator.load()


def test_an_ensemble_may_be_a_member() -> None:
    inner = of({"tone": tone, "facts": facts}, combine="worst")
    outer = of({"inner": inner, "style": style}, combine="mean")
    found = build(outer.spec or {})
    assert isinstance(found, EnsembleEvaluator)
    measured = values(found)
    assert measured["quality"] == pytest.approx((1.0 + 3.0) / 2)
    assert measured["quality.inner.tone"] == 2.0 and measured["quality.inner"] == 1.0


def test_a_change_of_a_member_or_of_how_they_are_joined_counts() -> None:
    def make(constant: float, **options: Any) -> str:
        return of({"a": tone, "b": lambda c: constant}, **options).fingerprint

    every = [make(1), make(2), make(1, kappa=2), make(1, combine="worst"), make(1, direction="minimize")]
    assert make(1) == every[0] and len(set(every)) == len(every)
    assert of({"a": tone, "b": facts}).fingerprint != of({"a": facts, "b": tone}).fingerprint


def test_the_options_survive_a_rebuild() -> None:
    for options in ({"kappa": 2.0}, {"combine": "uncertainty", "weight": 0.5}, {"names": ["quality", "words"]}):
        before = of({"tone": tone, "facts": facts}, **options)
        after = build(before.spec or {})
        assert values(after) == values(before)  # type: ignore[arg-type]
        assert after.fingerprint == before.fingerprint and (after.spec or {})["names"] == list(before.names)


def test_it_has_a_spec_only_when_all_members_have_one() -> None:
    assert of({"a": tone, "b": lambda c: 1.0}).spec is None
    assert of({"a": tone, "b": facts}).spec is not None


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    ({"one": tone}, {}, "fewer than two"),
    ([tone, facts], {}, "fewer than two"),
    ({"mean": tone, "b": tone}, {}, "cannot be called 'mean'"),
    ({"": tone, "b": tone}, {}, "cannot be called ''"),
    ({"a.b": tone, "b": tone}, {}, "cannot be called 'a.b'"),
    (MEMBERS, {"combine": "median"}, "allowed is mean, worst, mean-sd, uncertainty"),
    (MEMBERS, {"direction": "up"}, "allowed is minimize or maximize"),
    (MEMBERS, {"kappa": -1.0}, "at least 0"),
    (MEMBERS, {"kappa": math.nan}, "at least 0"),
    (MEMBERS, {"kappa": 1.0, "combine": "mean"}, 'kappa is for combine = "mean-sd"'),
    (MEMBERS, {"weight": 1.0}, 'weight is for combine = "uncertainty"'),
    ({"a": tone, "b": "judges.py:strict"}, {}, "member b: evaluator: 'judges.py:strict' names a file"),
    ({"a": tone, "b": {"kind": "fortran"}}, {}, "member b: evaluator kind"),
    ({"a": tone, "b": 5}, {}, "member b: evaluator: 5 is not callable"),
]


@pytest.mark.parametrize(("members", "options", "text"), WRONG)
def test_what_cannot_be_an_ensemble_says_why(members: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        of(members, **options)
