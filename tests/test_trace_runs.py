"""Traces of real runs: from a worker, in this process, async, with rows, of failures; and `truegain trace`."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import Float, Output, Request, Space, Study, Text, note, op, optimize, param, use
from agent.errors import ConfigError
from agent.evaluators.function import FunctionEvaluator
from agent.tracing.capping import CHARS
from agent.tracing.spans import Trace
from tests.cli_helpers import call

PROGRAM = """
    from agent import Code, Float, Text, note, op, param

    scale = param("scale", Float(0, 4, default=1.0))
    prompt = param("prompt", Text("Answer at length, please."))

    @op
    def scaled(x):
        return scale.value * x

    @op
    def off(y):
        note(f"aims at {2 * 1.5}")
        return abs(y - 3.0)

    def measure(candidate):
        return off(scaled(1.5))

    async def measure_async(candidate):
        return off(scaled(1.5))

    def by_row(candidate, row):
        return abs(scaled(row["x"]) - 2 * row["x"]), f"x was {row['x']}"

    def fails(candidate):
        if scale.value > 1.0:
            raise RuntimeError("too large")
        return off(scaled(1.5))
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    name = f"traced_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(PROGRAM))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module(name)
    del sys.modules[name]


def run(program: Any, evaluate: Any, tmp_path: Path, **more: Any) -> Any:
    given = {"budget": 8, "deterministic": True, "model": None, "runs": tmp_path / "runs", **more}
    return optimize(evaluate, space=[program.scale, program.prompt], **given)


def trace_of(result: Any, *words: str) -> Any:
    ran = call("trace", result.run, *words, "--runs", result.folder.parent, "--json", cwd=result.folder.parent)
    assert ran.code == 0, ran.out + ran.err
    return ran.json


@pytest.mark.parametrize("executor", ["subprocess", "inline"])
def test_the_champions_trace_is_kept_wherever_it_was_measured(program: Any, tmp_path: Path, executor: str) -> None:
    result = run(program, program.measure, tmp_path, options={"executor": executor})
    shown = trace_of(result, "champion")
    trace = Trace.from_json(shown["trace"])
    first, second = trace.spans
    assert (first.name, second.name) == ("scaled", "off") and shown["candidate"] == result.champion
    assert first.reads == ("scale",) and second.feeds == ((0, True),) and second.notes == ("aims at 3.0",)
    assert trace.values[first.output].text == repr(result.best["scale"] * 1.5), "measured with the candidate's value"
    assert result.best["scale"] != 1.0 and "scale.value * x" in trace.code["scaled"]
    assert [s.name for s in trace.subgraph({"scale"})] == ["scaled", "off"]


def test_async_evaluations_at_once_have_their_own(program: Any, tmp_path: Path) -> None:
    result = run(program, program.measure_async, tmp_path, options={"executor": "inline", "workers": 4})
    measured = [trial for trial in result.trials if trial.values]
    assert len(measured) > 3
    for trial in measured:
        trace = Trace.from_json(trace_of(result, trial.id)["trace"])
        assert trace.values[trace.spans[0].output].text == repr(trial.candidate["scale"] * 1.5)


def test_a_failure_keeps_its_trace(program: Any, tmp_path: Path) -> None:
    program_fails = FunctionEvaluator(program.fails, names=("value",))
    request = Request(candidate=Space.of([program.scale]).candidate({"scale": 0.5}))
    output = asyncio.run(program_fails.produce(request, lambda _: None))
    assert output.failure is None and Output.from_json(json.loads(json.dumps(output.to_json()))) == output

    @op
    def breaks(x: float) -> float:
        return 1 / (x - x)

    evaluator = FunctionEvaluator(lambda candidate: breaks(program.scale.value), names=("value",))
    output = asyncio.run(evaluator.produce(request, lambda _: None))
    assert output.failure is not None and output.trace is not None
    (span,) = Trace.from_json(output.trace).failing()
    assert span.raised is not None and span.raised.text == "return 1 / (x - x)" and span.reads == ("scale",)


def test_a_program_that_records_nothing_has_no_trace(program: Any) -> None:
    evaluator = FunctionEvaluator(lambda candidate: candidate["scale"], names=("value",))
    request = Request(candidate=Space.of([program.scale]).initial())
    output = asyncio.run(evaluator.produce(request, lambda _: None))
    assert output.trace is None and "trace" not in output.to_json()


