"""The Python API: optimize in all its forms, ask and tell, and a real SDK against a server of our own."""

from __future__ import annotations

import asyncio
import functools
import json
import math
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agent import (
    Budget,
    Categorical,
    Constraint,
    Float,
    Int,
    Limits,
    Objective,
    Output,
    Request,
    Score,
    Study,
    optimize,
    optimize_async,
)
from agent.api import make_session
from agent.errors import AgentError, ConfigError, PrerequisiteError, RunChanged
from agent.llm.scripted import Scripted
from agent.results.result import Result, load_result
from tests.fake_provider import FakeProvider, error, structured
from tests.support import SPACE, bodies, entries, loss, thinker

AXIS = {"a": Float(0, 1)}


def bowl(candidate: Any) -> float:
    """How far from 0.3."""
    return (candidate["a"] - 0.3) ** 2


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`optimize` without a model, on a small budget, with its run under tmp_path."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "TRUEGAIN_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    defaults = {"space": AXIS, "model": None, "budget": 25, "deterministic": True, "runs": tmp_path / "runs"}
    return functools.partial(optimize, **defaults)


# Calling it.


def test_a_lambda_is_enough(quick: Callable[..., Result], tmp_path: Path) -> None:
    result = quick(lambda x: (x["a"] - 0.3) ** 2)
    assert result.status == "exact" and abs(result.best["a"] - 0.3) < 0.1
    assert result.folder.parent == tmp_path / "runs"
    assert load_result(result.folder).to_json() == result.to_json()


def test_larger_can_be_better(quick: Callable[..., Result]) -> None:
    assert abs(quick(lambda x: -bowl(x), objectives="maximize").best["a"] - 0.3) < 0.1


async def test_it_works_where_an_event_loop_is_running_as_in_a_notebook(quick: Callable[..., Result]) -> None:
    assert quick(bowl).status == "exact"


async def test_the_async_twin_leaves_the_event_loop_free(tmp_path: Path) -> None:
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0)

    async def measured(candidate: Any) -> float:
        await asyncio.sleep(0.001)
        return bowl(candidate)

    other = asyncio.create_task(beat())
    result = await optimize_async(measured, space=AXIS, model=None, budget=20, deterministic=True, runs=tmp_path)
    other.cancel()
    assert result.status == "exact" and beats > 20


async def test_async_evaluations_overlap(tmp_path: Path) -> None:
    running = most = 0

    async def measured(candidate: Any) -> float:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1
        return bowl(candidate)

    given = {"space": AXIS, "model": None, "deterministic": True, "runs": tmp_path}
    await optimize_async(measured, budget=30, options={"workers": 4, "proposer": "random"}, **given)
    assert most == 4


@pytest.mark.parametrize(
    "returned",
    [
        lambda v: v,
        lambda v: (v, "words"),
        lambda v: {"value": v, "feedback": "words", "extra": 1},
        lambda v: {"values": {"value": v}, "feedback": "words"},
        lambda v: ({"value": v}, "words"),
        lambda v: Score({"value": v}, "words"),
    ],
    ids=["number", "pair", "mapping", "json", "mapping and words", "Score"],
)
def test_an_evaluator_may_return_a_number_with_or_without_words(
    quick: Callable[..., Result], returned: Callable[[float], Any]
) -> None:
    result = quick(lambda x: returned(bowl(x)), budget=6)
    assert result.status == "exact"
    assert {trial.feedback for trial in result.trials} <= {"", "words"}
    assert ("words" in {trial.feedback for trial in result.trials}) == (returned(1.0) != 1.0)


def test_several_numbers_and_constraints(quick: Callable[..., Result]) -> None:
    goals = [Objective("loss", unit="ms"), Objective("size", "maximize")]
    result = quick(
        lambda x: {"loss": bowl(x), "size": x["a"], "heat": x["a"]},
        objectives=goals,
        constraints=[Constraint("heat", max=0.2)],
        space={"a": Float(0, 1, default=0.05)},
    )
    assert result.status == "exact" and 0.05 < result.best["a"] <= 0.2
    assert set(result.trials[0].values or {}) >= {"loss", "size"}


def test_data_rows_are_the_second_argument_and_their_mean_counts(quick: Callable[..., Result]) -> None:
    rows = [{"id": f"r{i}", "goal": goal} for i, goal in enumerate((0.2, 0.3, 0.4))]
    result = quick(lambda x, row: (x["a"] - row["goal"]) ** 2, data=rows, budget=75)
    assert abs(result.best["a"] - 0.3) < 0.1
    assert result.spent["evaluations"] <= 75 and result.spent["evaluations"] % 3 == 0


