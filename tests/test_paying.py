"""Measuring outside of a run with an evaluator that asks models: paid, told, limited, or refused."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent import Budget, Prompt, Text
from agent.api import make_session
from agent.batch.rescore import rescore
from agent.beforehand import against_itself, measured
from agent.errors import BudgetExceeded, ConfigError, ProviderError
from agent.gate.owntest import own
from agent.ledger import Ledger
from agent.llm.types import ModelRequest
from agent.session import Session
from agent.setup import Setup
from tests.prompt_support import TEMPLATE, Task, rows

SPACE = {"instruction": Text("Double it.")}


def session(task: Any, program: Any = TEMPLATE, **given: Any) -> Session:
    more = {"data": rows(60), "metric": "exact_match", "budget": 300, "model": {"task": task}, **given}
    more.setdefault("options", {"proposer": "tests.prompt_support:Careful"})
    return make_session(program, space=SPACE, **more)


def test_measuring_beforehand_asks_the_task_model_and_tells_what_it_took() -> None:
    task = Task()
    found = asyncio.run(against_itself(session(task)))
    assert len(task.requests) == 20 and found.paid.startswith("20 model calls, ")
    assert found.noise.pairs == 10 and found.noise.discordance == 0


def test_doctor_asks_once() -> None:
    task = Task()
    assert asyncio.run(measured(session(task))).paid.startswith("1 model call, ")
    assert len(task.requests) == 1


def test_the_gates_self_test_asks_as_often_as_it_says() -> None:
    task, said = Task(), list[str]()
    checks = asyncio.run(own(session(task), 24, said.append))
    assert all(check.passed for check in checks) and len(task.requests) == 24
    assert said[-1].startswith("paid: 24 model calls")


def test_a_limit_on_calls_holds_outside_of_a_run_too() -> None:
    task = Task()
    with pytest.raises(BudgetExceeded):
        asyncio.run(against_itself(session(task, budget=Budget(evaluations=300, calls=7))))
    assert len(task.requests) == 7


def test_a_key_that_is_refused_is_told_and_is_no_failure_of_the_candidate() -> None:
    def refuse(request: ModelRequest) -> Any:
        return ProviderError("the key was refused", fatal=True, status=401)

    with pytest.raises(ProviderError, match="key was refused"):
        asyncio.run(measured(session(Task(refuse))))


def of(made: Session) -> Setup:
    return Setup(made.problem, made.settings, made.budget, 0)


def test_a_night_measures_prompts_again_and_counts_what_that_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task()
    made = session(task)
    monkeypatch.setattr("agent.batch.rescore._session", lambda *_: _divided(session(task)))
    ledgers: list[Ledger] = []
    monkeypatch.setattr("agent.paying.Ledger", lambda budget: ledgers.append(Ledger(budget)) or ledgers[-1])

    async def night(name: str) -> Any:
        return await rescore(
            of(made), made.problem.initial(), store=tmp_path / "drift.sqlite", night=name, most=10, rows=10
        )

    first = asyncio.run(night("one"))
    second = asyncio.run(night("two"))
    assert (first.evaluations, first.failed, second.scored) == (10, 0, 10)
    assert "no drift" in second.sentence
    assert [ledger.total.calls for ledger in ledgers] == [10, 10] and len(task.requests) == 20


def _divided(made: Session) -> Session:
    made.divide()
    return made


def test_what_is_only_compared_cannot_drift(tmp_path: Path) -> None:
    made = session(Task(), metric="preference", metric_options={"requirements": "It is right.", "judge": "model"})
    with pytest.raises(ConfigError, match="no score that could drift"):
        asyncio.run(rescore(of(made), made.problem.initial(), store=tmp_path / "d", night="one", most=10))


# A judge that is shown the prompt.


class Judging(Task):
    """Answers, and judges everything to be right."""

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Any:
        if request.schema is not None:
            self.requests.append(request)
            from agent.llm.types import Completion

            return Completion('{"rationale": "fine", "verdict": 5}', model="judge")
        return await super().complete(request, seed=seed)


JUDGE: Mapping[str, Any] = {
    "metric": "judge",
    "metric_options": {"rubric": "5 is right, 1 is wrong.", "show_prompt": True},
}


def judged(task: Task, program: Any) -> str:
    asyncio.run(measured(session(task, program, model={"task": task, "judge": task}, **JUDGE)))
    return "".join(turn.text for request in task.requests if request.schema for turn in request.messages)


def test_a_judge_is_shown_the_prompt_that_led_to_the_answer() -> None:
    assert "Double it." in judged(Judging(), Prompt(TEMPLATE))


def test_and_what_a_program_asked() -> None:
    async def program(candidate: Mapping[str, Any], row: Any, ask: Any) -> Any:
        draft = await ask(f"first {candidate['instruction']} {row['question']}")
        return await ask(f"then {draft} {row['question']}")

    seen = judged(Judging(), program)
    assert "first Double it." in seen and "then " in seen


def test_and_a_plain_one_in_a_thread() -> None:
    def program(candidate: Mapping[str, Any], row: Any, ask: Any) -> Any:
        return ask(f"plainly {candidate['instruction']} {row['question']}")

    assert "plainly Double it." in judged(Judging(), program)


def test_a_program_whose_prompts_nobody_knows_is_refused_before_it_costs() -> None:
    def program(candidate: Mapping[str, Any], row: Any) -> str:
        return "4"

    made = session(Judging(), program, model={"judge": Judging()}, **JUDGE)
    with pytest.raises(ConfigError, match="show_prompt") as found:
        made.check()
    assert "ask" in found.value.hint
