"""Runs of agents over the Model Context Protocol: shared, stopped, refused."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.folders import listing
from agent.lock import holder
from tests.cli_helpers import GATED, TOML, cli, folder
from tests.serving.support import ROOT, agent, ending, events, wait_for

pytest.importorskip("mcp", reason="needs the extra mcp")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Problems are in `problems`, runs in `runs`; nothing runs on behind the test."""
    (tmp_path / "problems").mkdir()
    yield tmp_path
    ending(tmp_path / "runs")


async def test_two_clients_at_once_share_a_run_and_its_budget(home: Path) -> None:
    folder(home / "problems" / "bowl", TOML.replace("evaluations = 12", "evaluations = 20"))
    async with agent(home / "problems") as one, agent(home / "problems") as two:
        run = (await one("start", problem="bowl", search=False))["run"]
        assert "there are 0. Next: name the parameters in values" in await one("evaluate_text", run=run, text="x")

        async def propose(ask: Any, begin: int) -> list[Any]:
            return [
                await ask("evaluate_text", run=run, values={"x": n / 100, "n": 6}, compete=True)
                for n in range(begin, begin + 15)
            ]

        answers = await asyncio.gather(propose(one, 0), propose(two, 10))
        seen = await two.until(run, "finished")
        assert seen["spent"]["evaluations"] == 20
        refused = [answer for answer in (*answers[0], *answers[1]) if isinstance(answer, str)]
        assert refused and all("the search" in answer or "takes no requests" in answer for answer in refused)
        shared = [a["candidate"] for a in answers[0] if isinstance(a, dict)]
        assert shared, "both got answers"
        assert (await one("result", run=run)) == (await two("result", run=run))
    assert len(events(home / "runs" / run, "evaluation.started")) == 20


async def test_two_servers_at_the_same_instant_start_no_more_than_there_may_be(home: Path) -> None:
    names = [f"bowl{number}" for number in range(4)]
    for name in names:
        folder(home / "problems" / name, TOML)
    async with agent(home / "problems", "--starts", 2) as one, agent(home / "problems", "--starts", 2) as two:
        given = await asyncio.gather(
            *(ask("start", problem=name, search=False) for ask, name in zip((one, two, one, two), names, strict=True))
        )
        begun = [answer["run"] for answer in given if isinstance(answer, dict)]
        assert len(begun) == 2 and {answer for answer in given if isinstance(answer, str)} == {
            "Error executing tool start: agents may start 2 runs here, and have. Next: a person starts the server "
            "with a higher --starts."
        }
        assert (home / "runs" / ".gitignore").exists()
        for run in begun:
            await one("finish", run=run)


async def test_stop_ends_the_process_and_keeps_what_was_measured(home: Path) -> None:
    folder(home / "problems" / "bowl", evaluate=GATED)
    async with agent(home / "problems", "--starts", 1) as ask:
        run = (await ask("start", problem="bowl"))["run"]
        place = home / "runs" / run
        wait_for(lambda: len(events(place, "evaluation.ended")) >= 2, "two measurements")
        (home / "problems" / "bowl" / "go").touch()
        stopped = await ask("stop", run=run)
        assert stopped["state"] in ("stopped", "finished") and holder(place) != os.getpid()
        assert listing(place).pid is None
        late = await ask("evaluate_text", run=run, values={"x": 0.5})
        assert "takes no requests" in late
        assert "may start 1 runs" in await ask("start", problem="bowl")
    by_hand = cli("run", home / "problems" / "bowl", "--runs", home / "runs", cwd=home, PYTHONPATH=ROOT)
    assert by_hand.code == 0
    async with agent(home / "problems", "--starts", 1) as ask:  # to connect anew gives no new runs
        assert "may start 1 runs" in await ask("start", problem="bowl")
    async with agent(home / "problems", "--starts", 2) as ask:  # what a person started does not count
        assert "run" in await ask("start", problem="bowl")


async def test_what_keeps_a_run_from_beginning_is_told_in_the_tool_s_error(home: Path) -> None:
    folder(home / "problems" / "broken", TOML.replace("evaluations = 12", "evaluations = 1"))
    folder(home / "problems" / "typo", TOML.replace('"coordinate"', '"coordinates"'))
    async with agent(home / "problems", "--starts", 1) as ask:
        said = await ask("start", problem="broken")
        assert "cannot pay for a run" in said and "Next: allow at least" in said
        assert "there is no proposer 'coordinates'" in await ask("start", problem="typo")
        assert "no proposer" in await ask("estimate", problem="typo")
        assert not (home / "runs").exists() or not [*(home / "runs").glob("*-*")]