def test_a_function_of_this_module_runs_in_worker_processes_and_its_docstring_is_the_description(
    tmp_path: Path,
) -> None:
    session = make_session(bowl, space=AXIS)
    assert session.problem.description == "How far from 0.3."
    assert session.problem.evaluator.spec is not None
    for nameless in ("tests.test_api:bowl", functools.partial(bowl)):
        assert make_session(nameless, space=AXIS).problem.description == "", "str and partial describe only themselves"


def test_a_module_and_attribute_will_do(quick: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def measure(x):\n    return abs(x['a'] - 0.3)\n")
    result = quick("mine:measure", folder=tmp_path, budget=6)
    assert result.problem.name == "mine-measure" and result.status == "exact"


def test_a_time_limit_on_each_evaluation(quick: Callable[..., Result], tmp_path: Path) -> None:
    text = "import time\ndef measure(x):\n    time.sleep(60 if x['a'] != 0.5 else 0)\n    return x['a']\n"
    (tmp_path / "slow.py").write_text(text)
    result = quick("slow:measure", folder=tmp_path, space={"a": Float(0, 1, default=0.5)}, budget=4, limits=Limits(0.3))
    assert [trial.failure.partition(":")[0] for trial in result.trials] == ["", "timeout", "timeout"]


# Models.


def test_a_model_object_is_asked_and_its_spend_is_in_the_ledger(quick: Callable[..., Result]) -> None:
    model = Scripted(thinker)
    result = quick(loss, space=SPACE, model=model, budget=40)
    assert model.requests and result.spent["calls"] == len(model.requests)
    assert result.spent["by_role"].keys() == {"propose"}
    assert "scripted:Scripted" in result.spent["by_model"]


def test_no_model_means_no_call_and_a_named_one_needs_its_key(quick: Callable[..., Result], tmp_path: Path) -> None:
    assert quick(bowl, budget=5).spent["calls"] == 0
    with pytest.raises(PrerequisiteError, match="OPENAI_API_KEY"):
        quick(bowl, model="openai:gpt-5-mini")
    with pytest.raises(PrerequisiteError, match="ANTHROPIC_API_KEY"):
        quick(bowl, model={"propose": "anthropic:claude-sonnet-4-5"})
    assert len(list((tmp_path / "runs").glob("[!.]*"))) == 1, "what could not begin leaves no run"


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as running:
        running.answer = lambda request: structured({"solution": [300] * 4})
        yield running


@pytest.mark.parametrize("name", ["openai:test", "openai-responses:test", "anthropic:test"])
async def test_a_compatible_server_end_to_end(
    quick: Callable[..., Result], provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-0123456789abcdef")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.url)
    options = {} if name.startswith("anthropic") else {"base_url": provider.url + "/v1"}
    provider.script(error(503), structured({"solution": [299] * 4}))
    result = await asyncio.to_thread(quick, bowl, model=name, budget=Budget(evaluations=20, calls=3), options=options)
    spent = result.spent
    assert result.status == "exact" and abs(result.best["a"] - 0.3) < 0.05
    assert spent["calls"] == provider.calls - 1 and spent["retries"] == 1
    assert spent["tokens"]["input"] + spent["tokens"]["output"] == provider.tokens
    assert spent["by_model"].keys() == {name} and not spent["usd_known"], "nobody knows this server's price"
    shown = json.dumps([request.body for request in provider.requests])
    assert "test" in {request.body["model"] for request in provider.requests} and "exam" not in shown


async def test_a_key_that_is_refused_rests_the_run_and_it_can_be_resumed(
    quick: Callable[..., Result], provider: FakeProvider
) -> None:
    provider.script(error(401, "invalid_api_key"))
    given = {"model": "openai:test", "budget": 20, "options": {"base_url": provider.url + "/v1"}}
    rested = await asyncio.to_thread(quick, bowl, **given)
    assert rested.status == "open" and rested.exit_code == 69 and rested.reason == "provider"
    result = await asyncio.to_thread(quick, bowl, **given, resume=rested.run)
    assert result.status == "exact" and result.run == rested.run


# Going on.


def test_resume_by_name_path_or_last(quick: Callable[..., Result]) -> None:
    first = quick(bowl, budget=6)
    with pytest.raises(ConfigError, match="has ended"):
        optimize(bowl, space=AXIS, model=None, deterministic=True, runs=first.folder.parent, resume="last")
    second = quick(bowl, budget=9, resume=first.run[:12])
    third = quick(bowl, budget=12, resume=first.folder)
    assert [r.spent["evaluations"] for r in (first, second, third)] == [6, 9, 12]
    assert first.run == second.run == third.run
    with pytest.raises(ConfigError, match="no run"):
        quick(bowl, resume="nothing")
    with pytest.raises(RunChanged, match="problem"):
        quick(bowl, space={"a": Float(0, 2)}, resume="last")
    assert quick(bowl, space={"a": Float(0, 2)}, resume="last", accept_change=True).run == first.run


def test_one_seed_gives_equal_events(quick: Callable[..., Result]) -> None:
    one, same, other = (quick(bowl, options={"proposer": "random"}, seed=seed) for seed in (1, 1, 2))
    assert bodies(entries(one.folder)) == bodies(entries(same.folder)) != bodies(entries(other.folder))


# Wrong arguments.


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"bugdet": 3}, "budget"),
        ({"budget": "many"}, "number of evaluations"),
        ({"budget": True}, "number of evaluations"),
        ({"budget": 0}, "cannot pay"),
        ({"budget": -5}, "at least 0"),
        ({"budget": 1}, "at least 3"),
        ({"space": {}}, "parameter"),
        ({"space": {"a": (0, 1)}}, "Float"),
        ({"space": [Float(0, 1)]}, "mapping"),
        ({"objectives": "smaller"}, "minimize"),
        ({"objectives": []}, "minimize"),
        ({"objectives": ["loss"]}, "Objective"),
        ({"constraints": ["heat < 3"]}, "Constraint"),
        ({"data": "rows.jsonl"}, "cannot read rows.jsonl"),
        ({"data": 7}, "list of rows"),
        ({"data": {"train": [1], "dev": [2]}}, "train, val and test"),
        ({"data": [{"q": 1}], "target": "world"}, "suite or population"),
        ({"claim": "all"}, "primary, sum or dominance"),
        ({"data": [object()]}, "JSON"),
        ({"seed": "lucky"}, "whole number"),
        ({"model": 7}, "provider:model"),
        ({"model": "gpt"}, "provider:model"),
        ({"model": "oracle:gpt"}, "openai"),
        ({"model": {"proposes": "openai:x"}}, "propose"),
        ({"options": {"worker": 3}}, "workers"),
        ({"options": {"workers": 0}}, "at least 1"),
        ({"options": {"proposer": "magic"}}, "coordinate"),
        ({"options": ["workers"]}, "mapping"),
        ({"options": {"executor": "cloud"}}, "subprocess"),
        ({"limits": 3}, "Limits"),
    ],
    ids=lambda value: json.dumps(value, default=lambda other: type(other).__name__) if isinstance(value, dict) else "",
)
def test_a_wrong_argument_is_refused_with_what_is_allowed(
    quick: Callable[..., Result], tmp_path: Path, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        quick(bowl, **{"model": Scripted(thinker), **wrong})
    assert words in f"{caught.value.message} {caught.value.hint}"
    assert not list((tmp_path / "runs").glob("*"))


def test_a_traceback_ends_with_the_fix(quick: Callable[..., Result]) -> None:
    with pytest.raises(ConfigError) as caught:
        quick(bowl, space={"a": (0, 1)})
    last = traceback.format_exception(caught.value)[-2:]
    assert last == ["agent.errors.ConfigError: a: (0, 1) is not a parameter\n", f"fix: {caught.value.hint}\n"]
    assert caught.value.hint and str(caught.value) == caught.value.message, "who shows the hint does so once"
    assert "\n" not in traceback.format_exception_only(AgentError("no way"))[0].strip()


def test_an_evaluator_that_fails_at_once_is_told_with_file_and_line(quick: Callable[..., Result]) -> None:
    def wrong(candidate: Any) -> float:
        return math.sqrt("z")  # type: ignore[arg-type]

    line = wrong.__code__.co_firstlineno + 1
    assert quick(wrong).sentence.endswith(f" (test_api.py, line {line}).")
    assert ", line " not in quick("os:strerror").sentence


def test_something_that_cannot_be_called_is_refused(quick: Callable[..., Result]) -> None:
    for wrong in (3, None, "no colon"):
        with pytest.raises(ConfigError):
            quick(wrong)


# Ask and tell.


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Study]:
    given = {"space": AXIS, "model": None, "budget": 25, "deterministic": True, "runs": str(tmp_path)}
    return functools.partial(Study, **given)


