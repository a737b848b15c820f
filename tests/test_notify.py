"""Telling people that a run or a night has ended: a command and a web address, and hostile text in both."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agent import notify
from agent.notify import LARGEST_BODY, body, finished, refused
from tests.cli_helpers import call, cli, folder, only_run

SUMMARY = {"name": "nightly", "status": "proven", "exit_code": 0, "sentence": "a gain of 0.12"}
KEY = "sk-abcdefghijklmnopqrstuvwxyz0123456789"


def command(place: Path, line: str, summary: dict[str, Any] = SUMMARY, **more: Any) -> list[str]:
    return finished(place, summary, command=line, webhook=None, **more)


def logged(place: Path) -> str:
    return (place / "on-finish.log").read_text()


# A command


def test_a_command_gets_its_data_by_environment_and_files(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    line = 'echo "$TRUEGAIN_NAME $TRUEGAIN_STATUS $TRUEGAIN_EXIT_CODE"; cat "$TRUEGAIN_SUMMARY_JSON"; pwd; env'
    assert command(tmp_path, line) == []
    text = logged(tmp_path)
    assert "nightly proven 0\n" in text and '"a gain of 0.12"' in text and str(tmp_path) in text
    assert f"TRUEGAIN_FOLDER={tmp_path}\n" in text and f"TRUEGAIN_SUMMARY_MD={tmp_path}/summary.md\n" in text
    assert os.stat(tmp_path / "on-finish.log").st_mode & 0o077 == 0


def test_hostile_text_is_data_and_no_part_of_the_command(tmp_path: Path) -> None:
    hostile = "$(touch owned); `touch owned`\n\x1b[2J\x00\u202e'\"; touch owned #" + "x" * 2000
    summary = {"name": hostile, "status": f"proven {KEY}", "exit_code": 0}
    assert command(tmp_path, 'printf "%s|%s" "$TRUEGAIN_NAME" "$TRUEGAIN_STATUS"; echo $TRUEGAIN_NAME', summary) == []
    text = logged(tmp_path)
    assert "$(touch owned)" in text and not (tmp_path / "owned").exists()
    assert "\x1b" not in text and "\u202e" not in text and KEY not in text and len(text) < 1500


def test_a_command_that_fails_is_told(tmp_path: Path) -> None:
    (wrong,) = command(tmp_path, "echo first; echo no such channel >&2; exit 3")
    assert "failed with exit code 3" in wrong and str(tmp_path / "on-finish.log") in wrong
    assert logged(tmp_path) == "first\nno such channel\n"
    assert "exit code 127" in command(tmp_path, "no-such-program-anywhere")[0]
    assert "ended by signal 9" in command(tmp_path, "kill -9 $$")[0]


def test_a_command_that_hangs_is_stopped_with_all_its_processes(tmp_path: Path) -> None:
    started = time.monotonic()
    (wrong,) = command(tmp_path, "(sleep 300 & echo $! > child; wait) & wait", timeout=1)
    assert "took longer than 1 seconds and was stopped" in wrong and time.monotonic() - started < 60
    gone = time.monotonic() + 30
    while alive(int((tmp_path / "child").read_text())):
        assert time.monotonic() < gone
        time.sleep(0.05)


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_what_a_command_prints_is_cut_and_holds_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command(tmp_path, f"echo api_key={KEY}; head -c 3000000 /dev/zero | tr '\\0' x") == []
    assert KEY not in logged(tmp_path) and len(logged(tmp_path)) <= notify.LARGEST_LOG
    monkeypatch.setattr(notify, "LARGEST_OUTPUT", 2_000_000)
    (wrong,) = command(tmp_path, "yes")
    assert "printed more than 2 MB and was stopped" in wrong


def test_a_folder_that_is_gone_and_one_that_is_full_are_told(tmp_path: Path) -> None:
    assert command(tmp_path / "gone", f"echo $TRUEGAIN_STATUS > {tmp_path}/said") == []
    assert (tmp_path / "said").read_text() == "proven\n"
    assert command(tmp_path / "gone", "false") == ["--on-finish: the command failed with exit code 1"]
    (tmp_path / "on-finish.log").symlink_to("/dev/full")
    (wrong,) = command(tmp_path, "echo x")
    assert "No space left" in wrong


def test_a_command_waits_for_no_input(tmp_path: Path) -> None:
    assert command(tmp_path, "read line; echo got:$line", timeout=60) == []
    assert logged(tmp_path) == "got:\n"


# The command line


def test_a_run_tells_that_it_ended_and_its_exit_code_stays(tmp_path: Path, server: tuple[Server, str]) -> None:
    state, url = server
    place, said = folder(tmp_path / "p"), tmp_path / "said"
    line = f'echo "$TRUEGAIN_STATUS $TRUEGAIN_EXIT_CODE $TRUEGAIN_NAME" >> {said}; exit 9'
    ran = cli("run", place, "--runs", tmp_path / "r", "--on-finish", line, "--webhook", url, "--json", cwd=tmp_path)
    run = ran.json["run"]
    assert ran.code == 0 and "--on-finish: the command failed with exit code 9" in ran.err
    assert said.read_text() == f"exact 0 {run}\n"
    assert [(got["name"], got["status"], got["exit_code"], got["run"]) for _, _, got in state.got] == [
        (run, "exact", 0, run)
    ]
    more = ("--evaluations", 14, "--on-finish", line, "--runs", tmp_path / "r")
    assert call("resume", run, *more, cwd=tmp_path).code == 0
    assert said.read_text() == f"exact 0 {run}\n" * 2


def test_a_run_that_fails_tells_it_too(tmp_path: Path) -> None:
    said = tmp_path / "said"
    line = f'echo "$TRUEGAIN_STATUS $TRUEGAIN_EXIT_CODE" >> {said}'
    broken = folder(tmp_path / "a", evaluate="def measure(candidate):\n    raise ValueError('no')\n")
    ran = call("run", broken, "--runs", tmp_path / "r", "--on-finish", line, cwd=tmp_path)
    assert ran.code == 3
    poor = folder(tmp_path / "b")
    ran = call("run", poor, "--evaluations", 1, "--runs", tmp_path / "r", "--on-finish", line, cwd=tmp_path)
    assert ran.code == 2 and "cannot pay for a run" in ran.err
    assert said.read_text().splitlines() == [f"{result(tmp_path / 'r')} 3", "failed 2"]


def result(runs: Path) -> str:
    status: str = json.loads((only_run(runs) / "summary.json").read_text())["status"]
    return status


def test_an_unsafe_address_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    place = folder(tmp_path / "p")
    ran = call("run", place, "--runs", tmp_path / "r", "--webhook", "http://example.com/x", cwd=tmp_path)
    assert ran.code == 2 and "--webhook: http is for this machine alone" in ran.err
    assert not (tmp_path / "r").exists()


# A web address


class Server:
    """Answers as its script says, then 200; keeps what it got."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], Any]] = []
        self.script: list[tuple[int, dict[str, str]]] = []


