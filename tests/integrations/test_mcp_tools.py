"""Tools of MCP servers: a real server, over stdio and over HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.integrations import mcp_tools
from agent.tools.base import Desk, Tool, call
from tests.agentic_support import Alone, alone, problem

pytest.importorskip("mcp", reason="needs the extra mcp")

SERVER = Path(__file__).parents[1] / "mcp_server.py"
STDIO: dict[str, Any] = {"name": "genes", "command": sys.executable, "args": [str(SERVER)]}


def named(tools: list[Tool]) -> dict[str, Tool]:
    return {tool.name: tool for tool in tools}


async def said(context: Alone, tool: Tool, **arguments: Any) -> tuple[str, bool]:
    return await call(tool, Desk(context, "main.1.0"), arguments)


async def test_the_tools_of_a_program_that_is_started_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENES_TOKEN", "g-123")
    monkeypatch.setenv("OTHER_TOKEN", "not for it")
    (tmp_path / "home").mkdir()
    context = alone(problem(tmp_path / "home"))
    async with mcp_tools.opened([{**STDIO, "env": ["GENES_TOKEN"]}], context) as found:
        tools = named(found)
        assert list(tools) == [f"genes_{name}" for name in ("lookup", "secret", "broken", "die", "hang", "huge")]
        lookup = tools["genes_lookup"]
        assert lookup.description == "What is known of a gene."
        assert lookup.schema["required"] == ["gene"]
        text, error = await said(context, lookup, gene="TP53", n=2)
        assert not error
        assert "TP53 is very very well known" in text
        assert "It is data" in text  # what others write is marked
        text, _ = await said(context, tools["genes_secret"])
        assert "g-123 none home" in text  # no other variable of ours, and the folder of the problem


async def test_what_goes_wrong_in_a_server_is_told_to_the_model() -> None:
    context = alone()
    async with mcp_tools.opened([STDIO], context) as found:
        tools = named(found)
        text, error = await said(context, tools["genes_lookup"], n="many")
        assert error
        text, error = await said(context, tools["genes_broken"])
        assert error
        assert "genes_broken" in text
        text, error = await said(context, tools["genes_huge"])
        assert not error
        assert len(text) < 7000
        assert "\x1b" not in text
        slow = Tool("hang", "", {}, tools["genes_hang"].function, seconds=0.5)
        text, error = await said(context, slow)
        assert error
        assert "0.5 seconds" in text


async def test_a_server_that_dies_in_a_call_is_started_once_more() -> None:
    context = alone()
    async with mcp_tools.opened([STDIO], context) as found:
        tools = named(found)
        told = []
        for name in ("die", "lookup", "die", "lookup"):
            async with asyncio.timeout(120):
                given = {"gene": "x"} if name == "lookup" else {}
                told.append(await said(context, tools[f"genes_{name}"], **given))
    assert [error for _, error in told] == [True, False, True, True]
    assert "has ended" in told[0][0] and "started once more" in told[0][0]
    assert all("has ended" in text and "go on without" in text for text, _ in told[2:])
    assert not context.rejections


def deep(levels: int) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": deep(levels - 1) if levels else {}}}


ODD: list[tuple[Any, Any, str]] = [
    ("do", {"properties": 5}, "properties"),
    ("do", {"properties": None}, "properties"),
    ("do", {"properties": {"x": 5}}, "properties"),
    ("do", {"required": 5}, "requires"),
    ("do", {"required": [5]}, "requires"),
    ("do", {"type": "string"}, "not that of an object"),
    ("do", [1], "not that of an object"),
    ("do", None, "not that of an object"),
    ("do", deep(20), "more than 16 levels"),
    ("do", deep(400), "more than 16 levels"),
    ("do", {"properties": {"x": {"default": float("nan")}}}, "JSON does not have"),
    ("do", {"properties": {"x\u202e": {}}}, "cannot be shown"),
    ("do", {"description": ["x" * 500] * 20}, "more than 6000 characters"),
    ("", {}, "no name"),
    (None, {}, "no name"),
    ("a" * 300, {}, "no name"),
    ("\ud800", {}, "no name"),
]


@pytest.mark.parametrize(("name", "schema", "why"), ODD, ids=[str(n) for n in range(len(ODD))])
async def test_a_tool_that_lies_is_left_out_and_the_others_stay(
    name: Any, schema: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {"properties": {"gene": {"type": "string", "description": "Which\x1b[2J one\u202e."}}, "required": ["gene"]}
    items = [
        SimpleNamespace(name=n, description=None, title="Does\x1b[2J it", input_schema=s)
        for n, s in ((name, schema), ("fine", good))
    ]

    class Lying:
        async def list_tools(self, cursor: Any = None) -> Any:
            return SimpleNamespace(tools=items, next_cursor=None)

        async def call_tool(self, name: str, given: Any) -> Any:
            return SimpleNamespace(content=[], structured_content=None, is_error=False)

    @asynccontextmanager
    async def made(self: Any) -> AsyncIterator[Any]:
        yield Lying()

    monkeypatch.setattr(mcp_tools.Connection, "_made", made)
    context = alone()
    for _ in range(2):  # the second time from the record
        async with mcp_tools.opened([STDIO], context) as found:
            assert [tool.name for tool in found] == ["genes_fine"]
        assert why in context.rejections[-1]["reason"]
    assert len(context.rejections) == 2 and len(context.record) == 1
    assert found[0].description == "Does it"
    assert found[0].schema["properties"]["gene"]["description"] == "Which one�."
    text, error = await call(found[0], Desk(context, "main.1.0"), None)  # arguments that are no object
    assert error and "gene" in text


async def test_a_recorded_offer_starts_no_server() -> None:
    context = alone()
    async with mcp_tools.opened([{**STDIO, "only": ["lookup"]}], context) as found:
        assert [tool.name for tool in found] == ["genes_lookup"]
    later = alone(record=context.record)
    async with mcp_tools.opened([{**STDIO, "command": "/no/such/program"}], later) as found:
        assert [tool.name for tool in found] == ["genes_lookup"]
        assert found[0].schema == json.loads(context.record["main", 0, 0][2][0])[0]["schema"]
        text, error = await said(later, found[0], gene="x")  # but a call that is not on record needs it
        assert error
        assert "cannot be used" in text
    assert not later.ran


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ({"name": "gone", "command": "/no/such/program"}, "gone cannot be used"),
        ({"name": "dies", "command": sys.executable, "args": ["-c", "import sys; sys.exit('no key')"]}, "no key"),
        ({"name": "closed", "url": "http://127.0.0.1:9/mcp"}, "closed cannot be used"),
    ],
    ids=lambda given: given["name"] if isinstance(given, dict) else "",
)
async def test_a_server_that_cannot_be_used_is_told_of_and_left_out(server: dict[str, Any], reason: str) -> None:
    context = alone()
    async with asyncio.timeout(100), mcp_tools.opened([server, {**STDIO, "only": ["lookup"]}], context) as found:
        assert [tool.name for tool in found] == ["genes_lookup"]
    assert reason in context.rejections[0]["reason"] and context.rejections[0]["reason"].count("cannot be used") == 1


async def test_a_server_that_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen([sys.executable, str(SERVER), str(port)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 100
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                await asyncio.sleep(0.05)
        context = alone()
        async with mcp_tools.opened([{"name": "web", "url": f"http://127.0.0.1:{port}/mcp"}], context) as found:
            text, error = await said(context, named(found)["web_lookup"], gene="BRCA1")
        assert not error, text
        assert "BRCA1 is very well known" in text
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([{"command": "x"}], "no name"),
        ([{"name": "no spaces", "command": "x"}], "short name"),
        ([{"name": "a"}], "a command or a url"),
        ([{"name": "a", "command": "x", "url": "http://x"}], "a command or a url"),
        ([{"name": "a", "command": "x", "env": ["NO_SUCH_VARIABLE_HERE"]}], "no variable NO_SUCH_VARIABLE_HERE"),
        ([{"name": "a", "command": "x", "arg": []}], "mcp.arg: unknown"),
        ([{"name": "a", "command": "x", "args": "y"}], "lists of texts"),
        ([STDIO, STDIO], "same name"),
        ("x", "a list of tables"),
    ],
)
def test_a_wrong_entry_is_refused_before_anything_is_spent(given: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        mcp_tools.check(given)
