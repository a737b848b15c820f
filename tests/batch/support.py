"""Batches that the tests share: small problems, a model provider in a thread, and a clock set by hand."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.batch.night import night
from agent.batch.outcome import Night
from agent.batch.plan import load
from tests.cli_helpers import TOML, folder
from tests.fake_provider import Behaviour, FakeProvider, Request, ok
from tests.support import thinker

COUNTING = """
import pathlib, random
HERE = pathlib.Path(__file__).parent

def measure(candidate, seed=0, replicate=0):
    with open(HERE.parent / "count", "a") as file:
        file.write(".")
    value = (candidate["x"] - 0.3) ** 2 + 0.02 * (candidate["n"] - 6) ** 2
    return value + NOISE * random.Random(repr((sorted(candidate.items()), seed, replicate))).gauss(0, 1)
"""
"""The bowl; each measurement leaves a byte in `count` beside the problem's folder."""


def bowl(place: Path, *, evaluations: int = 12, noise: float = 0.0, toml: str = "", **replace: str) -> Path:
    """A problem folder; `replace` changes words of its file."""
    text = TOML.replace("evaluations = 12", f"evaluations = {evaluations}")
    if noise:
        text = text.replace("deterministic = true\n", "")
    for old, new in replace.items():
        text = text.replace(old, new)
    return folder(place, text + toml, COUNTING.replace("NOISE", str(noise)))


def batch(place: Path, head: str, *problems: str, name: str = "nightly.toml") -> Path:
    """A batch file over problem folders beside it; each of `problems` is a path, and lines that belong to it."""
    parts = [head]
    for text in problems:
        path, _, more = text.partition("\n")
        parts.append(f'[[problems]]\npath = "{path}"\n{more}')
    file = place / name
    file.write_text('runs = "runs"\n' + "\n".join(parts) + "\n")
    return file


class Clock:
    """Seconds since 1970 that move when they are told to."""

    def __init__(self, start: float) -> None:
        self.now = start

    def __call__(self) -> float:
        return self.now


def one_night(file: Path, now: Any = None, changes: Mapping[str, Any] | None = None, **given: Any) -> Night:
    """A night in this process."""
    plan = load(file, None, changes)
    if now is not None:
        given["now"] = now
    return asyncio.run(night(plan, **given))


def problems(done: Night | Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What became of each problem, by name."""
    document = done.document if isinstance(done, Night) else done
    return {problem["problem"]: problem for problem in document["problems"]}


def think(request: Request) -> Behaviour:
    """A model that is a function of what it is asked, in OpenAI's Chat."""
    schema = request.body["response_format"]["json_schema"]["schema"]
    text = "\n".join(message["content"] for message in request.body["messages"] if message["role"] == "user")
    return ok(thinker(SimpleNamespace(messages=[SimpleNamespace(text=text)], schema=schema)))


@contextmanager
def provider(answer: Any = think) -> Iterator[FakeProvider]:
    """A model provider in a thread of its own."""
    ready, made = threading.Event(), FakeProvider()
    made.answer = answer
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with made:
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield made
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(30)
        loop.close()


def said(err: str) -> list[dict[str, Any]]:
    """The JSON lines of a log; anything else in it is an error."""
    return [json.loads(line) for line in err.splitlines()]
