"""`truegain serve-eval`: another program proposes, over HTTP; ledger, journal and gate stay ours."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import stat
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.control.detach import LOG
from agent.lock import is_locked
from agent.replay import replay
from agent.results.result import load_result
from agent.serving.views import events_view
from tests.cli_helpers import TOML, cli, folder, kill, only_run
from tests.serving.support import COUNTED, PATIENCE, ROOT, events, served, wait_for
from tests.wall_support import write_problem


@pytest.fixture
def problem(tmp_path: Path) -> Path:
    return folder(tmp_path / "bowl", evaluate=COUNTED)


CHEAP = """
def measure(candidate, fidelity=1.0):
    return (candidate["x"] - 0.3) ** 2 + 0.02 * (candidate["n"] - 6) ** 2 + 0.01 * (1 - fidelity)
"""


BROKEN = """
import pathlib, time
HERE = pathlib.Path(__file__).parent

def measure(candidate):
    while not (HERE / "go").exists():
        time.sleep(0.02)
    raise RuntimeError("no scale today")
"""


def measured(problem: Path) -> list[str]:
    there = (problem / "count").exists()
    return (problem / "count").read_text().splitlines() if there else []


def test_another_program_searches_and_gets_the_verdict(problem: Path) -> None:
    with served(problem) as desk:
        status, known = desk.ask("/problem")
        assert status == 200 and known["left"] == {"evaluations": 10}
        assert known["space"]["x"] == {"type": "float", "low": -1, "high": 1, "default": 0.9}
        assert known["objectives"] == [{"name": "loss", "direction": "minimize", "unit": ""}]

        status, first = desk.values(0.5, rationale="half way", by="descent")
        assert (status, first["state"], first["source"]) == (200, "champion", "guest:descent")
        assert first["search"]["loss"] == pytest.approx(0.04) and first["left"] == {"evaluations": 9}
        assert desk.values(0.8)[1]["state"] == "dropped"
        status, apart = desk.values(0.3, apart=True)
        assert apart["mean"]["loss"] == 0 and desk.ask("/best")[1]["champion"]["values"]["x"] == 0.5
        assert desk.values(0.3)[1]["state"] == "champion"
        assert desk.values(0.9, 5)[1]["candidate"] == 0, "what the search began with is known"

        status, verdict = desk.ask("/finish", {})
        assert (status, verdict["status"], verdict["released"]) == (200, "exact", {"x": 0.3, "n": 6})
        assert verdict["reason"] == "finished", "it was asked to end, and had more to spend"
        (last,) = desk.ended()
        assert last["status"] == "exact" and last["folder"] == verdict["folder"]
    place = problem.parent / "runs" / desk.run
    assert load_result(place).released["x"] == 0.3 and list((place / "best").iterdir())
    assert asyncio.run(replay(place))[1] is None, "a replay needs nobody who asks"


def test_a_run_that_was_finished_takes_requests_again_when_it_is_given_more(problem: Path) -> None:
    with served(problem) as desk:
        assert desk.values(0.5)[0] == 200
        assert desk.ask("/finish", {})[1]["released"]["x"] == 0.5
        desk.ended()
    with served(problem, "--resume", desk.run, "--evaluations", 20) as again:
        assert again.values(0.3)[1]["state"] == "champion"
        verdict = again.ask("/finish", {})[1]
        assert (verdict["released"]["x"], verdict["reason"]) == (0.3, "finished")
        again.ended()
    assert asyncio.run(replay(problem.parent / "runs" / desk.run))[1] is None


def test_what_is_asked_twice_is_paid_once(problem: Path) -> None:
    with served(problem) as desk:
        for _ in range(3):
            assert desk.values(0.5)[0] == 200
            assert desk.values(0.2, apart=True)[1]["cost"] == 1
        assert desk.values(0.5, apart=True)[1]["cost"] == 0, "it is known from the race"
    assert Counter(measured(problem))["0.5 6"] == 1 and Counter(measured(problem))["0.2 6"] == 1


def test_parallel_requests_never_overspend_and_the_end_of_the_budget_is_told(problem: Path) -> None:
    with served(problem, "--workers", 3) as desk:
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda n: desk.values(n / 40, apart=n % 3 == 0), range(40)))
        assert all(status in (200, 409) for status, _ in answers)
        done = [answer for status, answer in answers if status == 200]
        refused = [answer["error"] for status, answer in answers if status == 409]
        assert 1 <= len(done) <= 10 and refused
        assert all(error["hint"] for error in refused)
        # What a look could not have may be free for a candidate yet; then nothing is.
        while desk.values(len(measured(problem)) / 1000 - 0.9)[0] == 200:
            pass
        status, late = desk.values(-0.7)
        assert (status, late["error"]["kind"]) == (409, "closed")
        assert desk.ask("/best")[0] == 200
        status, verdict = desk.ask("/finish", {})
        assert status == 200 and verdict["spent"]["evaluations"] <= 12
        desk.ended()
    assert len(measured(problem)) <= 12
    assert len(measured(problem)) == len(set(measured(problem))) + 1, "the initial one twice, everything else once"


def test_kill_and_resume_pay_nothing_twice(problem: Path) -> None:
    with served(problem) as desk:
        assert desk.values(0.5)[0] == 200
        assert desk.values(0.4, apart=True)[0] == 200
        with ThreadPoolExecutor(1) as pool:
            hanging = pool.submit(desk.values, 0.2, 9)
            wait_for(lambda: "0.2 9" in measured(problem), "a measurement that takes long")
            kill(desk.process)
            assert hanging.exception() is not None
    (problem / "go").touch()
    before = measured(problem)
    with served(problem, "--resume", desk.run) as again:
        assert again.run == desk.run and again.token != desk.token
        assert again.ask("/problem", Authorization=f"Bearer {desk.token}")[0] == 401
        assert again.values(0.5)[1]["search"]["loss"] == pytest.approx(0.04)
        assert again.values(0.4, apart=True)[1]["cost"] == 1, "as it was told then"
        status, found = again.values(0.2, 9)
        assert status == 200 and found["state"] == "dropped"
        assert again.values(0.3)[1]["state"] == "champion"
        status, verdict = again.ask("/finish", {})
        assert status == 200 and verdict["released"]["x"] == 0.3
        again.ended()
    more = Counter(measured(problem)) - Counter(before)
    assert more == Counter({"0.2 9": 1, "0.3 6": 1}), "only what was in flight is measured again"
    assert asyncio.run(replay(problem.parent / "runs" / desk.run))[1] is None


def test_the_token_file_is_for_its_owner_alone_and_replaces_an_earlier_one(problem: Path) -> None:
    file = problem.parent / "token.json"
    file.write_text('{"url": "http://127.0.0.1:1", "token": "old", "pid": 1}')
    os.chmod(file, 0o644)
    with served(problem, "--token-file", file) as desk:
        assert desk.token == "" and stat.S_IMODE(file.stat().st_mode) == 0o600
        desk.token = json.loads(file.read_text())["token"]
        assert desk.ask("/finish", {})[0] == 200
        desk.ended()
    assert not file.exists(), "nobody listens any more"


def test_in_the_background_beside_the_problem_s_own_search(problem: Path) -> None:
    place = problem.parent / "runs"
    done = cli(
        "serve-eval", problem, "--beside", "--detach", "--runs", place, "--json", cwd=problem.parent, PYTHONPATH=ROOT
    )
    assert done.code == 0, done.err
    run = only_run(place)
    assert done.json["run"] == run.name
    wait_for(lambda: not is_locked(run, LOG), "its end")
    assert load_result(run).status == "exact" and not (run / "desk.json").exists()
    assert len(events(run, "evaluation.started")) == 12


def test_a_served_run_says_how_to_go_on_when_nobody_is_there_to_ask(problem: Path) -> None:
    with served(problem) as desk:
        assert desk.values(0.5)[0] == 200
        kill(desk.process)
    resumed = cli("resume", problem.parent / "runs" / desk.run, cwd=problem.parent, PYTHONPATH=ROOT)
    assert resumed.code == 69 and resumed.out.endswith(f"Next: truegain serve-eval bowl --resume {desk.run}\n")
    taken = folder(problem.parent / "other", TOML)
    wrong = cli("run", taken, "--runs", problem.parent / "runs", cwd=problem.parent, PYTHONPATH=ROOT)
    assert wrong.code == 0
    other = next(path for path in (problem.parent / "runs").iterdir() if path.name.startswith("other"))
    refused = cli("serve-eval", taken, "--resume", other, "--json", cwd=problem.parent, PYTHONPATH=ROOT)
    assert refused.code == 2 and "was not served" in refused.json["error"]["message"]


def test_a_broken_evaluator_ends_it_at_once_and_is_told_to_whoever_waits(problem: Path) -> None:
    folder(problem, evaluate=BROKEN)
    with served(problem) as desk:
        line = http.client.HTTPConnection(desk.url.removeprefix("http://"), timeout=PATIENCE)
        body = json.dumps({"values": {"x": 0.5, "n": 6}})
        line.request("POST", "/evaluate", body, {"Authorization": f"Bearer {desk.token}"})
        assert desk.ask("/problem")[0] == 200, "it takes connections in their order, so it has the first"
        (problem / "go").touch()
        answer = line.getresponse()
        error = json.load(answer)["error"]
        line.close()
        assert (answer.status, error["kind"]) == (409, "closed")
        assert "cannot be scored" in error["message"] and "no scale today" in error["message"]
        out, _ = desk.process.communicate(timeout=PATIENCE)
        assert desk.process.returncode == 3 and json.loads(out)["reason"] == "evaluator"


def test_with_rungs_a_candidate_that_waits_for_others_is_answered_as_it_stands(problem: Path) -> None:
    folder(problem, TOML.replace("evaluations = 12", "evaluations = 30") + "\n[fidelity]\nlowest = 0.2\n", CHEAP)
    with served(problem) as desk:
        for number in range(8):
            status, found = desk.values(number / 10)
            assert status == 200 and found["state"] in ("champion", "dropped", "racing", "queued")
        status, verdict = desk.ask("/finish", {})
        assert status == 200 and verdict["status"] == "exact"
        desk.ended()


def test_ctrl_c_saves_and_tells_whoever_waits(problem: Path) -> None:
    with served(problem) as desk, ThreadPoolExecutor(1) as pool:
        assert desk.values(0.5)[0] == 200
        waiting = pool.submit(desk.values, 0.2, 9)
        wait_for(lambda: "0.2 9" in measured(problem), "a measurement that takes long")
        desk.process.send_signal(signal.SIGINT)
        (problem / "go").touch()
        status, answer = waiting.result(60)
        assert (status, answer["state"]) == (200, "dropped"), "what is in flight is finished"
        desk.process.communicate(timeout=60)
        assert desk.process.returncode == 130
    with served(problem, "--resume", desk.run) as again:
        assert again.ask("/finish", {})[1]["released"]["x"] == 0.5
        again.ended()
    assert Counter(measured(problem))["0.2 9"] == 1


def test_ctrl_c_ends_it_although_nobody_reads_what_it_prints(problem: Path) -> None:
    with served(problem) as desk:
        assert desk.values(0.5)[0] == 200
        for pipe in (desk.process.stdout, desk.process.stderr):
            assert pipe is not None
            pipe.close()
        desk.process.send_signal(signal.SIGINT)
        desk.process.wait(PATIENCE)
    with served(problem, "--resume", desk.run) as again:
        assert again.ask("/finish", {})[1]["released"]["x"] == 0.5
        again.ended()


def test_what_repeats_held_out_answers_is_refused_in_the_words_of_every_check(tmp_path: Path) -> None:
    problem = write_problem(tmp_path / "wall", texts=True)
    (problem / "rules.py").write_text(
        "def polite(candidate):\n    return 'shouts' if 'LOUD' in candidate['prompt'] else ''\n"
    )
    toml = (problem / "problem.toml").read_text()
    rule = 'checks = ["rules:polite"]\n'
    (problem / "problem.toml").write_text(
        toml.replace("[gate]\n", f"[gate]\n{rule}") if "[gate]" in toml else f"{toml}\n[gate]\n{rule}"
    )
    answer = json.loads((problem / "val.jsonl").read_text().splitlines()[0])["answer"]
    with served(problem) as desk:
        known = desk.ask("/problem")[1]
        said = [
            desk.ask("/evaluate", {"values": {**known["initial"], "prompt": text}, **more})
            for more in ({"examples": known["examples"]["ids"][:1]}, {})
            for text in (answer, "LOUD")
        ]
        left = [desk.ask("/problem")[1]["left"]["evaluations"] for _ in range(2)]
        assert [status for status, _ in said] == [400] * 4
        assert said[0] == said[1] and said[2] == said[3] and "a check refuses them" in str(said)
        assert left[0] == left[1] < known["left"]["evaluations"], "the look at an answer is paid"
        place = problem.parent / "runs" / desk.run
        wait_for(lambda: len(events(place, "candidate.rejected")) == 2, "both candidates to be on the disk")
        assert [event.leaked for event in events(place, "look.asked")] == [True, False]
        told = events_view(place, 0)["events"]
        assert len([event for event in told if "a check refuses them" in event["text"]]) == 4
        assert "shouts" not in str(told) and "leak: " not in str(told)
