"""Every attempt of an agent to see what is held out, to leave its folders, or to raise a limit fails."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.folders import folders
from agent.journal import GATE, read
from agent.results.result import load_result
from agent.serving.address import FILE
from tests.cli_helpers import cli, folder
from tests.serving.support import ROOT, Agent, agent, ending, events, wait_for
from tests.wall_support import MARK, write_problem

pytest.importorskip("mcp", reason="needs the extra mcp")

VAL, TEST = f"{MARK}-val-61row61", f"{MARK}-test-121row121"
"""Ids of rows that are held out, which an agent might have from elsewhere."""
RAISED = ({"evaluations": 100_000}, {"evaluations": -1}, {"evaluations": 10**30}, {"usd": 11.0}, {"seconds": 3601.0})
LIMITS = "\ncalls = 50\ntokens = 5000\nusd = 10.0\nseconds = 3600\n"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """One folder of problems that is served, and others beside it that are not."""
    problem = write_problem(tmp_path / "problems" / "wall")
    text = (problem / "problem.toml").read_text()
    (problem / "problem.toml").write_text(text.replace("evaluations = 4000", "evaluations = 4000" + LIMITS))
    folder(tmp_path / "private" / "secret")
    (tmp_path / "problems" / "link").symlink_to(tmp_path / "private" / "secret")
    (tmp_path / "problems" / "half").mkdir()
    (tmp_path / "problems" / "half" / "problem.toml").symlink_to(tmp_path / "private" / "secret" / "problem.toml")
    outside = tmp_path / "private" / "runs"
    assert cli("run", tmp_path / "private" / "secret", "--runs", outside, cwd=tmp_path, PYTHONPATH=ROOT).code == 0
    (foreign,) = outside.glob("secret-*")
    (tmp_path / "runs").mkdir()
    shutil.copytree(foreign, tmp_path / "runs" / "foreign")  # of a problem that is not served
    yield tmp_path
    ending(tmp_path / "runs")


def names(home: Path) -> list[str]:
    """What an agent might call a problem or a run that is not its own."""
    outside = next((home / "private" / "runs").glob("secret-*"))
    return [
        "", ".", "..", "../private/secret", "wall/../../private/secret", "link", "half", "foreign", "last", "*",
        str(home / "private" / "secret"), str(home / "problems" / "wall"), str(outside),
        f"../private/runs/{outside.name}",
        outside.name, "wall\0", "~", "problem.toml", "wall/problem.toml", "w" * 100_000,
    ]  # fmt: skip


async def strangers(ask: Agent, home: Path, run: str) -> None:
    """Names of what is not served, in every place where a name is taken."""
    for name in [*names(home), run[:-2], f"../runs/{run}", str(home / "runs" / run), f"{run}/gate.sqlite"]:
        for tool, more in (
            ("estimate", {}), ("start", {}),
        ):  # fmt: skip
            if name != "wall":
                assert "there is no problem" in await ask(tool, problem=name, **more)
        for tool, given in (
            ("observe", {}), ("result", {}), ("stop", {}), ("finish", {}), ("read_rows", {}),
            ("show_candidate", {"candidate": "0"}), ("evaluate_text", {"values": {"kind": "b"}}),
        ):  # fmt: skip
            assert "there is no run" in await ask(tool, run=name, **given), (tool, name)


async def raising(ask: Agent, run: str) -> None:
    """Limits in every place, and arguments that no tool has."""
    for limit in RAISED:
        for tool in ("start", "estimate"):
            assert "allowed is 0 to" in await ask(tool, problem="wall", **limit), limit
    for more in (
        {"set": ["budget.evaluations=9999"]}, {"overrides": {"budget.evaluations": 9999}}, {"model": "openai:x"},
        {"budget": {"evaluations": 9999}}, {"runs": "/tmp"}, {"workers": 99}, {"gate.level": 0.9}, {"unsafe": True},
        {"evaluations": "NaN"}, {"usd": "inf"}, {"seed": "--set budget.evaluations=9999"}, {"problem": ["wall"]},
    ):  # fmt: skip
        said = await ask("start", **{"problem": "wall", **more})
        assert isinstance(said, str) and "start" in said, more
    for more in ({"budget": 99}, {"limit": 99}, {"purpose": "gate"}, {"split": "val"}):
        said = await ask("evaluate_text", run=run, values={"kind": "b"}, **more)
        assert f"no argument {next(iter(more))}. Next: " in said and "takes run, text, " in said, more
    said = await ask("start", problem="wall", evaluations="NaN", seed=1.5)
    assert 'evaluations: found "NaN", allowed is a whole number or null' in said and "seed: found 1.5, allowed" in said
    said = await ask("evaluate_text", run=run, values=["b"], rows=[1])
    assert 'values: found ["b"], allowed is an object or null; rows: found [1], allowed is a list of texts' in said
    assert "problem is missing. Next: start takes problem, " in await ask("start")


async def peeping(ask: Agent, run: str) -> None:
    """Rows, candidates and cursors that would show what is held out."""
    for rows in ([VAL], [TEST], ["row1", VAL], ["val"], ["row61"], [""], ["../val.jsonl"], ["*"]):
        for tool, given in (("evaluate_text", {"values": {"kind": "b"}}), ("read_rows", {})):
            said = await ask(tool, run=run, rows=rows, **given)
            # The same words as for a row that there is not: nobody learns which rows exist.
            assert "there is no row" in said or "takes no requests" in said, (tool, rows)
    for name in ("gate", "val", "verdict", "report", "rows", "best", "released", "-1", "99999", "", "0x1", "a" * 9999):
        assert "there is no one candidate" in await ask("show_candidate", run=run, candidate=name), name
    for cursor in (-1, -(10**12), 10**12, 2**62):
        assert "there is no cursor" in await ask("observe", run=run, cursor=cursor)
    for cursor in (10**40, "a", 1.5, None):
        assert "observe" in await ask("observe", run=run, cursor=cursor)
    for given in ({"text": f"say {VAL}"}, {"values": {"kind": f"{MARK}"}}, {"values": {"nothing": 1}}, {}):
        assert isinstance(await ask("evaluate_text", run=run, **given), str), given
    for tool in ("gate", "events", "export", "read_file", "resources", "budget"):
        assert "nknown tool" in await ask(tool, run=run)
    assert not (await ask.client.list_resources()).resources and not (await ask.client.list_prompts()).prompts


async def everything(ask: Agent, home: Path, run: str) -> None:
    await strangers(ask, home, run)
    await raising(ask, run)
    await peeping(ask, run)


async def test_every_attempt_fails_while_a_run_is_open_and_after_its_end(home: Path) -> None:
    async with agent(home / "problems") as ask:
        assert [item["problem"] for item in (await ask("list_problems"))["problems"]] == ["wall"]
        assert (await ask("list_runs"))["runs"] == []
        run = (await ask("start", problem="wall", search=False))["run"]
        place = home / "runs" / run
        await everything(ask, home, run)
        assert (await ask("evaluate_text", run=run, values={"kind": "b"}))["state"] == "measured"

        better = await ask("evaluate_text", run=run, values={"kind": "c"}, compete=True)
        assert better["state"] == "champion"
        await _until_exam(ask, place)
        seen = await ask("observe", run=run)
        assert seen["exams"]["decided"] == 1 and not {"effect", "p", "level", "interval"} & set(
            json.dumps(seen).split('"')
        )
        assert "nothing is claimed before its end" in await ask("result", run=run)
        for file in ("best", "summary.json", "summary.md"):
            assert not (place / file).exists(), "there is nothing to read before the end"
        await everything(ask, home, run)
        early = "\n".join(ask.heard)
        for event in events(place, "evaluation.ended"):  # each row has a score of its own
            if event.purpose != "search" and event.score:
                assert str(next(iter(event.score["values"].values()))) not in early

        await ask("finish", run=run)
        seen = await ask.until(run, "finished")
        known = {entry.event.type for entry in read(place)}
        assert {event["type"] for event in seen["events"]} < known, "what the search may know, and nothing else"
        assert seen["spent"]["evaluations"] < 100, "of the exam's measurements too"
        found = await ask("result", run=run)
        assert found["status"] == "proven" and found["verdict"]["accepted"]
        exact = load_result(place)
        assert found["spent"] | {"tokens": 0} == seen["spent"] | {"tokens": 0}, "nor what the exam has cost"
        assert exact.spent["evaluations"] > found["spent"]["evaluations"] + 10
        assert exact.verdict is not None and re.search(r"\d\.\d{2}", exact.sentence), "there was something to tell"
        ends = [f"{end:.1g}" for end in exact.verdict["interval"]]
        assert found["verdict"] == {"accepted": True, "gain": " to ".join(ends)}
        assert not re.search(r"\d\.\d{2}", found["sentence"]) and found["sentence"].endswith(f"truegain show {place}")
        await everything(ask, home, run)
        wait_for(lambda: not (place / FILE).exists(), "the door to be gone")
    said = "\n".join(ask.heard)
    for value in (VAL, TEST, MARK):  # what was asked for may be said back
        said = said.replace(f"no row '{value}'", "").replace(f"say {value}", "")
    told = said.replace(f"'{MARK}'", "").replace(f'"{MARK}"', "")
    assert MARK not in told
    assert (place / GATE).read_bytes().count(MARK.encode()) > 10, "there was something to see"
    assert [path.name for path in folders(home / "runs")] == ["foreign", run], (
        "one run was started, and the foreign one stands as it was"
    )
    limits = events(place, "run.started")[0].budget
    assert limits == {"evaluations": 4000, "calls": 50, "tokens": 5000, "usd": 10.0, "seconds": 3600.0}


async def _until_exam(ask: Agent, place: Path) -> None:
    for _ in range(2000):
        if events(place, "exam.decided"):
            return
        await asyncio.sleep(0.03)
    raise AssertionError("there was no exam while the run was open")


async def test_the_names_of_secrets_are_masked_in_what_an_agent_is_told(home: Path) -> None:
    key = "sk-proj-" + "aB3dE5fG7h" * 4
    toml = home / "problems" / "wall" / "problem.toml"
    toml.write_text(f'description = "the key is {key}"\n' + toml.read_text())
    async with agent(home / "problems") as ask:
        (known,) = (await ask("list_problems"))["problems"]
        assert "[redacted]" in known["description"]
        await ask("evaluate_text", run="none", text=key)
    assert key not in "\n".join(ask.heard)


async def test_without_a_limit_of_the_person_nothing_is_started(home: Path) -> None:
    """Else the agent's own limit, as high as it likes, would be the only one."""
    bowl = folder(home / "problems" / "bowl")
    text = (bowl / "problem.toml").read_text()
    async with agent(home / "problems") as ask:
        for without in (text.replace("evaluations = 12\n", ""), text.replace("[budget]\nevaluations = 12\n", "")):
            assert without != text
            (bowl / "problem.toml").write_text(without)
            for tool in ("start", "estimate"):
                said = await ask(tool, problem="bowl", evaluations=10**9)
                assert "no limit at all" in said and "a person puts one into [budget]" in said
        (bowl / "problem.toml").write_text("[budget")
        assert "problem.toml" in await ask("start", problem="bowl", evaluations=10**9)
        assert (await ask("list_runs"))["runs"] == []


async def test_an_agent_that_lowers_a_limit_has_that_limit(home: Path) -> None:
    async with agent(home / "problems") as ask:
        run = (await ask("start", problem="wall", search=False, evaluations=400, usd=1.0))["run"]
        spent = 0
        while True:  # fresh measurements of what is known cost nothing, so the key of each is its own
            found = await ask("evaluate_text", run=run, values={"kind": "b"}, rows=[f"row{spent + 1}"])
            if isinstance(found, str):
                break
            spent += found["cost"]
        assert spent <= 60 and "there is no row" in found
        await ask("finish", run=run)
        ended = await ask.until(run, "finished")
        assert ended["limits"]["evaluations"] == 400 and ended["spent"]["evaluations"] <= 400
    assert os.path.exists(home / "runs" / run)