def test_ask_and_tell(study: Callable[..., Study]) -> None:
    asked = 0
    with study() as running:
        with pytest.raises(AgentError, match="not ended"):
            _ = running.result
        while (request := running.ask()) is not None:
            asked += 1
            running.tell(request, bowl(request.candidate))
        assert running.ask() is None, "the end stays the end"
    assert running.result.status == "exact" and abs(running.result.best["a"] - 0.3) < 0.1
    assert running.result.spent["evaluations"] == asked == 25


def test_several_requests_may_be_open_and_are_told_in_any_order(study: Callable[..., Study]) -> None:
    with study(budget=26, options={"workers": 3, "proposer": "random"}) as running:
        first = running.ask()
        assert first is not None
        running.tell(first, bowl(first.candidate))
        again = running.ask()
        assert again is not None and again.stage == "noise", "it is measured twice, since it is declared deterministic"
        running.tell(again, bowl(again.candidate))
        while True:
            requests = [request for request in (running.ask() for _ in range(3)) if request is not None]
            if not requests:
                break
            assert len({request.candidate for request in requests}) == len(requests)
            for request in reversed(requests):
                running.tell(request, (bowl(request.candidate), "words"))
    assert running.result.status == "exact"
    assert running.result.trials[-1].feedback == "words"


