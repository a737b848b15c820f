"""A tool is a typed function with a docstring; whatever goes wrong in it becomes text."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from agent.errors import BudgetExceeded, ConfigError, ProviderError, StoreError
from agent.llm.schema import verify
from agent.tools.base import CHARS, TABLE, Desk, Tool, ToolError, call, load, tool_of
from tests.cli_helpers import environment

ROOT = Path(__file__).parents[2]


def desk() -> Desk:
    """One with nothing on it that these tools would use."""
    context: Any = object()
    return Desk(context, "c.0.0", {"limit": 3})


async def fetch(
    desk: Desk, gene: str, n: int = 5, kind: Literal["up", "down"] = "up", notes: list[str] | None = None
) -> str:
    """Look up what is known of a gene.

    Of use before a batch is chosen.

    Args:
        gene: Its symbol, such as
            TP53.
        n: At most so many lines.

    Raises:
        ToolError: Not part of the description.
    """
    return f"{gene} {n} {kind} {notes} {desk.key} {desk.options['limit']}"


def test_a_tool_is_made_of_a_signature_and_a_docstring() -> None:
    tool = tool_of(fetch)
    assert tool.name == "fetch"
    assert tool.description == "Look up what is known of a gene.\nOf use before a batch is chosen."
    assert tool.schema == {
        "type": "object",
        "properties": {
            "gene": {"type": "string", "description": "Its symbol, such as TP53."},
            "n": {"type": "integer", "description": "At most so many lines.", "default": 5},
            "kind": {"enum": ["up", "down"], "type": "string", "default": "up"},
            "notes": {"anyOf": [{"items": {"type": "string"}, "type": "array"}, {"type": "null"}], "default": None},
        },
        "required": ["gene"],
        "additionalProperties": False,
    }
    verify(tool.schema)  # what our own check and the providers' strict modes can read


async def test_arguments_are_checked_and_converted_and_what_is_left_out_has_its_default() -> None:
    tool = tool_of(fetch)
    assert await call(tool, desk(), {"gene": "TP53", "n": "7"}) == ("TP53 7 up None c.0.0 3", False)
    for arguments, said in [
        ({}, "gene: Field required"),
        ({"gene": "a", "n": 2.5}, "n: Input should be a valid integer"),
        ({"gene": "a", "kind": "left"}, "kind: Input should be 'up' or 'down'"),
        ({"gene": "a", "path": "../x"}, "path: Extra inputs are not permitted"),
    ]:
        text, error = await call(tool, desk(), arguments)
        assert error
        assert said in text
        assert "one JSON object with gene, n (optional)" in text
    text, error = await call(tool, desk(), None)
    assert error
    assert "not a JSON object" in text


async def test_a_plain_function_without_a_desk_is_a_tool_and_runs_in_a_thread_of_its_own() -> None:
    def double(schema: float, model_x: dict[str, int]) -> dict[str, Any]:
        """Twice as much."""
        return {"twice": 2 * schema, "map": model_x, "main": threading.current_thread() is threading.main_thread()}

    text, error = await call(tool_of(double), desk(), {"schema": 2, "model_x": {"a": 1}})
    assert (text, error) == ('{"twice": 4.0, "map": {"a": 1}, "main": false}', False)


@dataclass
class Place:
    """Where."""

    chromosome: int
    title: str = ""


async def test_dataclasses_are_made_of_objects() -> None:
    async def near(place: Place, others: tuple[Place, ...] = ()) -> str:
        """What is near."""
        assert isinstance(place, Place) and all(isinstance(item, Place) for item in others)
        return f"{place.chromosome} {place.title} {len(others)}"

    tool = tool_of(near)
    verify(tool.schema)
    assert tool.schema["$defs"]["Place"]["properties"]["title"]["type"] == "string"
    given = {"place": {"chromosome": 17, "title": "p13.1"}, "others": [{"chromosome": 1}]}
    assert await call(tool, desk(), given) == ("17 p13.1 1", False)
    text, error = await call(tool, desk(), {"place": {"chromosome": "x"}})
    assert error and "place.chromosome" in text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ToolError("no such row", hint="rows are r1, r2"), "no such row (rows are r1, r2)"),
        (BudgetExceeded("evaluations", 5, 5), "the limit of 5 evaluations is reached"),
        (ProviderError("the server is busy", retryable=True), "the server is busy"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (SystemExit(3), "SystemExit"),
        (StopIteration(), "StopIteration"),
        (RecursionError("too deep"), "RecursionError"),
    ],
    ids=lambda given: type(given).__name__,
)
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "async"])
async def test_what_a_tool_raises_goes_back_as_text(error: BaseException, said: str, plain: bool) -> None:
    def thread() -> None:
        """Fail."""
        raise error

    async def task() -> None:
        """Fail."""
        raise error

    text, failed = await call(tool_of(thread if plain else task), desk(), {})
    if not plain and isinstance(error, StopIteration):
        said = "RuntimeError"  # what Python makes of it in a coroutine
    assert failed
    assert said in text


@pytest.mark.parametrize("error", [StoreError("disk full"), ProviderError("no credit", fatal=True)])
async def test_what_must_stop_the_run_is_not_hidden(error: Exception) -> None:
    async def broken() -> None:
        """Fail."""
        raise error

    with pytest.raises(type(error)):
        await call(tool_of(broken), desk(), {})


async def test_a_tool_that_never_ends_is_ended_and_the_model_told() -> None:
    release = threading.Event()

    def forever() -> None:
        """Hang."""
        release.wait()

    async def sleep() -> None:
        """Hang."""
        await asyncio.Event().wait()

    try:
        for function in (forever, sleep):
            before = time.monotonic()
            text, error = await call(tool_of(function, seconds=0.1), desk(), {})
            assert error
            assert "within 0.1 seconds" in text
            assert time.monotonic() - before < 30
    finally:
        release.set()


def test_a_thread_that_hangs_does_not_keep_the_process_from_ending(tmp_path: Path) -> None:
    script = """
