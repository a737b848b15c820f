"""A function is found by asking a black box: the tool, the classical searchers, and an agent with a script."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from agent.config import load
from agent.llm.scripted import Scripted
from agent.llm.types import Completion, ToolCall, Usage
from agent.session import Session
from agent.tools.base import Desk, call
from agent.tools.base import load as load_tool
from tests.examples.support import EXAMPLES, modules

FOLDER = EXAMPLES / "find"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModuleType, ...]]:
    monkeypatch.setenv("FIND_BOX", "mirror")
    with modules("find", "boxes", "classical", "find", "task") as found:
        yield found


def session(proposer: str, **more: Any) -> Session:
    overrides = {"proposer.name": proposer, "evaluator.sandbox.unsafe": True, "models.propose": "none"}
    if proposer != "agentic":
        overrides["proposer.options"] = {}
    return Session.of(load(FOLDER, overrides), **more)


# The boxes.


def test_a_box_is_asked_where_it_works_and_may_be_broken_elsewhere(example: Any) -> None:
    boxes = example[0]
    ramp, rng = boxes.BOXES["ramp"], random.Random(0)
    low, high = ramp.broken
    assert not any(low <= ramp.draw(rng) < high for _ in range(500))
    answers = {ramp.ask("2.5", str(key)) for key in range(20)}
    assert len(answers) == 20 and max(answers) - min(answers) > 10
    assert all(abs(ramp.ask("0", str(key)) - 1) < 0.3 for key in range(20))
    with pytest.raises(ValueError, match="from -5 to 5"):
        ramp.ask("7", "a")
    with pytest.raises(ValueError, match="convert"):
        ramp.ask("seven", "a")
    assert ramp.right(0.0, 1.05) and not ramp.right(0.0, 1.2) and not ramp.right(0.0, float("nan"))


async def test_the_tool_counts_probes_and_says_what_is_known(example: Any) -> None:
    tool = load_tool("probe:probe", FOLDER)
    assert "20" not in tool.description and tool.schema["required"] == ["values"]
    notebook: dict[str, Any] = {}

    def desk(number: int, memory: Any = None) -> Desk:
        context: Any = SimpleNamespace(memory=memory, rng=random.Random(number))
        return Desk(context, f"main.{number}.0", {}, notebook)

    text, error = await call(tool, desk(1), {"values": ["abc", "Hello you"]})
    assert not error and "f('abc') = 'CBA'" in text and "18 of 20 probes are left" in text
    text, error = await call(tool, desk(2), {"values": ["x" * 201]})
    assert error and "at most 200 characters" in text and len(notebook["probes"]) == 2
    text, error = await call(tool, desk(3), {"values": ["a"] * 30})
    assert not error and "0 of 20" in text and len(notebook["probes"]) == 20
    text, error = await call(tool, desk(4), {"values": ["a"]})
    assert error and "all 20 probes are spent" in text
    text, error = await call(tool, desk(5), {"values": []})
    assert not error and "f('Hello you') = 'UOY OLLEH'" in text
    known = [["a", "A"]] * 20
    notebook.clear()  # the next decision: what was probed stands in the memory
    assert (await call(tool, desk(6, {"probes": known}), {"values": ["b"]}))[1]


# Who searches.


@pytest.mark.parametrize("box", ["cubic", "ramp"])
def test_the_library_writes_the_function_that_was_probed(example: Any, box: str) -> None:
    boxes, classical, _, _ = example
    asked = classical.questions(boxes.BOXES[box], random.Random(0))
    answers = [boxes.BOXES[box].ask(x, str(x)) for x in asked]
    assert len(asked) == boxes.PROBES
    _, program = min(classical.numbers(asked, answers))
    names: dict[str, Any] = {}
    exec(program, names)
    rng = random.Random(1)
    fresh = [boxes.BOXES[box].draw(rng) for _ in range(100)]
    assert sum(boxes.BOXES[box].right(x, names["f"](x)) for x in fresh) > 90


async def test_the_library_is_proven_on_inputs_that_nobody_saw(example: Any, tmp_path: Path) -> None:
    result = await session("classical:Library").run(tmp_path / "run")
    assert result.status == "proven" and "[::-1]" in result.best["program"]
    entries = (tmp_path / "run").glob("*")
    assert any(path.name.startswith("journal") for path in entries)


def thinks(request: Any) -> Completion:
    """A model with a script: it probes, looks at what came back, and writes what explains it."""
    answers = [message.text for message in request.messages if message.role == "tool"]
    probed = next((text for text in answers if "f('ab c') = " in text), None)
    usage = Usage(input=10, output=10)
    if probed is None:
        wanted = ToolCall("1", "probe", {"values": ["ab c", "Xy"]})
        return Completion("", (wanted,), stop="tool", usage=usage)
    given, answer = "ab c", re.search(r"f\('ab c'\) = '(.*)'", probed).group(1)  # type: ignore[union-attr]
    body = "x[::-1].upper()" if answer == given[::-1].upper() else "x"
    program = f"def f(x):\n    return {body}\n"
    wanted = ToolCall("2", "submit", {"changes": {"program": program}, "rationale": f"{given} gave {answer}"})
    return Completion("", (wanted,), stop="tool", usage=usage)


async def test_an_agent_probes_and_writes_what_it_found(example: Any, tmp_path: Path) -> None:
    made = session("agentic")
    made.settings = replace(made.settings, models={"propose": "scripted:test"})
    model = Scripted(thinks)
    made.model = model
    result = await made.run(tmp_path / "run")
    assert result.status == "proven" and "[::-1].upper()" in result.best["program"]
    assert "probe" in {tool.name for tool in model.requests[0].tools}
    seen = json.dumps([request.to_json() for request in model.requests])
    assert "CBA" not in seen and "C BA" in seen  # nothing but what was probed, and no held-out input


def test_the_table_has_the_median_the_range_and_what_is_proven(example: Any) -> None:
    rows = [
        {"box": "ramp", "proposer": "classical:Library", "right": right, "status": status}
        for right, status in ((0.5, "initial"), (1.0, "proven"), (0.9, "proven"))
    ]
    assert example[2].table(rows)[2] == "| ramp | 0.90 (0.50 to 1.00), 2/3 proven |"
