"""A traced program is repaired by one run, by a model that knows nothing but what its prompt shows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.api import optimize
from agent.events import ProposalEnded
from agent.goals import Objective
from agent.journal import read_all
from agent.ledger import Budget
from agent.llm.scripted import Scripted
from agent.llm.types import ModelRequest
from agent.parameters import Float
from agent.results.result import Result
from agent.trace import op, param
from tests.proposers import invoice

HEAD, MIDDLE, TAIL = "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE"


def block(text: str, wrong: str) -> str | None:
    """The edit that takes back that a price is a whole number, in the line of a prompt that says so."""
    lines = [line for line in text.splitlines() if line.strip() == wrong]
    return "\n".join([HEAD, lines[0], MIDDLE, lines[0].replace("int(price)", "float(price)"), TAIL]) if lines else None


def seen(text: str) -> dict[str, Any]:
    """What a prompt gives away: the line that failed, what the prompt lacks, and the right rate."""
    out: dict[str, Any] = {}
    if failed := re.search(r"invalid literal for int.* (\w+ = .*int\(price\))", text):
        out["helper"] = failed[1]
    if re.search(r"expected [\d.]+ EUR, got [\d.]+$", text, re.MULTILINE):
        out["prompt"] = "Say how much it is, in EUR."
    # The tax is what is expected of a call against what came in: only the trace tells what came in.
    for row in text.split("row ")[1:]:
        expected = re.search(r"expected ([\d.]+) EUR, got", row)
        given = re.search(r"gross\(price=([\d.]+)[^,]*, delivery=([\d.]+)\) → [\d.]+; reads rate", row)
        if expected and given:
            out["rate"] = round((float(expected[1]) - float(given[2])) / float(given[1]) - 1, 4)
    return out


def changed(text: str, found: dict[str, Any]) -> str:
    """The reply that repairs what was found."""
    changes = {name: block(text, value) if name == "helper" else value for name, value in found.items()}
    kept = {name: value for name, value in changes.items() if value is not None}
    return json.dumps({"reasoning": "what the calls show", "changes": kept})


def reader(request: ModelRequest) -> str:
    """Repairs what the prompt shows, and gives up on what it does not: its reply depends on nothing else."""
    text = request.messages[0].text
    return changed(text, seen(text))


def critic(request: ModelRequest) -> str:
    """The same in two calls: what is wrong is said in the first, and the second goes by nothing but that."""
    text, shape = request.messages[0].text, request.schema or {}
    if "changes" not in shape["properties"]:
        found = seen(text)
        return json.dumps({name: json.dumps(found.get(name)) for name in shape["properties"]})
    said = re.findall(r"^- (\w+): (.*)$", text.partition("reviewer says")[2], re.MULTILINE)
    return changed(text, {name: json.loads(words) for name, words in said if words != "null"})


def repaired(runs: Path, proposer: str, reply: Any, **options: Any) -> tuple[Result, Scripted]:
    model = Scripted(reply)
    result = optimize(
        "invoice:check",
        folder=Path(__file__).parent,
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
    assert all((trial.values or {"value": 0.0})["value"] == 0.0 for trial in result.trials)
    assert not any(trial.candidate["rate"] == pytest.approx(invoice.RATE, abs=1e-6) for trial in result.trials)
    assert any("EUR" in trial.candidate["prompt"] for trial in result.trials), "it did not even try"
    assert "expected 18.40 EUR, got 22.00" in model.requests[0].messages[-1].text, "the feedback is not masked"


def test_where_rows_are_a_sample_the_worst_are_shown_with_their_trace_and_count_as_read(tmp_path: Path) -> None:
    cut = param("cut", Float(0, 1, default=0.9))

    @op
    def above(share: float) -> bool:
        if share > 0.97:
            raise ValueError(f"{share} is too much")
        return share > cut.value

    def judged(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[float, str]:
        return float(above(row["share"]) == (row["share"] > 0.4)), f"share {row['share']}"

    model = Scripted(lambda request: json.dumps({"reasoning": "", "changes": {"cut": 0.4 + len(model.requests) / 100}}))
    result = optimize(
        judged,
        space=[cut],
        data=[{"share": round((number * 37 % 100) / 100, 2)} for number in range(100)],
        objectives=Objective("value", "maximize", floor=0.0, low=0.0, high=1.0),
        budget=Budget(evaluations=120),
        model=model,
        options={"proposer": "optoprime", "options": {"rows": 4}},
        runs=tmp_path,
    )
    prompt = model.requests[0].messages[0].text
    shown = re.findall(
        r"^row (\S+): (\S+)\nrow: \{\"share\": ([\d.]+)\}\nfeedback: .*\n#0 above\(share=\3\)", prompt, re.M
    )
    assert len(shown) == 4 and "0" in [score for _, score, _ in shown]
    events = [entry.event for entry in read_all(result.folder)]
    made = [event for event in events if isinstance(event, ProposalEnded) and event.proposals]
    assert {name for name, _, _ in shown} == set(made[0].proposals[0]["read"])
    assert shown[0][1] in ("0", "failed"), "the worst does not come first"