import asyncio, time
from agent.tools.base import Desk, call, tool_of
def forever() -> None:
    "Hang."
    time.sleep(3600)
print(asyncio.run(call(tool_of(forever, seconds=.1), Desk(None), {})))
"""
    env = environment(PYTHONPATH=str(ROOT))
    done = subprocess.run([sys.executable, "-P", "-c", script], env=env, capture_output=True, timeout=100)
    assert done.returncode == 0
    assert b"was ended" in done.stdout


async def test_huge_and_hidden_output_is_cut_to_head_and_tail() -> None:
    def huge() -> str:
        """Much."""
        return "head\x1b[2J\u202e" + "x" * 3_000_000 + "tail"

    text, error = await call(tool_of(huge), desk(), {})
    assert not error
    assert len(text) <= CHARS
    assert text.startswith("head")
    assert text.endswith("tail")
    assert "left out" in text
    assert not {"\x1b", "\u202e"} & set(text)
    assert len((await call(tool_of(huge), desk(), {}, chars=200))[0]) <= 200


def test_what_cannot_be_a_tool_is_refused_before_the_run() -> None:
    def bare(x: int) -> int:
        return x

    def untyped(x) -> int:  # type: ignore[no-untyped-def]
        """Say."""
        return int(x)

    def many(*x: int) -> int:
        """Say."""
        return len(x)

    def odd(x: threading.Thread) -> int:
        """Say."""
        return 0

    for function, said in [(bare, "no docstring"), (untyped, "no type"), (many, "by name"), (odd, "JSON cannot say")]:
        with pytest.raises(ConfigError, match=said):
            tool_of(function)

    def fine() -> int:
        """Say."""
        return 0

    with pytest.raises(ConfigError, match="cannot be the name of a tool"):
        tool_of(fine, name="no spaces")


def test_users_tools_are_found_in_the_folder_of_the_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_gene_tools.py").write_text(
        "from __future__ import annotations\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from agent.tools.base import Desk\n"
        'def lookup(desk: Desk, gene: str) -> str:\n    """Look up."""\n    return gene\n'
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    tool = load("my_gene_tools:lookup", tmp_path)
    assert isinstance(tool, Tool)
    assert tool.name == "lookup"
    with pytest.raises(ConfigError, match="there is no tool 'lookop'"):
        load("lookop", tmp_path)
    with pytest.raises(ConfigError, match="no 'other'"):
        load("my_gene_tools:other", tmp_path)
    monkeypatch.delitem(sys.modules, "my_gene_tools")


@pytest.mark.parametrize("name", sorted(TABLE))
def test_every_tool_of_the_table_loads_under_its_name(name: str) -> None:
    tool = load(name)
    assert tool.name == name
    verify(tool.schema)