@pytest.fixture
def server() -> Iterator[tuple[Server, str]]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["content-length"]))
            state.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, json.loads(text)))
            code, headers = state.script.pop(0) if state.script else (200, {})
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield state, f"http://127.0.0.1:{http.server_address[1]}/hook/T0KEN-in-the-path"
    http.shutdown()
    thread.join()
    http.server_close()


def post(place: Path, webhook: str, summary: dict[str, Any] = SUMMARY, **more: Any) -> list[str]:
    return finished(place, summary, command=None, webhook=webhook, **more)


def test_an_address_gets_the_summary_as_json(tmp_path: Path, server: tuple[Server, str]) -> None:
    state, url = server
    assert post(tmp_path, url, {**SUMMARY, "note": f"api_key={KEY} \x1b[2J"}) == []
    ((path, headers, got),) = state.got
    assert path == "/hook/T0KEN-in-the-path" and headers["content-type"] == "application/json"
    assert got["name"] == "nightly" and KEY not in json.dumps(got)


def test_a_server_in_trouble_is_asked_again_and_then_told(tmp_path: Path, server: tuple[Server, str]) -> None:
    state, url = server
    state.script = [(503, {}), (429, {})]
    assert post(tmp_path, url) == [] and len(state.got) == 3
    state.script = [(500, {})] * 9
    (wrong,) = post(tmp_path, url)
    assert wrong == "--webhook: http://127.0.0.1 was not told: it answered 500, 4 times"
    state.script, state.got = [(404, {})], []
    assert "it answered 404" in post(tmp_path, url)[0] and len(state.got) == 1


def test_a_redirect_is_not_followed(tmp_path: Path, server: tuple[Server, str]) -> None:
    state, url = server
    state.script = [(307, {"location": url.replace("127.0.0.1", "localhost")})]
    (wrong,) = post(tmp_path, url)
    assert "it answered 307 and sends us elsewhere" in wrong and len(state.got) == 1


def test_nobody_there_and_nobody_who_answers_are_told_without_the_secret_path(tmp_path: Path) -> None:
    with socket.socket() as quiet:
        quiet.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{quiet.getsockname()[1]}/hook/T0KEN"
        (closed,) = post(tmp_path, url, timeout=2)
        quiet.listen()
        (silent,) = post(tmp_path, url, timeout=1)
    for wrong in (closed, silent):
        assert wrong.startswith("--webhook: http://127.0.0.1 was not told:") and "T0KEN" not in wrong


@pytest.mark.parametrize(
    "url, why",
    [
        ("http://example.com/hook", "http is for this machine alone"),
        ("http://127.0.0.1.example.com/", "http is for this machine alone"),
        ("http://localhost@example.com/", "http is for this machine alone"),
        ("ftp://example.com/", "no https address"),
        ("file:///etc/passwd", "no https address"),
        ("https:///path", "no https address"),
        ("https://[::1", "no address"),
        ("https://host:port/", "no address"),
        ("hooks.example.com", "no https address"),
    ],
)
def test_an_address_that_is_not_safe_gets_nothing(tmp_path: Path, url: str, why: str) -> None:
    (wrong,) = post(tmp_path, url)
    assert why in wrong
    assert refused("https://example.com/hook") == refused("http://localhost:1/") == refused("http://[::1]:1/") == ""


def test_a_long_summary_is_sent_without_its_longest_parts() -> None:
    plain = json.loads(body({**SUMMARY, "problems": ["x" * 300] * 2000, "more": "y" * 250_000}))
    assert plain == {**SUMMARY, "left_out": ["problems", "more"]}
    assert json.loads(body(SUMMARY)) == SUMMARY
    assert len(body({str(number): "é" * 900 for number in range(400)})) <= LARGEST_BODY
