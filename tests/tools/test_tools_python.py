"""Running the model's own Python: over the search view, in the sandbox, and nothing of it stays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from agent.errors import PrerequisiteError
from agent.sandbox import pool
from agent.sandbox.layers import chosen, unstopped
from agent.texts import Text
from agent.tools import python as tool
from agent.tools.base import Desk, call, load
from tests.tools.tool_support import Known, ask, context, inside, measured, problem, refusal, with_rows

pytestmark = pytest.mark.skipif(bool(unstopped(chosen(None))), reason="no sandbox works on this machine")


def known() -> Known:
    there = context(with_rows(3))
    measured(there, {"x": 0.1}, rows={"r0": 0.25, "r1": 0.75})
    measured(there, {"x": 0.2}, "error: boom")
    return there


def processes(mark: str) -> list[str]:
    """Processes with a word in their command line: a sandbox's have its folder there."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc") if os.path.isdir("/proc") else ()):
        with contextlib.suppress(OSError):
            if mark.encode() in Path("/proc", name, "cmdline").read_bytes():
                found.append(name)
    return found


async def test_it_prints_and_shows_the_last_value() -> None:
    text = await ask(
        "python", known(), code="print('rows', len(history['trials']))\nimport numpy\nfloat(numpy.mean([1, 2]))"
    )
    assert inside(text) == ["rows 3", "1.5"]
    assert await ask("python", known(), code="x = 1") == "it printed nothing"


async def test_what_it_gets_is_the_search_view() -> None:
    code = "import json\nprint(json.dumps(history, sort_keys=True))"
    text = "\n".join(inside(await ask("python", known(), code=code)))
    for part in ('"direction": "maximize"', '"rows": {"r0": 0.25, "r1": 0.75}', '"failure": "error"', '"x": 0.1'):
        assert part in text
    for part in ("held1", "held2", "secret", "folder", "question", "boom"):
        assert part not in text


async def test_an_error_comes_back_with_the_line() -> None:
    text = await refusal("python", known(), code="a = 1\nb = a / 0\n")
    assert "it raised an exception; correct the program" in text
    assert "    b = a / 0" in inside(text) and inside(text)[-1] == "ZeroDivisionError: division by zero"
    assert "SyntaxError" in await refusal("python", known(), code="a = (")
    assert "allowed" in await refusal("python", known(), code="1" * 20_001)


HOSTILE = {
    "an endless loop": ("while True:\n    pass", "ended after 2 seconds"),
    "a fork bomb": ("import os\nwhile True:\n    os.fork()", "Error"),
    "processes": ("import subprocess\nsubprocess.run(['sleep', '60'])", "Error"),
    "the network": ("import socket\nsocket.create_connection(('127.0.0.1', 9), 1)", "Error"),
    "output without end": ("while True:\n    print('x' * 100000)", "print less"),
    "memory without end": ("x = []\nwhile True:\n    x.append(bytearray(10**7))", ""),
    "its parent": ("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)", "Error"),
    "a sudden end": ("import os\nos._exit(0)", ""),
    "a value as large as a house": ("'x' * 10**8", "print less"),
    "an answer of its own": ("import sys\nsys.modules['main'].run = None\nraise SystemExit(3)", None),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_hostile_code_is_contained_and_reported(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "SECONDS", 2.0)
    monkeypatch.setattr(tool, "WHY", {**tool.WHY, "timeout": "it was ended after 2 seconds"})
    code, words = HOSTILE[what]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path.resolve()))
    tmp_path.chmod(0o711)
    start = time.monotonic()
    text, wrong = await call(load("python"), Desk(known(), "1.0.0"), {"code": code})
    assert wrong == (words is not None) and len(text) < 6000
    assert (words or "") in text
    assert time.monotonic() - start < 60
    end = time.monotonic() + 30
    while left := processes(str(tmp_path)):
        assert time.monotonic() < end, f"still there: {left}"
        await asyncio.sleep(0.02)
    assert list(tmp_path.iterdir()) == []


async def test_it_reads_no_file_of_ours_and_leaves_none(tmp_path: Path) -> None:
    secret = tmp_path / "val.jsonl"
    secret.write_text("BEHIND THE WALL")
    text = await refusal("python", known(), code=f"print(open({str(secret)!r}).read())")
    assert "BEHIND" not in text
    text = await refusal("python", known(), code=f"open({str(tmp_path / 'mine')!r}, 'w').write('x')")
    assert not (tmp_path / "mine").exists() and "Error" in text
    text = await ask("python", known(), code="import os\n'key' in str(dict(os.environ)).lower()")
    assert inside(text) == ["False"]


async def test_calls_in_parallel_do_not_see_each_other() -> None:
    there = known()
    made = [ask("python", there, code=f"open('f', 'w').write('{i}')\nprint(open('f').read())") for i in range(4)]
    assert [inside(text)[0] for text in await asyncio.gather(*made)] == ["0", "1", "2", "3"]


async def test_of_many_candidates_the_best_and_the_latest_are_handed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "TRIALS", 10)
    there = context()
    for i in range(50):
        measured(there, {"x": i / 100}, float(-i))
    numbers = [trial["number"] for trial in tool.exported(Desk(there, "k"))["trials"]]
    assert numbers == [0, 1, 2, 3, 4, 45, 46, 47, 48, 49] or numbers == [1, 2, 3, 4, 5, 46, 47, 48, 49, 50]


async def test_many_long_texts_are_cut_to_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "TEXTS", 10_000)
    there = context(problem({"prompt": Text("go")}))
    for i in range(4):
        measured(there, {"prompt": f"{i}" + "x" * 9000}, float(i))
    texts = [trial["values"]["prompt"] for trial in tool.exported(Desk(there, "k"))["trials"]]
    assert texts[0] == "go" and [len(text) for text in texts[1:]] == [2001] * 4


async def test_without_a_sandbox_the_model_is_told_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def weak(self: Any) -> Any:
        raise PrerequisiteError("the layers are too weak", fix="truegain doctor --sandbox")

    monkeypatch.setattr(pool.Sandbox, "__aenter__", weak)
    assert "Python cannot be run here: the layers are too weak (go on without it)" in await refusal(
        "python", known(), code="1"
    )
