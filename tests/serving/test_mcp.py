"""Agents over the Model Context Protocol: a real client, a real server, and runs in processes of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.folders import listing
from agent.journal import GATE
from agent.replay import replay
from tests.cli_helpers import GATED, TOML, call, command, environment, folder
from tests.fake_provider import FakeProvider
from tests.serving.support import PATIENCE, agent, doubling, ending, events, prompt_problem
from tests.wall_support import MARK

pytest.importorskip("mcp", reason="needs the extra mcp")

ROOT = str(Path(__file__).parents[2])


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Problems are in `problems`, runs in `runs`; nothing runs on behind the test."""
    (tmp_path / "problems").mkdir()
    yield tmp_path
    ending(tmp_path / "runs")


async def test_a_coding_agent_optimizes_a_prompt_and_sees_nothing_that_is_held_out(home: Path) -> None:
    async with FakeProvider() as provider:
        provider.answer = doubling
        prompt_problem(home / "problems" / "doubling", provider.url)
        async with agent(home / "problems") as ask:
            (known,) = (await ask("list_problems"))["problems"]
            assert known["problem"] == "doubling" and known["budget"] == {"evaluations": 400, "calls": 400}
            estimate = await ask("estimate", problem="doubling")
            assert estimate["evaluations"]["exam"] > 0
            alone = await ask("estimate", problem="doubling", search=False)
            assert alone["evaluations"] == estimate["evaluations"]
            assert provider.calls == 0, "an estimate spends nothing"

            run = (await ask("start", problem="doubling", search=False, evaluations=300))["run"]
            place = home / "runs" / run
            rows = (await ask("read_rows", run=run))["rows"]
            assert [row["example"] for row in rows] == [f"row{n}" for n in range(1, 6)]
            assert "twice 1?" in rows[0]["row"]["question"]
            assert (await ask("read_rows", run=run, examples=["row2"]))["rows"][0]["example"] == "row2"

            plain = await ask("evaluate_text", run=run, text="Just answer.")
            careful = await ask("evaluate_text", run=run, text="Answer carefully.")
            assert (plain["mean"]["exact_match"], careful["mean"]["exact_match"]) == (0.2, 1.0)
            assert careful["cost"] == 5 and careful["left"]["evaluations"] == plain["left"]["evaluations"] - 5
            calls = provider.calls
            assert (await ask("evaluate_text", run=run, text="Answer carefully."))["mean"] == careful["mean"]
            assert provider.calls == calls, "asked again it is not paid again"

            worse = await ask("evaluate_text", run=run, text="Do not think.", compete=True)
            better = await ask("evaluate_text", run=run, text="Answer carefully.", compete=True, rationale="it helped")
            assert worse["state"] == "dropped" and better["state"] == "champion" and better["source"] == "guest:mcp"

            twice = await ask("evaluate_text", run=run, text="One.", values={"instruction": "Two."})
            assert "instruction is in text and in values. Next: give it once." in twice
            early = await ask("result", run=run)
            assert "nothing is claimed before its end" in early

            assert (await ask("finish", run=run))["state"] in ("finishing", "finished")
            seen = await ask.until(run, "finished")
            assert any("gate: accepted" in event["text"] for event in seen["events"])
            found = await ask("result", run=run)
            assert found["status"] == "proven" and found["released"] == {"instruction": "Answer carefully."}
            assert "-Double it." in found["diff"] and "+Answer carefully." in found["diff"]
            assert found["spent"]["evaluations"] <= 300
            assert (Path(found["files"]) / "instruction.txt").read_text() == "Answer carefully."
            shown = await ask("show_candidate", run=run, candidate="champion")
            assert shown["values"] == found["released"] and shown["rationale"] == "it helped"
        said = "\n".join(ask.heard)
        assert MARK not in said and str(provider.url) not in said and "sk-test" not in said
        assert MARK in (home / "problems" / "doubling" / "val.jsonl").read_text()
        assert (place / GATE).exists(), "rows were examined"
        count, difference = await replay(place)
        assert count > 100 and difference is None


