"""Runs that ask in batches: nothing waits for a batch that need not, and a killed run takes up its results."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest

from agent.config import load
from agent.errors import ConfigError
from agent.events import BatchStarted, CallEnded, CallStarted, StopRequested
from agent.journal import read_all
from agent.ledger import Budget
from agent.loop import Run
from agent.replay import replay
from agent.results.result import Result, load_state
from agent.settings import Settings
from tests.batch_runs import model, session
from tests.cli_helpers import call, folder
from tests.fake_batches import Plan
from tests.fake_provider import FakeProvider
from tests.support import entries

NAMES = ("openai-responses:m", "anthropic:m")
LONG = 60.0


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as running:
        running.answer = model
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef0123456789")
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-0123456789abcdef0123456789")
        monkeypatch.setenv("OPENAI_BASE_URL", running.url + "/v1")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", running.url)
        yield running


def events(folder: Path, kind: Any) -> list[Any]:
    return [entry.event for entry in entries(folder) if isinstance(entry.event, kind)]


def settled(provider: FakeProvider, result: Result) -> None:
    """Every call that the server billed is paid for in the ledger, once, and nothing is left open."""
    spent = result.spent
    assert spent["tokens"]["input"] + spent["tokens"]["output"] == provider.batches.tokens
    assert spent["calls"] == provider.batches.calls
    assert spent["possibly_spent"]["calls"] == 0 and not spent["batches"]


async def same_again(folder: Path) -> None:
    assert (await replay(folder))[1] is None, "the journal replays to equal events"


async def test_a_run_in_batches_finds_what_it_finds_without(provider: FakeProvider, name: str, tmp_path: Path) -> None:
    result = await session(name).run(tmp_path / "batched")
    plain = await session(name, settings={"batch": False}).run(tmp_path / "plain")
    assert result.best.values_json == plain.best.values_json
    assert result.spent["calls"] == plain.spent["calls"] > 0
    assert result.spent["usd"] == pytest.approx(plain.spent["usd"] / 2)
    assert result.spent["by_model"][name]["usd"] == pytest.approx(result.spent["usd"])
    settled(provider, result)
    await same_again(tmp_path / "batched")


class Halt:
    """Asks the run to rest when the server is first asked how far a batch is."""

    def __init__(self, provider: FakeProvider, times: int = 1) -> None:
        self._run: Run | None = None
        self._times = times
        real = provider.batches._look

        def look(*given: Any) -> Any:
            if self._times and self._run is not None:
                self._times -= 1
                self._run.record(StopRequested("interrupted", "for the test"))
            return real(*given)

        provider.batches._look = look  # type: ignore[method-assign]

    def __call__(self, run: Run) -> None:
        self._run = run


async def test_a_halt_does_not_wait_for_a_batch(provider: FakeProvider, name: str, tmp_path: Path) -> None:
    provider.batches.script(Plan(polls=None))
    async with asyncio.timeout(LONG):
        rested = await session(name).run(tmp_path / "run", Halt(provider))
    assert rested.status == "open" and len(provider.batches.all) == 1
    shown = load_state(tmp_path / "run").ledger.to_json()
    (waiting,) = shown["batches"]
    assert (waiting["id"], waiting["model"]) == ("batch_1", name)
    assert shown["possibly_spent"]["calls"] == waiting["calls"] > 0
    assert shown["possibly_spent"]["tokens"] >= provider.batches.tokens

    provider.batches.all[0].plan.polls = 0
    result = await session(name).resume(tmp_path / "run")
    assert len(events(tmp_path / "run", BatchStarted)) == len(provider.batches.all)
    assert len(events(tmp_path / "run", CallStarted)) == len(events(tmp_path / "run", CallEnded))
    settled(provider, result)
    await same_again(tmp_path / "run")


async def test_stopping_at_once_leaves_the_batch_too(provider: FakeProvider, tmp_path: Path) -> None:
    provider.batches.script(Plan(polls=None))
    running = asyncio.ensure_future(session(NAMES[0]).run(tmp_path / "run"))
    async with asyncio.timeout(LONG):
        while not provider.batches.polls:
            await asyncio.sleep(0.01)
        running.cancel()  # what a second Ctrl-C does
        with pytest.raises(asyncio.CancelledError):
            await running
    provider.batches.all[0].plan.polls = 0
    assert not provider.batches.all[0].stopped
    settled(provider, await session(NAMES[0]).resume(tmp_path / "run"))
    await same_again(tmp_path / "run")


async def test_resting_again_and_again_pays_once(provider: FakeProvider, tmp_path: Path) -> None:
    halt = Halt(provider, times=3)
    result = await session(NAMES[1]).run(tmp_path / "run", halt)
    while result.status == "open":
        result = await session(NAMES[1]).resume(tmp_path / "run", hold=halt)
    assert load_state(tmp_path / "run").resumes >= 2
    settled(provider, result)
    await same_again(tmp_path / "run")


async def test_the_end_of_the_search_gives_up_what_waits(provider: FakeProvider, name: str, tmp_path: Path) -> None:
    provider.batches.script(Plan(polls=None))

    def hurry(run: Run) -> None:
        """When a batch is made, little time is left."""
        real, clock = provider.batches._make, run.clock

        def make(*given: Any) -> Any:
            run.clock = lambda: clock() + 999.7
            return real(*given)

        provider.batches._make = make  # type: ignore[method-assign]

    async with asyncio.timeout(LONG):
        result = await session(name, budget=Budget(evaluations=16, seconds=1000)).run(tmp_path / "run", hurry)
    assert result.status != "open" and provider.batches.all[0].stopped, "what nobody needs is cancelled"
    assert all(call.reply is None for call in events(tmp_path / "run", CallEnded))
    assert result.spent["possibly_spent"]["tokens"] >= provider.batches.tokens > 0
    await same_again(tmp_path / "run")


async def test_a_key_that_stops_working_rests_the_run(provider: FakeProvider, name: str, tmp_path: Path) -> None:
    provider.batches.script(Plan(polls=2, questions=[(401, {})]))
    rested = await session(name).run(tmp_path / "run")
    assert (rested.status, rested.exit_code) == ("open", 69)
    result = await session(name).resume(tmp_path / "run")
    settled(provider, result)
    await same_again(tmp_path / "run")


# Killed for good.


def moments(provider: FakeProvider, pid: list[int]) -> dict[str, Callable[[Any, str], Any]]:
    """What the server does before it answers: at a moment of our choice, the process that asks is killed."""
    real = provider.batches.do
    seen: list[str] = []

    def at(method: str, part: str, times: int, taken: bool) -> Callable[[Any, str], Any]:
        def do(request: Any, url: str) -> Any:
            answer = real(request, url) if taken else None
            if pid and request.method == method and part in request.path:
                seen.append(request.path)
                if len(seen) == times:
                    os.kill(pid.pop(), signal.SIGKILL)
            return answer if taken else real(request, url)

        return do

    return {
        "taken, and its id not heard": at("POST", "/batches", 1, taken=True),
        "its id known, no result yet": at("GET", "/batches/batch_1", 1, taken=False),
        "some results read": at("GET", "/results", 2, taken=False),
        "some of the file read": at("GET", "/content", 2, taken=False),
    }


class Nursery:
    """Makes processes: see `tests.batch_runs.nursery`."""

    def __init__(self) -> None:
        # As a module of the same name as here: the evaluator's name counts.
        command = [sys.executable, "-c", "from tests.batch_runs import nursery; nursery()"]
        root = Path(__file__).parents[1]
        self._process = Popen(command, cwd=root, text=True, stdin=PIPE, stdout=PIPE, start_new_session=True)

    async def _told(self, line: str = "") -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        if line:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        try:
            return int(await asyncio.to_thread(self._process.stdout.readline))
        except asyncio.CancelledError:
            self.close()  # or the thread would wait for ever
            raise

    async def born(self, folder: Path, name: str) -> int:
        """The number of a process with a run in `folder`, which has not begun yet."""
        environment = {key: os.environ[key] for key in os.environ if key.startswith(("OPENAI_", "ANTHROPIC_"))}
        return await self._told(json.dumps([str(folder), name, environment]))

    async def lived(self) -> int:
        """Let it begin, and wait for its end: the exit code."""
        return await self._told("go")

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("moment", "name"),
    [
        ("taken, and its id not heard", NAMES[0]),
        ("taken, and its id not heard", NAMES[1]),
        ("its id known, no result yet", NAMES[1]),
        ("some results read", NAMES[1]),
        ("some of the file read", NAMES[0]),
    ],
)
async def test_a_killed_run_takes_up_its_batch(
    provider: FakeProvider, nursery: Nursery, tmp_path: Path, moment: str, name: str
) -> None:
    pid: list[int] = []
    provider.batches.do = moments(provider, pid)[moment]  # type: ignore[method-assign]
    provider.batches.script(Plan(polls=1, cut=1 if moment.startswith("some") else None))
    async with asyncio.timeout(LONG):
        pid.append(await nursery.born(tmp_path / "run", name))
        assert await nursery.lived() == -signal.SIGKILL
    held = load_state(tmp_path / "run", everything=True).ledger
    assert provider.batches.tokens <= held.committed("tokens"), "what is not known is held"
    before = len(list(read_all(tmp_path / "run")))
    read = len(events(tmp_path / "run", CallEnded))
    assert (read > 0) == moment.startswith("some")

    async with asyncio.timeout(LONG):
        result = await session(name).resume(tmp_path / "run")
    assert len(provider.batches.all) == len(events(tmp_path / "run", BatchStarted)), "nothing was sent twice"
    settled(provider, result)
    assert result.spent["tokens"]["input"] > 0 and len(list(read_all(tmp_path / "run"))) > before
    await same_again(tmp_path / "run")


# Settings.


@pytest.mark.parametrize(
    ("models", "batch", "words"),
    [
        ({"propose": "local:x"}, True, "local:x has no Batch API"),
        ({"propose": "scripted:x"}, ["propose"], "scripted:x has no Batch API"),
        ({"propose": "openai:x", "judge": "local:y"}, True, "local:y has no Batch API"),
        ({"propose": "openai:x"}, ["judge"], "no model is set for the role judge"),
        ({"propose": "openai:x"}, ["search"], r"allowed is true, or a list of roles \(propose"),
        ({"propose": "openai:x"}, "propose", "allowed is true, or a list of roles"),
        ({"propose": "openai:x"}, 3, "allowed is true, or a list of roles"),
    ],
)
def test_settings_that_cannot_work(models: dict[str, str], batch: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Settings(models=models, batch=batch)


def test_which_roles_are_batched() -> None:
    models = {"propose": "openai:x", "judge": "anthropic:y"}
    assert Settings(models=models, batch=True).batched == ("propose", "judge")
    assert Settings(models=models, batch=["judge", "judge"]).batched == ("judge",)
    assert Settings(models=models).batched == Settings(models=models, batch=False).batched == ()
    again = Settings.from_json(Settings(models=models, batch=True).to_json())
    assert again.batched == ("propose", "judge")


def test_the_problem_file_and_the_command_line_say_it(tmp_path: Path) -> None:
    place = folder(tmp_path / "p")
    toml = (place / "problem.toml").read_text()
    text = "[models]\npropose = 'anthropic:claude-haiku-4-5'\nbatch = ['propose']\n"
    (place / "problem.toml").write_text(toml + text)
    assert load(place).settings.batched == ("propose",)
    assert load(place).settings.models == {"propose": "anthropic:claude-haiku-4-5"}
    assert load(place, {"models.batch": True}).settings.batched == ("propose",)
    for batch, words in (
        ("search", r"models.batch: found \['search'\], allowed is true"),
        ("judge", "no model is set for the role judge"),
    ):
        with pytest.raises(ConfigError, match=words):
            load(place, {"models.batch": [batch]})
    with pytest.raises(ConfigError, match="has no Batch API"):
        load(place, {"models.propose": "local:smollm2-135m"})


def test_estimate_shows_both_prices(tmp_path: Path) -> None:
    place = folder(tmp_path / "p")
    given = ("--model", "anthropic:claude-haiku-4-5", "--proposer", "evollm")
    plain = call("estimate", place, *given, "--json", cwd=tmp_path).json
    batched = call("estimate", place, *given, "--set", "models.batch=true", "--json", cwd=tmp_path).json
    assert plain["usd_at_most"] == plain["usd_at_most_without_batch"] == 2 * plain["usd_at_most_with_batch"] > 0
    assert batched["usd_at_most"] == plain["usd_at_most_with_batch"]
    assert f"(${plain['usd_at_most'] / 2:.4f} with models.batch)" in call("estimate", place, *given, cwd=tmp_path).out
    said = call("estimate", place, *given, "--set", "models.batch=true", cwd=tmp_path).out
    assert "in batches" in said and "without)" in said
    local = call("estimate", place, "--model", "scripted:x", "--proposer", "evollm", "--json", cwd=tmp_path).json
    assert local["usd_at_most_with_batch"] is None and local["usd_at_most"] == 0


async def test_a_server_without_batches_is_refused_before_anything_is_spent(
    provider: FakeProvider, tmp_path: Path
) -> None:
    provider.batches.absent = True
    with pytest.raises(ConfigError, match="no Batch API"):
        await session(NAMES[0]).run(tmp_path / "run")
    assert not (tmp_path / "run").exists() and not provider.calls
