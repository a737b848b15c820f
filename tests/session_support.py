"""What the tests of sessions share: a model on this machine, a gated problem, and a terminal that is scripted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect

from agent.events import Event
from tests.agentic_runs import heard
from tests.cli_helpers import command, environment, folder
from tests.fake_provider import Behaviour, FakeProvider, Request, structured, tools
from tests.support import entries

ROOT = Path(__file__).parents[1]
WAIT = 60.0
"""Seconds that a machine which is busy with other things may take for one step."""
KEY = "sk-test-0123456789abcdef0123456789"

TOML = """
[evaluator]
function = "evaluate:measure"
deterministic = true
timeout = 120

[space.a]
type = "float"
low = 0
high = 1

[space.b]
type = "float"
low = 0
high = 1

[[objectives]]
name = "loss"

[budget]
evaluations = 7

[models]
propose = "openai-chat:m"

[proposer.options]
off = ["python"]
"""

MEASURE = """
import pathlib, time
HERE = pathlib.Path(__file__).parent

def measure(candidate, seed=0, replicate=0):
    with open(HERE / "measured", "a") as file:
        file.write(".")
    while (HERE / "hold").exists():
        time.sleep(0.02)
    return (candidate["a"] - 0.3) ** 2 + (candidate["b"] - 0.7) ** 2
"""
"""Waits as long as there is a file `hold`."""


def problem(place: Path) -> Path:
    return folder(place, TOML, MEASURE)


def model(request: Request) -> Behaviour:
    """Looks at what there is, then submits; what it says is a function of what it was told."""
    first, results = heard(request)
    schema = json.dumps(request.body.get("tools", []))
    rng = random.Random(first)
    changes = {name: round(rng.random(), 3) for name in ("a", "b") if f'"{name}": {{' in schema}
    if not request.body.get("tools"):
        return structured({"proposals": [{"rationale": "plain", "changes": changes}]})
    if not results:
        return tools(("top", {"n": 3}))
    return tools(("submit", {"changes": changes, "rationale": f"a guess after {len(results)}"}))


@contextlib.contextmanager
def provider(answer: Callable[[Request], Behaviour] = model) -> Iterator[FakeProvider]:
    """A provider in a thread of its own, since a scripted terminal blocks."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    running = FakeProvider()
    running.answer = answer
    asyncio.run_coroutine_threadsafe(running.__aenter__(), loop).result(WAIT)
    try:
        yield running
    finally:
        asyncio.run_coroutine_threadsafe(running.__aexit__(), loop).result(WAIT)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT)
        loop.close()


def keys(running: FakeProvider) -> dict[str, str]:
    return {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{running.url}/v1"}


def spawn(*arguments: object, cwd: Path, term: str = "xterm", **env: str) -> Any:
    """`truegain session` at a terminal."""
    start, *rest = command("session", *arguments)
    # A pexpect terminal answers no questions about where its cursor is.
    more = {"PYTHONPATH": str(ROOT), "TERM": term, "PROMPT_TOOLKIT_NO_CPR": "1", **env}
    return pexpect.spawn(
        start, rest, cwd=str(cwd), env=environment(**more), encoding="utf-8", timeout=WAIT, dimensions=(40, 160)
    )


def ended(child: Any) -> int:
    """Read to the end; the exit code."""
    child.expect(pexpect.EOF)
    child.close()
    return int(child.exitstatus if child.exitstatus is not None else -child.signalstatus)


def wait(true: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < end, f"it never came: {what}"
        time.sleep(0.02)


def found(run: Path, *kinds: type[Event]) -> list[Any]:
    return [entry.event for entry in entries(run) if isinstance(entry.event, kinds)]


def prompts(running: FakeProvider) -> list[str]:
    """All that each request said, in the order of arrival."""
    return [json.dumps(request.body, ensure_ascii=False) for request in running.requests]
