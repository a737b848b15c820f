"""Headlines without right answers: the rules, and a whole run by comparisons with scripted models."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from agent.config import load
from agent.errors import EvaluatorError
from agent.evaluators.pairwise import PairwiseEvaluator
from agent.llm.scripted import Scripted
from agent.llm.types import ModelRequest
from agent.results.result import Result
from agent.session import Session
from tests.examples.support import EXAMPLES, modules

FOLDER = EXAMPLES / "label-free"
WISH = "Give the matter and the day."
ROW = {"notice": "The lift at the gate is out of order until Friday.", "about": "lift", "when": "Friday"}


def headline(request: ModelRequest) -> str:
    """Keeps the rules where the instruction says how; it takes what a notice is about from its words."""
    instruction, _, notice = request.messages[-1].text.partition("\n\n")
    if WISH not in instruction:
        return "Subject: a notice"
    about = re.search("lift|choir|parcel|scarf|water|garden|printer|coffee|parking|library", notice, re.I)
    when = re.search("Monday|Tuesday|Thursday|Friday|Saturday|tomorrow|next week|tonight", notice)
    assert about and when
    return f"The {about[0]}, {when[0]}"


def improved(request: ModelRequest) -> str:
    """Sees in the outputs what is wrong; without them it can only ask for more care."""
    prompt = request.messages[0].text
    better = WISH if "Subject: a notice" in prompt else f"Take care{'!' * (len(prompt) % 9)}"
    reply = {"analysis": "they name nothing", "reasoning": "so they must", "changes": {"instruction": better}}
    return json.dumps(reply)


async def run(folder: Path, models: dict[str, Any], **overrides: Any) -> Result:
    names = {"models.propose": "scripted:propose", "models.task": "scripted:task"}
    return await Session.of(load(FOLDER, {**names, **overrides}), model=models).run(folder / "run")


def test_the_rows_are_what_the_script_writes() -> None:
    before = (FOLDER / "rows.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in before.splitlines()]
    with modules("label-free", "rows") as (module,):
        made = module.own()
    assert made == rows and len({row["notice"] for row in rows}) == 180
    for row in rows:
        assert row["about"] in row["notice"].lower() and row["when"] in row["notice"]


@pytest.mark.parametrize(
    ("output", "broken"),
    [
        ("Lift at the gate out of order until Friday", None),
        ("The lift at the gate is out of order Friday", None),
        ("", "empty"),
        ("Lift out of order until Friday\nUse the stairs", "line"),
        ("The lift at the gate is out of order until Friday", "words"),
        ('"Lift out of order until Friday"', "marks"),
        ("Subject: lift out of order until Friday", "before"),
        ("Out of order until Friday", "about"),
        ("Lift out of order", "when"),
        ("Lift 3 out of order until Friday", "number"),
    ],
)
def test_each_rule_is_broken_by_what_breaks_it(output: str, broken: str | None) -> None:
    with modules("label-free", "headlines") as (module,):
        found = module.faults(ROW, output)
        good = "Friday: no lift"
        assert module.better(ROW, good, output) == (0.5 if broken is None else 1.0)
        assert module.better(ROW, output, good) == (0.5 if broken is None else 0.0)
    assert found == [] if broken is None else any(broken in words for words in found)


async def test_a_run_without_right_answers_is_proven_by_pairs(tmp_path: Path) -> None:
    models = {"scripted:propose": Scripted(improved), "scripted:task": Scripted(headline)}
    result = await run(tmp_path, models)
    assert result.status == "proven", result.sentence
    assert result.best["instruction"] == WISH
    assert result.verdict is not None and "preference went from 0 to 1" in result.verdict["sentence"]
    assert any("output" in request.messages[0].text for request in models["scripted:propose"].requests)


async def test_a_model_that_always_prefers_the_first_is_refused_as_judge(tmp_path: Path) -> None:
    judge = Scripted(lambda request: json.dumps({"rationale": "so", "verdict": "1"}))
    models = {"scripted:propose": Scripted(improved), "scripted:task": Scripted(headline), "scripted:judge": judge}
    asked = {"evaluator.prompt.metric_options.judge": "model", "models.judge": "scripted:judge"}
    with pytest.raises(EvaluatorError, match="1 of 2 votes"):
        await run(tmp_path, models, **asked)
    assert not models["scripted:task"].requests


def test_the_problem_file_compares() -> None:
    assert isinstance(load(FOLDER).problem.evaluator, PairwiseEvaluator)