def test_not_a_number_is_a_failure_and_the_study_goes_on(study: Callable[..., Study]) -> None:
    odd = [float("nan"), float("inf"), "3", None, {"other": 1}, Output.failed("error", "no power")]
    told = []
    with study(space={"a": Float(0, 1), "k": Categorical(list("abc"))}, options={"proposer": "random"}) as running:
        while (request := running.ask()) is not None:
            value = odd.pop() if len(told) > 1 and odd else bowl(request.candidate)
            told.append(value)
            running.tell(request, value)
    failed = [trial for trial in running.result.trials if trial.state == "failed"]
    assert len(failed) == 6 and "no power" in failed[0].failure
    assert all(trial.values is None for trial in failed)
    assert running.result.status == "exact"


def test_a_request_is_told_once_and_a_strange_one_not_at_all(study: Callable[..., Study]) -> None:
    with study() as running:
        request = running.ask()
        assert request is not None
        with pytest.raises(AgentError, match="not open"):
            running.tell(Request(request.candidate), 1.0)
        running.tell(request, 1.0)
        assert running.ask() is not None
        with pytest.raises(AgentError, match="not open"):
            running.tell(request, 1.0)


def test_closing_before_the_end_keeps_what_was_told(study: Callable[..., Study], tmp_path: Path) -> None:
    running = study()
    for _ in range(5):
        request = running.ask()
        assert request is not None
        running.tell(request, bowl(request.candidate))
    assert running.ask() is not None, "so the fifth is recorded"
    running.close()
    running.close()
    assert running.ask() is None
    (folder,) = tmp_path.glob("[!.]*")
    open_run = load_result(folder)
    assert open_run.status == "open" and sum(trial.count for trial in open_run.trials) == 4, (
        "the first was measured twice"
    )


def test_a_closed_study_goes_on(study: Callable[..., Study], tmp_path: Path) -> None:
    with study() as running:
        for _ in range(5):
            request = running.ask()
            assert request is not None
            running.tell(request, bowl(request.candidate))
        running.ask()
    (folder,) = tmp_path.glob("[!.]*")
    asked = 0
    with study(resume=folder.name) as again:
        while (request := again.ask()) is not None:
            asked += 1
            again.tell(request, bowl(request.candidate))
    assert again.result.run == folder.name and again.result.spent["evaluations"] == 25
    assert asked in (20, 21), "what was told is not asked for again"


def test_a_study_with_data_names_the_row_and_several_objectives(study: Callable[..., Study]) -> None:
    rows = [{"id": "one", "goal": 0.2}, {"id": "two", "goal": 0.4}]
    goals = [Objective("far"), Objective("size", "maximize")]
    seen = set()
    with study(data=rows, objectives=goals, budget=32, target="suite") as running:
        while (request := running.ask()) is not None:
            seen.add(request.example)
            running.tell(request, {"far": (request.candidate["a"] - request.row["goal"]) ** 2, "size": 1})
    assert seen == {"one", "two"} and running.result.status == "exact"


def test_a_study_that_cannot_work_says_so_at_once(study: Callable[..., Study]) -> None:
    with pytest.raises(ConfigError, match="1 evaluations cannot pay"):
        study(budget=1)
    with pytest.raises(ConfigError, match="unknown argument"):
        study(evalute=bowl)
    with (
        pytest.raises(PrerequisiteError, match="OPENAI_API_KEY"),
        study(space={"n": Int(1, 9)}, model="openai:x") as running,
    ):
        running.ask()


def test_half_a_surrogate_pair_in_the_best_candidate_can_be_saved(quick: Callable[..., Result]) -> None:
    texts = ["plain", "half \ud83d of a pair"]
    result = quick(
        lambda c: float(texts.index(c["t"])),
        space={"t": Categorical(texts)},
        objectives=[Objective("score", "maximize")],
        budget=6,
    )
    assert result.best["t"] == texts[1]
    saved = json.loads((result.folder / "summary.json").read_text())
    assert saved["best"]["t"] == texts[1] and "half" in (result.folder / "summary.md").read_text()
