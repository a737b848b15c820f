"""Requests to `truegain serve-eval` that are none: refused, told why, and paid by nobody."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.lock import Lock
from agent.serving import loopback
from agent.serving.address import FILE, Address
from tests.cli_helpers import cli, folder
from tests.serving.support import COUNTED, ROOT, Served, served, wait_for
from tests.view_support import threads


@pytest.fixture
def problem(tmp_path: Path) -> Path:
    return folder(tmp_path / "bowl", evaluate=COUNTED)


CHEAP = """
def measure(candidate, fidelity=1.0):
    return (candidate["x"] - 0.3) ** 2 + 0.02 * (candidate["n"] - 6) ** 2 + 0.01 * (1 - fidelity)
"""


def measured(problem: Path) -> list[str]:
    there = (problem / "count").exists()
    return (problem / "count").read_text().splitlines() if there else []


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
    ({"values": {"x": 0.1, "n": 6}, "key": 3}, 400, "key has the wrong type"),
]


def test_whatever_is_no_proper_request_is_refused_and_costs_nothing(problem: Path) -> None:
    with served(problem) as desk:
        wait_for(lambda: len(measured(problem)) == 2, "the initial candidate twice")
        for body, status, words in BODIES:
            found, answer = desk.ask("/evaluate", body)
            assert (found, words in answer["error"]["message"]) == (status, True), (body, answer)
            assert answer["error"]["hint"], (body, answer)
        assert desk.ask("/nothing")[0] == 404 and desk.ask("/../gate.sqlite")[0] == 404
        assert desk.ask("/evaluate")[0] == 405 and desk.ask("/problem", {})[0] == 405
        assert desk.ask("/evaluate")[1]["error"]["hint"] == "send POST /evaluate"
        for line, status in ((b"DELETE /problem HTTP/1.1", 501), (b"GET / / HTTP/1.1", 400), (b"GET / HTTP/9.9", 505)):
            head, _, text = raw(desk, line + b"\r\n\r\n").partition(b"\r\n\r\n")
            assert int(head.split()[1]) == status and json.loads(text)["error"]["hint"], head
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
        own = {str(item[4][0]) for item in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)}
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


def test_strangers_without_a_token_keep_the_owner_waiting_for_nothing(problem: Path) -> None:
    with served(problem) as desk:
        port = int(desk.url.rpartition(":")[2])
        wrong = f"GET /problem HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        strangers = []
        for round in range(3):
            for _ in range(100):
                line = socket.create_connection(("127.0.0.1", port))
                strangers.append(line)
                with contextlib.suppress(OSError):
                    line.sendall(wrong if round < 2 else b"GET /problem HTTP/1.1\r\nX: ")
            assert [desk.ask("/problem")[0] for _ in range(5)] == [200] * 5
        wait_for(lambda: threads(desk.process.pid) < 100, "an end to their threads")
        for line in strangers:
            line.close()


@pytest.mark.parametrize("known", [False, True])
def test_a_request_that_drips_in_has_an_end(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However short its pauses are, and whether the head or the body drips."""
    monkeypatch.setattr(loopback, "PATIENCE", 0.5)
    with slow() as port, socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        line.sendall(b"GET / HTTP/1.1\r\n" + (b"\r\n" if known else b"X: "))
        end = time.monotonic() + 60
        with pytest.raises(OSError):
            while time.monotonic() < end:
                line.sendall(b"x")
                time.sleep(0.02)
        assert time.monotonic() < end


@contextlib.contextmanager
def slow() -> Iterator[int]:
    """A server that knows everybody, and reads a body of a megabyte."""

    class Reads(loopback.Handler):
        def do_GET(self) -> None:
            assert self.server.knows(self.connection)
            self.rfile.read(1 << 20)

    with loopback.Loopback(0, Reads) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_file_of_yours_is_not_replaced_by_a_token(problem: Path) -> None:
    mine = problem.parent / "thesis.tex"
    mine.write_text("years of work")
    done = cli("serve-eval", problem, "--token-file", mine, "--json", cwd=problem.parent, PYTHONPATH=ROOT)
    assert done.code == 2 and "is not replaced" in done.json["error"]["message"]
    assert mine.read_text() == "years of work" and not list(problem.parent.glob("runs/bowl-*"))


def test_an_address_is_that_of_the_process_that_writes_the_run(tmp_path: Path) -> None:
    Address("http://127.0.0.1:1", "t" * 43, os.getpid() + 1).write(tmp_path / FILE)
    lock = Lock(tmp_path)
    try:
        assert Address.read(tmp_path) is None, "left behind by one that was killed; another took the run up"
        Address("http://127.0.0.1:1", "t" * 43, os.getpid()).write(tmp_path / FILE)
        assert Address.read(tmp_path) is not None
        for text in ('{"url": "http://evil.example:1", "token": "t", "pid": PID}', "{}", "[]", "", "\xff"):
            (tmp_path / FILE).write_text(text.replace("PID", str(os.getpid())))
            assert Address.read(tmp_path) is None, text
    finally:
        lock.release()
    assert Address.read(tmp_path) is None


def test_a_port_that_is_taken_leaves_no_run_behind(problem: Path) -> None:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        line.listen()
        port = line.getsockname()[1]
        done = cli("serve-eval", problem, "--port", port, "--json", cwd=problem.parent, PYTHONPATH=ROOT)
    assert done.code == 2 and f"port {port}" in done.json["error"]["message"]
    assert not list((problem.parent).glob("runs/bowl-*"))
