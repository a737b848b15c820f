"""`truegain serve-eval`: another program proposes, over HTTP; ledger, journal and gate stay ours."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agent.control.detach import LOG
from agent.lock import is_locked
from agent.replay import replay
from agent.result import load_result
from tests.cli_helpers import TOML, cli, folder, kill, only_run
from tests.serving.support import COUNTED, ROOT, Served, events, served, wait_for


@pytest.fixture
def problem(tmp_path: Path) -> Path:
    return folder(tmp_path / "bowl", evaluate=COUNTED)


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
        (last,) = desk.ended()
        assert last["status"] == "exact" and last["folder"] == verdict["folder"]
    place = problem.parent / "runs" / desk.run
    assert load_result(place).released["x"] == 0.3 and list((place / "best").iterdir())
    assert asyncio.run(replay(place))[1] is None, "a replay needs nobody who asks"


def test_what_is_asked_twice_is_paid_once(problem: Path) -> None:
    with served(problem) as desk:
        for _ in range(3):
            assert desk.values(0.5)[0] == 200
            assert desk.values(0.2, apart=True)[1]["cost"] == 1
        assert desk.values(0.5, apart=True)[1]["cost"] == 0, "it is known from the race"
    assert Counter(measured(problem))["0.5 6"] == 1 and Counter(measured(problem))["0.2 6"] == 1


BODIES: list[tuple[Any, int, str]] = [
    (b"{not json", 400, "not JSON"),
    (b"[" * 100_000, 400, "not JSON"),
    (b"[1]", 400, "no JSON object"),
    (b'{"values": {"x": NaN, "n": 6}}', 400, "NaN"),
    (b'{"values": {"x": Infinity, "n": 6}}', 400, "Infinity"),
    (b"\xff\xfe", 400, "not JSON"),
    ({}, 400, "values is missing"),
    ({"values": 3}, 400, "wrong type"),
    ({"values": {"x": 0.1}}, 400, "n"),
    ({"values": {"x": 0.1, "n": 6, "m": 1}}, 400, "there is no such parameter"),
    ({"values": {"x": 7, "n": 6}}, 400, "x"),
    ({"values": {"x": "sk-proj-" + "aB3dE5fG7h" * 4, "n": 6}}, 400, "key or a credential"),
    ({"values": {"x": 0.1, "n": 6}, "budget": 99}, 400, "no field 'budget'"),
    ({"values": {"x": 0.1, "n": 6}, "examples": ["row-1"]}, 400, "there is no row"),
    ({"values": {"x": 0.1, "n": 6}, "examples": [1]}, 400, "list of ids"),
    ({"values": {"x": 0.1, "n": 6}, "by": "a\nb"}, 400, "short name"),
    ({"values": {"x": 0.1, "n": 6}, "wait": -1}, 400, "seconds"),
    ({"values": {"x": 0.1, "n": 6}, "wait": True}, 400, "wrong type"),
]


def test_whatever_is_no_proper_request_is_refused_and_costs_nothing(problem: Path) -> None:
    with served(problem) as desk:
        wait_for(lambda: len(measured(problem)) == 2, "the initial candidate twice")
        for body, status, words in BODIES:
            found, answer = desk.ask("/evaluate", body)
            assert (found, words in answer["error"]["message"]) == (status, True), (body, answer)
        assert desk.ask("/nothing")[0] == 404 and desk.ask("/../gate.sqlite")[0] == 404
        assert desk.ask("/evaluate")[0] == 405 and desk.ask("/problem", {})[0] == 405
        assert len(measured(problem)) == 2
        assert desk.values(0.3)[0] == 200, "it goes on"


def test_only_who_has_the_token_and_means_this_machine_is_answered(problem: Path) -> None:
    with served(problem) as desk:
        for token in ("", "Bearer", "Bearer wrong", f"Basic {desk.token}", f"Bearer {desk.token}x", "Bearer \xff"):
            assert desk.ask("/problem", Authorization=token)[0] == 401
        for host in ("evil.example", "127.0.0.1", f"evil.example:{desk.url.rpartition(':')[2]}", "localhost:1"):
            assert desk.ask("/problem", Host=host)[0] == 403
        assert desk.ask("/problem", Origin="http://evil.example")[0] == 403
        port = int(desk.url.rpartition(":")[2])
        own = {item[4][0] for item in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)}
        for address in own - {"127.0.0.1"} - {a for a in own if a.startswith("127.")}:
            with pytest.raises(OSError), socket.create_connection((address, port), timeout=5):
                pass
        assert desk.ask("/problem")[0] == 200


def raw(desk: Served, text: bytes) -> bytes:
    """Send bytes, and read what comes until the other side closes."""
    with socket.create_connection(("127.0.0.1", int(desk.url.rpartition(":")[2])), timeout=60) as line:
        line.sendall(text)
        out = b""
        try:
            while piece := line.recv(65536):
                out += piece
        except ConnectionResetError:
            pass
        return out


def test_a_body_of_100_megabytes_is_refused_before_it_is_read(problem: Path) -> None:
    with served(problem) as desk:
        port = desk.url.rpartition(":")[2]
        head = f"POST /evaluate HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {desk.token}\r\n"
        for length in ("104857600", "9" * 5000):
            assert b" 413 " in raw(desk, f"{head}Content-Length: {length}\r\n\r\n{{".encode()).split(b"\r\n")[0]
        assert desk.ask("/evaluate", b" " * 104_857_600)[0] == 413
        for more in ("", "Content-Length: -5\r\n", "Content-Length: x\r\n", "Transfer-Encoding: chunked\r\n"):
            assert b" 411 " in raw(desk, f"{head}{more}\r\n".encode()).split(b"\r\n")[0]
        assert raw(desk, b"\x16\x03\x01\x00garbage\r\n\r\n") is not None
        assert desk.values(0.3)[0] == 200


def test_a_client_that_sends_half_a_request_and_many_at_once_stop_nobody(problem: Path) -> None:
    with served(problem) as desk:
        port = int(desk.url.rpartition(":")[2])
        half = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
        for line in half:
            line.sendall(b"POST /evaluate HTTP/1.1\r\nContent-Le")
        assert desk.values(0.3)[0] == 200
        for line in half:
            line.close()
        assert desk.values(0.4)[0] == 200


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


def test_the_token_file_is_for_its_owner_alone_and_replaces_what_was_there(problem: Path) -> None:
    file = problem.parent / "token.json"
    file.write_text("old")
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
    resumed = cli("resume", problem.parent / "runs" / desk.run, "--json", cwd=problem.parent, PYTHONPATH=ROOT)
    assert resumed.code == 69 and "serve-eval" in resumed.json["detail"]
    taken = folder(problem.parent / "other", TOML)
    wrong = cli("run", taken, "--runs", problem.parent / "runs", cwd=problem.parent, PYTHONPATH=ROOT)
    assert wrong.code == 0
    other = next(path for path in (problem.parent / "runs").iterdir() if path.name.startswith("other"))
    refused = cli("serve-eval", taken, "--resume", other, "--json", cwd=problem.parent, PYTHONPATH=ROOT)
    assert refused.code == 2 and "was not served" in refused.json["error"]["message"]


def test_a_port_that_is_taken_leaves_no_run_behind(problem: Path) -> None:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        line.listen()
        port = line.getsockname()[1]
        done = cli("serve-eval", problem, "--port", port, "--json", cwd=problem.parent, PYTHONPATH=ROOT)
    assert done.code == 2 and f"port {port}" in done.json["error"]["message"]
    assert not list((problem.parent).glob("runs/bowl-*"))
