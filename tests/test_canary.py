"""A key is planted everywhere a key can be; afterwards it must be nowhere."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli_helpers import Ran, command, environment, folder
from tests.fake_provider import FakeProvider, error, ok, structured

CANARY = "sk-canary-7Qx2Lm9Zt4Vb8Nk3Rw6Yp1"
SHAPELESS = "tangerineMarmotBicycle"
"""No rule knows this one; it is masked because an environment variable of ours holds it."""

BASIC = base64.b64encode(f"user:{CANARY}".encode()).decode()
"""How a password in an address travels."""

LEAKY = f"""
import os, sys

def measure(candidate):
    key = os.environ.get("SERVICE_KEY", "") or {CANARY!r}
    print("stdout", key, {CANARY!r}, {SHAPELESS!r})
    print("stderr", key, file=sys.stderr)
    if candidate["n"] % 3 == 0:
        raise RuntimeError(f"cannot log in with {{key}} at https://user:{CANARY}@db.example")
    value = (candidate["x"] - 0.3) ** 2 + 0.02 * (candidate["n"] - 6) ** 2
    return {{"loss": value, "feedback": f"key {{key}}, Authorization: Bearer {CANARY}, {SHAPELESS}"}}
"""

TOML = f"""
description = "Log in with {CANARY}."
[evaluator]
function = "evaluate:measure"
deterministic = true
env = {{ SERVICE_KEY = "{CANARY}" }}
[space.x]
type = "float"
low = -1
high = 1
[space.n]
type = "int"
low = 1
high = 9
[[objectives]]
name = "loss"
[budget]
evaluations = 16
calls = 3
[models]
propose = "openai:test"
"""


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as running:
        yield running


async def shell(*arguments: object, cwd: Path, **env: str) -> Ran:
    """A command, while the provider of this test's event loop keeps answering."""
    process = await asyncio.create_subprocess_exec(
        *command(*arguments), cwd=cwd, env=environment(**env), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


def clean(where: str, text: str) -> None:
    for secret in (CANARY, SHAPELESS, BASIC):
        place = text.find(secret)
        assert place < 0, f"{where}: …{text[max(0, place - 80) : place]}<here>"


def clean_folder(place: Path) -> None:
    files = [path for path in place.rglob("*") if path.is_file()]
    assert files
    for path in files:
        clean(str(path.relative_to(place)), path.read_bytes().decode("utf-8", "replace"))


def keys(url: str) -> dict[str, str]:
    """An environment with secrets in the variables that hold them."""
    address = url.replace("http://", f"http://user:{CANARY}@")
    return {"OPENAI_API_KEY": CANARY, "OPENAI_BASE_URL": address + "/v1", "MY_SECRET": SHAPELESS, "HOME": os.devnull}


async def test_a_key_is_in_no_file_and_on_no_screen(tmp_path: Path, provider: FakeProvider) -> None:
    folder(tmp_path / "bowl", TOML, LEAKY)
    env = keys(provider.url)
    provider.script(
        replace(error(503), error={"type": "busy", "message": f"Authorization: Bearer {CANARY} from {SHAPELESS}"}),
        ok(f"I found {CANARY} and {SHAPELESS}"),
        structured({"solution": [100, 5], "why": CANARY, "password": SHAPELESS}),
    )
    provider.answer = lambda _: ok(f"no more {CANARY}")
    ran = await shell("run", "bowl", cwd=tmp_path, **env)
    assert ran.code == 0, ran.err
    assert provider.calls >= 3, "the model was asked"
    sent = {request.headers["authorization"].removeprefix("Basic ") for request in provider.requests}
    assert sent == {BASIC}, "the password of the address was sent where it belongs"
    for where in (ran.out, ran.err):
        clean("the run's output", where)
    clean_folder(tmp_path / "runs")
    # Readers do not have the key in their environment, so only what was masked when it was written is masked.
    for arguments in (
        ["show", "last", "--all", "--json"],
        ["show", "last", "--all"],
        ["show", "last", "0"],
        ["events"],
        ["events", "--json"],
        ["export", "--json"],
        ["diff"],
        ["list", "--json"],
        ["replay", "--json"],
    ):
        done = await shell(*arguments, cwd=tmp_path)
        assert done.code == 0, done.err
        clean(" ".join(arguments), done.out + done.err)
    trials = json.loads((await shell("show", "last", "--all", "--json", cwd=tmp_path)).out)["trials"]
    assert "[redacted]" in trials[0]["feedback"]
    assert any("[redacted]" in trial["failure"] for trial in trials)


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_key_is_in_no_error(tmp_path: Path, provider: FakeProvider, as_json: bool) -> None:
    folder(tmp_path / "bowl", TOML, LEAKY)
    env = keys(provider.url)
    json_flag = ["--json"] if as_json else []
    refusal = replace(
        error(401), error={"type": "invalid_api_key", "message": f"Incorrect API key: {CANARY}, {SHAPELESS}"}
    )
    provider.answer = lambda _: refusal
    rested = await shell("run", "bowl", *json_flag, cwd=tmp_path, **env)
    assert rested.code == 69, rested.out + rested.err
    clean("a refused key", rested.out + rested.err)
    clean_folder(tmp_path / "runs")

    for what, arguments in (
        ("an unknown model", ["run", "bowl", "--model", CANARY]),
        ("a wrong value", ["run", "bowl", "--set", f"evaluator.timeout='{CANARY}'"]),
        ("an unknown key", ["run", "bowl", "--set", f"evaluator.{CANARY}=1"]),
        ("an evaluator that fails", ["estimate", "bowl", "--measure", "--set", "space.n.default=3"]),
    ):
        failed = await shell(*arguments, *json_flag, cwd=tmp_path, **env)
        assert failed.code != 0, what
        clean(what, failed.out + failed.err)
