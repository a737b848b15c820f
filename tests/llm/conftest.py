"""A provider that speaks HTTP, and gateways to it over each of the three wires."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # for the fake provider, which other tests use too

from fake_provider import FakeProvider
from llm_helpers import KEY, PRICE, WIRES, Desk, Sleep

from agent.llm.connect import connect
from agent.llm.gateway import Llm


@pytest.fixture(autouse=True)
def no_real_provider(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine's own set-up may reach a test."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    for name in ("API_KEY", "AUTH_TOKEN", "BASE_URL", "PROFILE", "CUSTOM_HEADERS", "CONFIG_DIR"):
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as running:
        yield running


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    """Each of the three protocols in turn."""
    return str(request.param)


@pytest.fixture
def sleep() -> Sleep:
    return Sleep()


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def options(provider: FakeProvider, wire: str) -> dict[str, Any]:
    """How to reach the provider over the wire."""
    path = "" if wire == "anthropic" else "/v1"
    return {"base_url": provider.url + path, "api_key": KEY, "timeout": 5.0}


@pytest.fixture
async def make(wire: str, options: dict[str, Any], sleep: Sleep) -> AsyncIterator[Callable[..., Llm]]:
    """Makes gateways to the provider; the model is called "m" unless said otherwise."""
    made: list[Llm] = []

    def build(recorder: Desk, *, model: str = "m", using: dict[str, Any] | None = None, **more: Any) -> Llm:
        name = f"{wire}:{model}"
        given = {"prices": {name: PRICE}, "sleep": sleep} | more
        llm = Llm(recorder, {"propose": name}, partial(connect, options=options | (using or {})), **given)
        made.append(llm)
        return llm

    yield build
    for llm in made:
        await llm.close()


@pytest.fixture
def llm(make: Callable[..., Llm], desk: Desk) -> Llm:
    """A gateway that records on the desk."""
    return make(desk)
