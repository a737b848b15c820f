"""What people say to a music player: the rows, and a whole run with a scripted model."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.config import load
from agent.llm.scripted import Scripted
from agent.llm.types import ModelRequest
from agent.results.result import Result
from agent.session import Session
from tests.cli_helpers import environment
from tests.examples.support import EXAMPLES, modules

FOLDER = EXAMPLES / "intent"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def task(rows: list[dict[str, Any]]) -> Scripted:
    """Knows what is wanted once it has seen an example; before, it does for every second request."""
    right = {row["text"]: row["answer"] for row in rows}

    def answer(request: ModelRequest) -> str:
        found = re.search(r"Request: (.*)\nAnswer:$", request.messages[-1].text)
        assert found, "the template asks another question"
        shown = {message.text for message in request.messages if message.role == "assistant"}
        assert shown <= {"play", "add"}
        known = len(found[1]) % 2 == 0 or shown
        return right[found[1]] if known else "Sure, what"

    return Scripted(answer, name="scripted:task")


async def run(folder: Path, rows: list[dict[str, Any]], **overrides: Any) -> Result:
    overrides = {"models.propose": "scripted:propose", "models.task": "scripted:task", **overrides}
    propose = Scripted(
        lambda request: json.dumps({"instruction": f"Say play or add, way {len(request.messages[0].text)}."})
    )
    models = {"scripted:propose": propose, "scripted:task": task(rows)}
    return await Session.of(load(FOLDER, overrides), model=models).run(folder / "run")


def test_the_rows_are_what_the_script_writes_and_the_pool_is_of_train() -> None:
    rows = lines(FOLDER / "rows.jsonl")
    with modules("intent", "rows") as (module,):
        assert module.own() == rows
        assert [sum(row["split"] == split for row in rows) for split in module.SPLITS] == [79, 99, 60]
        assert module.sentence(random.Random(1)) != module.sentence(random.Random(2))
    assert {row["answer"] for row in rows} == {"play", "add"}
    session = Session.of(load(FOLDER))
    session.divide()
    assert [example.id for example in session.problem.data] == [row["id"] for row in rows], "none repeats another one"
    known = {row["id"]: row for row in rows if row["split"] == "train"}
    pool = load(FOLDER).problem.space["demos"].pool  # type: ignore[attr-defined]
    assert all({**known[example["id"]], **example} == known[example["id"]] for example in pool)
    assert {example["answer"] for example in pool} == {"play", "add"}


@pytest.mark.parametrize("proposer", ["mipro", "bootstrap"])
async def test_a_run_proves_what_examples_are_worth(proposer: str, tmp_path: Path) -> None:
    rows = lines(FOLDER / "rows.jsonl")
    result = await run(tmp_path, rows, **{"proposer.name": proposer, "budget.evaluations": 200})
    assert result.status == "proven", result.sentence
    assert result.best["demos"]
    assert result.changes()["test"].fixed


async def test_where_nothing_helps_nothing_is_claimed(tmp_path: Path) -> None:
    rows = [{**row, "answer": "neither"} for row in lines(FOLDER / "rows.jsonl")]
    result = await run(tmp_path, rows, **{"proposer.name": "bootstrap", "budget.evaluations": 80})
    assert result.status == "initial"


def test_two_intents_of_snips_become_rows_of_the_same_form(tmp_path: Path) -> None:
    for name, text in (("train", "play a tune"), ("test", "add “Été” to mine")):
        given = [
            {"id": f"{name}/0", "input": text, "target": "PlayMusic" if name == "train" else "AddToPlaylist"},
            {"id": f"{name}/1", "input": "rate this book", "target": "RateBook"},
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    to = tmp_path / "rows.jsonl"
    command = [sys.executable, str(FOLDER / "rows.py"), "--snips", str(tmp_path), "--to", str(to)]
    subprocess.run(command, check=True, timeout=60, env=environment(), capture_output=True)
    assert [(row["text"], row["answer"], row["split"]) for row in lines(to)] == [
        ("play a tune", "play", "train"),
        ("add “Été” to mine", "add", "val"),
    ]


async def test_on_the_rows_of_snips(tmp_path: Path) -> None:
    data = os.environ.get("TRUEGAIN_DATA")
    if not data or not (Path(data) / "snips" / "train.jsonl").is_file():
        pytest.skip("the shared data is not here: TRUEGAIN_DATA names no folder with it")
    with modules("intent", "rows") as (module,):
        rows = module.snips(Path(data) / "snips")
    file = tmp_path / "snips.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = await run(tmp_path, rows, **{"data.file": str(file), "budget.evaluations": 200})
    assert result.status == "proven", result.sentence
