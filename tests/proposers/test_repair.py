"""A traced program is repaired by one run, by a model that knows nothing but what its prompt shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from agent.api import optimize
from agent.goals import Objective
from agent.ledger import Budget
from agent.llm.scripted import Scripted
from agent.llm.types import ModelRequest
from agent.result import Result
from tests.proposers import invoice

HEAD, MIDDLE, TAIL = "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE"


def reader(request: ModelRequest) -> str:
    """Repairs what the prompt shows, and gives up on what it does not: its reply depends on nothing else."""
    text = request.messages[0].text
    changes: dict[str, Any] = {}
    # Where something failed with a text that is no whole number, the failing line must not ask for one.
    if failed := re.search(r"raised .*invalid literal for int.*: (\w.*int\(price\)[^;\n]*); reads helper", text):
        (line,) = [line for line in text.splitlines() if line.strip() == failed[1].strip()]
        changes["helper"] = "\n".join([HEAD, line, MIDDLE, line.replace("int(price)", "float(price)"), TAIL])
    # The tax is what is expected of a call against what came in.
    for row in text.split("row ")[1:]:
        expected = re.search(r"expected ([\d.]+) EUR, got", row)
        came_in = re.search(r"gross\(price=([\d.]+)[^)]*\) → [\d.]+; reads rate", row)
        if expected and came_in:
            changes["rate"] = round(float(expected[1]) / float(came_in[1]) - 1, 6)
        said = re.search(r"say\(.*\) → \"([\d.]+)\"; reads prompt", row)
        if expected and said:
            changes["prompt"] = "Say how much it is, in EUR."
    return json.dumps({"reasoning": "what the calls show", "changes": changes})


def critic(request: ModelRequest) -> str:
    """The same in two calls: what is wrong is said in the first, and the second reads only that."""
    shape = request.schema or {}
    if "changes" not in shape["properties"]:
        changes = json.loads(reader(request))["changes"]
        return json.dumps({name: json.dumps(changes.get(name)) for name in shape["properties"]})
    said = re.findall(r"^- (\w+): (.*)$", request.messages[0].text.partition("reviewer says")[2], re.MULTILINE)
    changes = {name: json.loads(words) for name, words in said if words != "null"}
    return json.dumps({"reasoning": "as the reviewer says", "changes": changes})


def repaired(runs: Path, proposer: str, reply: Any, **options: Any) -> tuple[Result, Scripted]:
    model = Scripted(reply)
    result = optimize(
        invoice.check,
        space=invoice.SPACE,
        data=[{"item": item} for item in invoice.PRICES],
        target="suite",
        deterministic=True,
        objectives=Objective("value", "maximize", floor=0.0, low=0.0, high=1.0),
        budget=Budget(evaluations=32),
        model=model,
        options={"proposer": proposer, "options": {"rows": 4, **options}},
        runs=runs,
    )
    return result, model


@pytest.mark.parametrize(("proposer", "reply"), [("optoprime", reader), ("textgrad", critic)])
def test_three_faults_are_repaired_in_one_run_from_what_the_trace_shows(
    tmp_path: Path, proposer: str, reply: Any
) -> None:
    result, _ = repaired(tmp_path, proposer, reply)
    assert result.best["rate"] == pytest.approx(invoice.RATE, abs=1e-6)
    assert "EUR" in result.best["prompt"] and "int(count) * float(price)" in result.best["helper"]
    assert (result.trials[0].values or {})["value"] == 0.0
    best = next(trial for trial in result.trials if trial.candidate == result.best)
    assert (best.values or {})["value"] == 1.0 and best.source == f"{proposer}:llm"
    first = next(trial for trial in result.trials if trial.source.endswith(":llm"))
    assert first.candidate == result.best, "numbers, text and code were not changed together"


@pytest.mark.parametrize(("proposer", "reply"), [("optoprime", reader), ("textgrad", critic)])
def test_the_same_model_repairs_nothing_when_the_trace_is_masked(tmp_path: Path, proposer: str, reply: Any) -> None:
    result, model = repaired(tmp_path, proposer, reply, trace=False)
    assert not any(trial.source.endswith(":llm") for trial in result.trials)
    assert all((trial.values or {"value": 0.0})["value"] == 0.0 for trial in result.trials)
    assert "expected 14.40 EUR, got 18.00" in model.requests[0].messages[-1].text, "the feedback is not masked"
