"""Whole runs without right answers: found and proven where the outputs tell how, and nothing where they are hidden."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent import optimize
from agent.errors import ConfigError, EvaluatorError
from agent.events import CallStarted, EvaluationStarted, Event
from agent.journal import read, read_all
from agent.ledger import Budget
from agent.llm.scripted import Scripted
from agent.proposers.evidence import Evidence
from agent.replay import replay
from agent.results.result import Result
from tests.cli_helpers import cli
from tests.preference_worlds import PLANTED, REQUIREMENTS, SPACE, TEMPLATE, WANTED, judged, models, rows

ROWS = rows(80)


def run(folder: Path, proposer: str = "spo", seed: int = 1, budget: Any = 200, **given: Any) -> Result:
    options = {"proposer": proposer, "workers": 4, **given.pop("options", {})}
    asked = {"requirements": REQUIREMENTS, **given.pop("asked", {})}
    given.setdefault("model", models())
    given.setdefault("data", {"train": ROWS[:40], "val": ROWS[40:]})
    return optimize(
        TEMPLATE,
        space=SPACE,
        metric="preference",
        metric_options=asked,
        options=options,
        budget=budget,
        seed=seed,
        runs=folder,
        **given,
    )


def wishes(result: Result) -> int:
    return sum(wish in result.best["instruction"] for wish, _ in WANTED.values())


@dataclass(frozen=True)
class Ran:
    """A finished run, and what its models were asked."""

    result: Result
    models: dict[str, Scripted]
    events: list[Event]

    def said(self, role: str) -> list[str]:
        return [request.messages[0].text for request in self.models[role].requests]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    asked = models()
    result = run(tmp_path_factory.mktemp("runs"), model=asked)
    return Ran(result, asked, [entry.event for entry in read_all(result.folder)])


def test_a_prompt_gets_better_by_its_outputs_alone(found: Ran) -> None:
    assert found.result.status == "proven" and wishes(found.result) >= 2
    assert found.result.verdict is not None and "preference went from 0 to" in found.result.verdict["sentence"]


def test_the_best_and_the_worst_of_a_round_show_the_way(tmp_path: Path) -> None:
    result = run(tmp_path, "icpl", seed=2, budget=500, options={"options": {"size": 2, "rows": 3}})
    assert result.status == "proven" and wishes(result) >= 2


@pytest.mark.parametrize(("proposer", "options"), [("spo", {}), ("icpl", {"options": {"size": 2, "rows": 3}})])
def test_where_the_outputs_are_hidden_nothing_is_found(
    tmp_path: Path, proposer: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evidence, "text", lambda *given, **more: "")
    monkeypatch.setattr("agent.proposers.icpl._words", lambda *given: "")
    asked = models()
    result = run(tmp_path, proposer, options=options, budget=150, model=asked)
    assert result.status in ("initial", "unproven") and wishes(result) == 0
    assert len(asked["propose"].requests) > 3


def upside_down(request: Any) -> str:
    told = json.loads(judged(request))
    return json.dumps({**told, "verdict": {"1": "2", "2": "1", "tie": "tie"}[told["verdict"]]})


def test_a_judge_that_is_upside_down_ends_the_run_before_it_begins(tmp_path: Path) -> None:
    asked = models(judge=upside_down)
    with pytest.raises(EvaluatorError, match="upside down"):
        run(tmp_path, model=asked)
    assert not asked["task"].requests and len(asked["judge"].requests) == 6
    assert not [item for item in tmp_path.iterdir() if item.is_dir() and not item.name.startswith(".")]


@pytest.mark.parametrize("workers", [1, 64])
def test_it_replays_with_any_number_of_workers(found: Ran, workers: int) -> None:
    assert asyncio.run(replay(found.result.folder, workers))[1] is None


def test_all_that_the_judge_is_asked_is_on_record(found: Ran) -> None:
    calls = [event for event in found.events if isinstance(event, CallStarted) and event.role == "judge"]
    assert len(calls) == len(found.said("judge")) and sum("capital of France" in s for s in found.said("judge")) == 2


def test_a_resumed_run_tests_its_judge_no_more(tmp_path: Path) -> None:
    first = run(tmp_path, budget=130)
    again = models()
    run(tmp_path, model=again, resume=first.folder, budget=Budget(evaluations=170))
    assert again["judge"].requests, "the resumed run compared nothing"
    assert not [r for r in again["judge"].requests if "capital of France" in r.messages[0].text]
    assert asyncio.run(replay(first.folder))[1] is None


def test_what_is_asked_for_held_out_rows_is_not_the_searchs_to_read(found: Ran) -> None:
    gate = {f"evaluation-{e.id}" for e in found.events if isinstance(e, EvaluationStarted) and e.purpose == "gate"}
    asked = [e for e in found.events if isinstance(e, CallStarted) and e.scope in gate]
    assert {call.role for call in asked} == {"task", "judge"}
    seen = [e.event for e in read(found.result.folder) if isinstance(e.event, CallStarted)]
    assert seen and not [call for call in seen if call.scope in gate]


def test_the_proposer_is_never_shown_what_stands_in_the_gates_rows(found: Ran) -> None:
    said = "".join(found.said("propose"))
    assert any(row["question"] in said for row in ROWS[:40])
    assert not any(row["question"] in said for row in ROWS[40:])


def test_a_role_without_a_model_is_missed_at_once(tmp_path: Path) -> None:
    asked = models()
    del asked["judge"]
    with pytest.raises(ConfigError, match="role judge"):
        run(tmp_path, model=asked)


def test_planted_pairs_of_the_users_own_are_judged_by_the_requirements(tmp_path: Path) -> None:
    with pytest.raises(EvaluatorError, match="0 of 2 votes"):
        run(tmp_path, model=(asked := models(judge=lambda request: "words")), asked={"planted": PLANTED})
    first = asked["judge"].requests[0].messages[0].text
    assert REQUIREMENTS in first and "12 km" in first


# From a problem file, offline.

PROBLEM = """
[evaluator]
function = "task:answer"
metric = "preference"
deterministic = true
[evaluator.metric_options]
requirements = "Distances have a unit."
{judge}