def test_a_long_program_is_capped() -> None:
    @op
    def step(i: int) -> str:
        return f"{i} " * 200

    evaluator = FunctionEvaluator(lambda candidate: len([step(i) for i in range(3000)]), names=("value",))
    output = asyncio.run(evaluator.produce(Request(candidate=Space({"x": Float(0, 1, default=0)}).initial()), print))
    assert output.trace is not None and len(json.dumps(output.trace)) <= CHARS
    trace = Trace.from_json(output.trace)
    assert trace.dropped == 3000 - len(trace.spans) and trace.spans[-1].id == 2999


def test_a_hidden_word_does_not_reach_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent import redact

    monkeypatch.setenv("SERVICE_API_KEY", "correct-horse-battery")
    redact.refresh()
    key = param("key", Text("none"))

    @op
    def ask(text: str) -> float:
        note("with correct-horse-battery")
        return float(len(text + key.value))

    try:
        result = optimize(
            lambda candidate: ask("the key is correct-horse-battery, truly"),
            space=[key, param("x", Float(0, 1, default=0.5))],
            budget=3, model=None, deterministic=True, runs=tmp_path / "runs",
        )  # fmt: skip
    finally:
        monkeypatch.undo()
        redact.refresh()
    stored = b"".join(file.read_bytes() for file in result.folder.iterdir() if file.is_file())
    assert b"the key is" in stored and b"correct-horse" not in stored


def test_rows_have_traces_of_their_own(program: Any, tmp_path: Path) -> None:
    rows = [{"id": f"r{i}", "x": 1.0 + i / 7} for i in range(4)]
    result = run(program, program.by_row, tmp_path, data=rows, budget=24, target="suite")
    shown = trace_of(result, "best", "--example", "r2")
    trace = Trace.from_json(shown["trace"])
    assert shown["example"] == "r2" and trace.values[trace.spans[0].inputs["x"]].text == repr(1 + 2 / 7)
    ran = call("trace", result.run, "--example", "r9", "--runs", result.folder.parent, cwd=tmp_path)
    assert ran.code == 2 and "r0, r1, r2, r3" in ran.err


def test_the_command_shows_looks_for_and_details_spans(program: Any, tmp_path: Path) -> None:
    result = run(program, program.measure, tmp_path, options={"executor": "inline"})
    place = ("--runs", result.folder.parent)
    whole = call("trace", result.run, *place, cwd=tmp_path)
    assert whole.code == 0 and "#0 scaled(x=1.5) → " in whole.out and "note: aims at 3.0" in whole.out
    found = call("trace", result.run, "initial", "--search", "AIMS", *place, cwd=tmp_path)
    assert "#1 off(y=1.5)" in found.out and "#0 scaled" not in found.out
    assert "no span with 'nowhere'" in call("trace", result.run, "--search", "nowhere", *place, cwd=tmp_path).out
    detail = call("trace", result.run, "initial", "--span", "1", *place, cwd=tmp_path)
    assert "y (float, 3 characters):\n    1.5" in detail.out
    only = trace_of(result, "initial", "--span", "1")["trace"]
    assert [s["name"] for s in only["spans"]] == ["off"] and len(only["values"]) == 1
    for words in (("--span", "7"), ("nobody",), ("--span", "1", "--search", "x")):
        assert call("trace", result.run, *words, *place, cwd=tmp_path).code == 2


def test_a_run_without_a_trace_says_what_to_do(tmp_path: Path) -> None:
    result = optimize(
        lambda c: c["x"], space={"x": Float(0, 1)}, budget=3, model=None, deterministic=True, runs=tmp_path / "runs"
    )
    ran = call("trace", result.run, "--runs", tmp_path / "runs", cwd=tmp_path)
    assert ran.code == 2 and "no trace" in ran.err and "@agent.op" in ran.err


def test_ask_and_tell_with_params(program: Any, tmp_path: Path) -> None:
    given = {"budget": 5, "deterministic": True, "model": None, "runs": tmp_path / "runs"}
    with Study(space=(program.scale, program.prompt), **given) as study:
        while (request := study.ask()) is not None:
            with use(request.candidate):
                study.tell(request, program.measure(None))
        assert study.result.trials[0].values == {"value": 1.5}


def test_a_space_of_params_has_a_name_for_each(program: Any) -> None:
    assert list(Space.of([program.prompt, program.scale])) == ["prompt", "scale"]
    with pytest.raises(ConfigError, match="twice"):
        Space.of([program.scale, program.scale])
    for wrong in ([Float(0, 1)], "scale", 3, [program.scale, "x"]):
        with pytest.raises(ConfigError, match="allowed is a Space"):
            Space.of(wrong)
