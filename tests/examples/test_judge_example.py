"""A judge's rubric is tuned on labelled pairs: what agreement is, and two judges in whole runs, one that can listen."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agent.config import load
from agent.errors import OutputInvalid
from agent.llm.scripted import Scripted
from agent.llm.types import ModelRequest
from agent.results.result import Result
from agent.session import Session
from tests.examples.support import EXAMPLES, modules

FOLDER = EXAMPLES / "judge"
ROW = {"instruction": "What is 1 + 1?", "output_1": "2", "output_2": "3", "label": 1}
RUBRIC = {"rubric": "The better answer is right."}


@pytest.fixture
def example() -> Iterator[tuple[ModuleType, ...]]:
    with modules("judge", "judging", "pairs") as found:
        yield found


async def judged(example: Any, *verdicts: Any, row: Any = ROW) -> tuple[dict[str, Any], list[str]]:
    said, prompts = iter(verdicts), []

    async def ask(turns: Any, **_: Any) -> Any:
        prompts.append(turns[0]["content"])
        verdict = next(said)
        if verdict is None:
            raise OutputInvalid("no verdict", raw="")
        return {"verdict": verdict}

    return await example[0].agreement(RUBRIC, row, ask), prompts


def test_the_rows_are_what_the_script_writes(example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = (FOLDER / "pairs.jsonl").read_text(encoding="utf-8")
    monkeypatch.setattr(example[1], "__file__", str(tmp_path / "pairs.py"))
    example[1].main()
    assert (tmp_path / "pairs.jsonl").read_text(encoding="utf-8") == there
    rows = [json.loads(line) for line in there.splitlines()]
    assert len({row["instruction"] for row in rows}) == len(rows) == 64
    assert sum(row["label"] for row in rows) == 96, "each place is the better one equally often"
    assert all(row["output_1"] != row["output_2"] for row in rows)


async def test_a_judge_that_follows_the_order_agrees_by_half(example: Any) -> None:
    both, prompts = await judged(example, "1", "2")
    assert (both["agreement"], both["right"], both["flipped"]) == (1.0, 1.0, 0.0)
    assert both["feedback"] == "right in both orders"
    one, two = ([text.index(f"\n{answer}\n") for answer in "23"] for text in prompts)
    assert one == sorted(one) and two != sorted(two), "each answer is shown first once"
    order, _ = await judged(example, "1", "1")
    assert (order["agreement"], order["right"], order["flipped"]) == (0.5, 0.0, 1.0)
    assert "with answer 2 shown first the judge named answer 2; people prefer answer 1: '2'" in order["feedback"]
    wrong, _ = await judged(example, "2", "1")
    assert (wrong["agreement"], wrong["right"], wrong["flipped"]) == (0.0, 0.0, 0.0)
    lost, _ = await judged(example, None, "2")
    assert (lost["agreement"], lost["right"], lost["flipped"], lost["unreadable"]) == (0.5, 0.0, 0.0, 0.5)
    assert "could not be read" in lost["feedback"]


async def test_the_judge_reads_the_rubric_and_not_the_label(example: Any) -> None:
    _, prompts = await judged(example, "1", "2")
    _, other = await judged(example, "1", "2", row={**ROW, "label": 2})
    assert prompts == other and RUBRIC["rubric"] in prompts[0]


def judge(request: ModelRequest, listens: bool) -> str:
    """Knows the right answer, and says so when it is told that being right counts; else it names the second one."""
    prompt = request.messages[0].text
    rows = [json.loads(line) for line in (FOLDER / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    row = next(row for row in rows if f"instruction: {row['instruction']}\n" in prompt)
    good = row[f"output_{row['label']}"]
    (first,) = re.findall(r"Answer 1:\n--- \w+\n(.*?)\n--- ", prompt, re.S)
    right = "1" if first == good else "2"
    return json.dumps({"verdict": right if listens and "is correct" in prompt else "2"})


async def run(folder: Path, listens: bool) -> Result:
    setup = load(FOLDER, {"models.task": "scripted:judge", "models.propose": "none", "budget.evaluations": 170})
    models = {"scripted:judge": Scripted(lambda request: judge(request, listens))}
    return await Session.of(setup, model=models).run(folder)


async def test_a_rubric_that_the_judge_listens_to_is_proven(tmp_path: Path) -> None:
    result = await run(tmp_path / "run", listens=True)
    assert result.status == "proven" and "is correct" in result.best["rubric"]


async def test_with_a_judge_that_follows_the_order_nothing_is_shown(tmp_path: Path) -> None:
    result = await run(tmp_path / "run", listens=False)
    assert result.status == "initial"
    assert all(trial.values["flipped"] == 1.0 for trial in result.trials if trial.values)


def test_rows_with_human_labels_are_read_as_they_are() -> None:
    data = os.environ.get("TRUEGAIN_DATA")
    file = Path(data or "") / "pairwise" / "llmbar_natural_100.jsonl"
    if not data or not file.is_file():
        pytest.skip("the shared data is not here: TRUEGAIN_DATA names no folder with it")
    problem = load(FOLDER, {"data.file": str(file), "data.split": None}).problem
    assert len(problem.data) == 100 and all(
        {"instruction", "output_1", "label"} <= set(row.row) for row in problem.data
    )


async def test_kappa_of_a_judge_that_follows_the_order_is_none_to_build_on(example: Any) -> None:
    rows = [json.loads(line) for line in (FOLDER / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    with modules("judge", "calibrate", "judging") as (calibrate, _):
        model = Scripted(lambda request: judge(request, listens=True))
        right = await calibrate.calibrated("Name what is correct.", rows, model)
        blind = await calibrate.calibrated("Name one.", rows, model)
    assert right.kappa.value == 1.0 == right.agreement.value
    assert blind.flips.value == 1.0 and blind.agreement.value == 0.5 and blind.first.value == 0.0
    assert "do not optimize against this judge" in blind.sentence