[space.style]
type = "categorical"
choices = ["bare", "unit", "wordy"]

[data]
file = "rows.jsonl"

[proposer]
name = "coordinate"

[budget]
evaluations = 300
"""
TASK = """
def answer(candidate, row):
    number = str(len(row["question"]))
    return {"bare": number, "unit": number + " km", "wordy": "It is " + number}[candidate["style"]]


def better(row, a, b):
    return 0.5 if ("km" in a) == ("km" in b) else float("km" in a)


def worse(row, a, b):
    return 1 - better(row, a, b)
"""
PROGRAM = """
judge = "task:{name}"
planted = [{{ row = {{ question = "How far?" }}, good = "12 km", bad = "12" }}]
"""


def problem(folder: Path, judge: str) -> Path:
    folder.mkdir()
    (folder / "problem.toml").write_text(PROBLEM.format(judge=judge))
    (folder / "task.py").write_text(TASK)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(100)))
    return folder


def test_a_problem_file_needs_no_objective_and_no_answers(tmp_path: Path) -> None:
    place = problem(tmp_path / "towns", PROGRAM.format(name="better"))
    done = cli("run", place, "--json", cwd=tmp_path, PYTHONPATH=str(Path(__file__).parents[1]))
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["status"] == "proven" and result["best"] == {"style": "unit"}


def test_a_program_that_is_upside_down_is_refused(tmp_path: Path) -> None:
    done = cli(
        "run",
        problem(tmp_path / "towns", PROGRAM.format(name="worse")),
        "--json",
        cwd=tmp_path,
        PYTHONPATH=str(Path(__file__).parents[1]),
    )
    assert done.code == 3 and "upside down" in json.loads(done.out)["error"]["message"]


def test_a_person_who_is_not_there_is_no_judge(tmp_path: Path) -> None:
    place = problem(tmp_path / "towns", 'judge = "human"\nhuman_labels = 5')
    done = cli("run", place, "--json", cwd=tmp_path, PYTHONPATH=str(Path(__file__).parents[1]))
    assert done.code == 69 and "not a terminal" in json.loads(done.out)["error"]["message"]
    assert not (place / "human-labels").exists()
