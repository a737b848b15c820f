"""What the tests of serving share: a served run asked over HTTP, and an agent that speaks to our MCP server."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.journal import read_all
from tests.cli_helpers import begin, command, environment, kill
from tests.fake_provider import Behaviour, Request, ok
from tests.prompt_support import WORDS
from tests.wall_support import MARK

ROOT = str(Path(__file__).parents[2])
PATIENCE = 90.0
"""Seconds that a test waits for anything; a busy machine takes its time."""

COUNTED = """
import pathlib, time
HERE = pathlib.Path(__file__).parent

def measure(candidate, seed=0, replicate=0):
    with open(HERE / "count", "a") as file:
        file.write(f"{candidate['x']} {candidate['n']}\\n")
    while candidate["n"] == 9 and not (HERE / "go").exists():
        time.sleep(0.02)
    return (candidate["x"] - 0.3) ** 2 + 0.02 * (candidate["n"] - 6) ** 2
"""
"""Writes down what it measures; n = 9 waits until there is a file `go`."""


@dataclass
class Served:
    """`truegain serve-eval` in a process of its own."""

    process: subprocess.Popen[str]
    run: str
    url: str
    token: str

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """Status and answer; `body` may be bytes that are no JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Authorization": f"Bearer {self.token}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        request = urllib.request.Request(self.url + path, data, given)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def values(self, x: float, n: int = 6, **more: Any) -> tuple[int, dict[str, Any]]:
        return self.ask("/evaluate", {"values": {"x": x, "n": n}, **more})

    def ended(self) -> list[dict[str, Any]]:
        """What it printed behind its address, once it has ended with 0."""
        out, err = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, err
        return [json.loads(line) for line in out.splitlines()]


@contextmanager
def served(problem: Path, *more: object) -> Iterator[Served]:
    """Serve a problem; what is left of it is killed at the end."""
    runs = problem.parent / "runs"
    process = begin("serve-eval", problem, "--runs", runs, "--json", *more, cwd=problem.parent, PYTHONPATH=ROOT)
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        found = json.loads(line)
        yield Served(process, found["run"], found["url"], found["token"])
    finally:
        if process.poll() is None:
            kill(process)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def events(folder: Path, kind: str) -> list[Any]:
    return [entry.event for entry in read_all(folder) if entry.event.type == kind]


def wait_for(done: Any, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.02)


PROMPT = """
name = "doubling"
description = "A question about a number."

[evaluator.prompt]
template = "{instruction}\\n\\n{question}"
metric = "exact_match"
max_output_tokens = 16

[space]
instruction = { type = "text", default = "Double it." }

[models]
propose = "none"
task = "openai-chat:m"
base_url = "URL"

[data]
train = "train.jsonl"
val = "val.jsonl"
test = "test.jsonl"

[proposer]
name = "tests.prompt_support:Careful"

[run]
workers = 4

[budget]
evaluations = 400
calls = 400

[prices."openai-chat:m"]
input = 1.0
output = 10.0
"""


def prompt_problem(folder: Path, url: str) -> Path:
    """Questions to a task model at a URL; what is held out is marked, in ids and texts."""
    folder.mkdir(parents=True)
    (folder / "problem.toml").write_text(PROMPT.replace("URL", url))
    number = 0
    for split, count in (("train", 40), ("val", 40), ("test", 20)):
        lines = []
        for _ in range(count):
            number += 1
            mark = "" if split == "train" else f"{MARK}-{split}-{number} "
            words = " ".join(f"{WORDS[(number * 7 + k * (number % 11 + 1)) % 12]}{number * 31 + k}" for k in range(6))
            row = {"id": f"{mark.strip()}row{number}", "question": f"{mark}{words}: twice {number}?"}
            lines.append(json.dumps({**row, "answer": str(2 * number)}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder


def doubling(request: Request) -> Behaviour:
    """The task model: right for every third number, and for all when the prompt says `carefully`."""
    said = json.dumps(request.body["messages"])
    asked = int(re.findall(r"twice (\d+)\?", said)[-1])
    return ok(str(2 * asked) if "carefully" in said or asked % 3 == 0 else "I do not know")


@dataclass
class Agent:
    """A scripted agent; everything that it was ever told is in `heard`."""

    client: Any
    heard: list[str] = field(default_factory=list)

    async def __call__(self, tool: str, **arguments: Any) -> Any:
        """What a tool gives; the words of its error, as a text."""
        answer = await self.client.call_tool(tool, arguments)
        text = "\n".join(getattr(block, "text", "") for block in answer.content)
        self.heard.append(text)
        if answer.is_error:
            return text
        self.heard.append(json.dumps(answer.structured_content))
        return answer.structured_content

    async def until(self, run: str, *states: str) -> dict[str, Any]:
        """Observe from where it was until the run is in a state; all events that came."""
        import asyncio

        cursor, seen, end = 0, [], time.monotonic() + PATIENCE
        while True:
            found = await self("observe", run=run, cursor=cursor)
            seen += found["events"]
            cursor = found["cursor"]
            if found["state"] in states and not found["more"]:
                return {**found, "events": seen}
            assert time.monotonic() < end, f"{run} stays {found['state']}"
            await asyncio.sleep(0.05)


@asynccontextmanager
async def agent(folder: Path, *more: object) -> AsyncIterator[Agent]:
    """An agent with our server for the problems in a folder; runs go to `runs` beside it."""
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client

    words = command("mcp", folder, "--runs", folder.parent / "runs", *more)
    env = environment(PYTHONPATH=ROOT, OPENAI_API_KEY="sk-test-0123456789abcdef")
    there = StdioServerParameters(command=words[0], args=words[1:], env=env, cwd=str(folder.parent))
    async with Client(stdio_client(there)) as client:
        yield Agent(client)


def ending(runs: Path) -> None:
    """End whatever still runs there."""
    from agent.control.client import stop
    from agent.errors import AgentError
    from agent.folders import folders

    for folder in folders(runs):
        with contextlib.suppress(AgentError):
            stop(folder, now=True)