async def test_the_problem_s_own_search_goes_on_beside_the_agent(home: Path) -> None:
    folder(home / "problems" / "bowl")
    async with agent(home / "problems") as ask:
        run = (await ask("start", problem="bowl"))["run"]
        mine = await ask("evaluate_text", run=run, values={"x": 0.31}, compete=True)
        seen = await ask.until(run, "finished")
    sources = {event.source for event in events(home / "runs" / run, "candidate.admitted")}
    assert "coordinate" in sources and seen["spent"]["evaluations"] == 12
    if isinstance(mine, dict):  # else the search was over before it was asked
        assert "guest:mcp" in sources and mine["values"]["n"] in range(1, 10)


async def test_a_client_that_dies_leaves_the_run_alone_and_the_next_one_finds_it(home: Path) -> None:
    folder(home / "problems" / "bowl", evaluate=GATED)
    async with agent(home / "problems") as ask:
        run = (await ask("start", problem="bowl"))["run"]
        place = home / "runs" / run
        server = next(
            int(text)
            for text in (Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()).split()
            if b"\x00mcp\x00" in Path(f"/proc/{text}/cmdline").read_bytes()
        )
        os.kill(server, signal.SIGKILL)
        with pytest.raises(Exception, match=r".*"):
            async with asyncio.timeout(PATIENCE):
                await ask("observe", run=run)
    assert listing(place).state == "running"
    async with agent(home / "problems") as ask:
        (known,) = (await ask("list_runs"))["runs"]
        assert known == {"run": run, "problem": "bowl", "state": "running", "status": "open"}
        again = await ask("start", problem="bowl")
        assert "is running this problem" in again and f", as {run}. Next" in again, "one run of a problem at a time"
        assert "Next: list_runs has the run that goes on" in again and "truegain" not in again.partition("Next")[2]
        (home / "problems" / "bowl" / "go").touch()
        seen = await ask.until(run, "finished")
        assert seen["spent"]["evaluations"] == 12
        assert (await ask("result", run=run))["status"] == "exact"


async def test_a_candidate_is_named_by_its_number_as_it_was_told(home: Path) -> None:
    folder(home / "problems" / "bowl")
    async with agent(home / "problems") as ask:
        run = (await ask("start", problem="bowl", search=False))["run"]
        mine = await ask("evaluate_text", run=run, values={"x": 0.31}, compete=True)
        assert mine["candidate"] == 1
        for name in (1, "1", mine["id"]):
            assert (await ask("show_candidate", run=run, candidate=name))["values"]["x"] == 0.31
        assert "Next: evaluate_text" in await ask("read_rows", run=run), "it has no rows"


async def test_what_is_wrong_with_a_problem_is_told(home: Path) -> None:
    folder(home / "problems" / "torn", TOML + "[run\n")
    (folder(home / "problems" / "empty") / "evaluate.py").unlink()
    async with agent(home / "problems") as ask:
        known = {item["problem"]: item for item in (await ask("list_problems"))["problems"]}
        assert "at line" in known["torn"]["error"]
        run = (await ask("start", problem="empty"))["run"]
        seen = await ask.until(run, "finished")
        assert "no module 'evaluate'" in str(seen["events"])
        assert "no module 'evaluate'" in (await ask("result", run=run))["sentence"]


def test_an_end_that_is_not_in_the_journal_yet_is_no_end(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.serving.places import Places
    from agent.serving.tools import Tools
    from agent.telling import status

    bowl = folder(home / "problems" / "bowl")
    assert call("run", bowl, cwd=home).code == 0
    tools = Tools(Places([home / "problems"]), 1)
    (run,) = (item["run"] for item in tools.list_runs()["runs"])
    assert (tools.observe(run)["state"], tools.observe(run)["status"]) == ("finished", "exact")
    found = status.standing(tools._places.run(run))
    monkeypatch.setattr(status, "standing", lambda _: {**found, "status": "open"})
    assert tools.observe(run)["state"] == "running"


def test_a_folder_without_problems_is_told_to_the_person(home: Path) -> None:
    words = command("mcp", home / "problems")
    where = {
        "env": environment(PYTHONPATH=ROOT),
        "stdin": subprocess.DEVNULL,
        "capture_output": True,
        "text": True,
        "timeout": 120,
    }
    done = subprocess.run(words, cwd=home, **where)
    assert done.returncode == 0 and "there is no problem.toml in these folders yet" in done.stderr and not done.stdout
    folder(home / "problems" / "bowl")
    assert "problem.toml" not in subprocess.run(words, cwd=home, **where).stderr
