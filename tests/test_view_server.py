"""Who may read the live view, and what it answers: over real HTTP, from a process of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from agent.journal import FILE, Journal
from agent.serving.desk import Desk
from agent.serving.web import Door
from agent.view import answers, parts
from agent.view.gallery import Gallery
from agent.view.server import Server
from tests.cli_helpers import begin, call, folder
from tests.report.support import HARMLESS, Page, hostile_run, proven_run
from tests.view_support import PATIENCE, ROOT, TRACED, Viewer, crawled, running, threads, until, viewing
from tests.wall_support import Secrets, cut_off


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended, one full of hostile texts, one that is damaged, and one of nothing but a file."""
    here = tmp_path_factory.mktemp("view") / "runs"
    proven_run(here / "proven")
    hostile_run(here / "nasty")
    for name in ("damaged", "empty"):
        (here / name).mkdir()
    (here / "damaged" / FILE).write_bytes(b"this is no database" * 500)
    (here / "empty" / FILE).touch()
    shutil.copytree(here / "proven", here / "unknown")
    with sqlite3.connect(here / "unknown" / FILE) as db:
        db.execute(
            "INSERT INTO events SELECT max(seq) + 1, 1.0, 'candidate.admitted', 'search', '{\"values\": 7}' FROM events"
        )
    db.close()
    (here.parent / "outside").mkdir()
    shutil.copy(here / "proven" / FILE, here.parent / "outside" / FILE)
    (here / "linked").symlink_to(here.parent / "outside")
    (here / "half").mkdir()
    (here / "half" / FILE).symlink_to(here.parent / "outside" / FILE)
    return here


@pytest.fixture(scope="module")
def viewer(runs: Path) -> Iterator[Viewer]:
    with viewing(runs) as found:
        yield found


def test_the_token_opens_the_door_once_and_a_cookie_keeps_it_open(viewer: Viewer) -> None:
    entered = viewer.enter()
    assert entered.status == 200 and 'content="0;url=/#/' in entered.text and viewer.token not in entered.text
    assert viewer.token not in viewer.cookie and str(viewer.port) not in viewer.cookie, "other servers are sent it too"
    secret = viewer.cookie.partition("=")[2]
    assert viewer.ask(f"/?token={secret}", cookie="").status == 403
    flags = entered.headers["Set-Cookie"].split("; ")[1:]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} == set(flags)
    assert viewer.ask("/").status == 200
    assert viewer.ask("/runs").status == 200


@pytest.mark.parametrize("path", ["/", "/view.js", "/runs", "/run/proven", "/report/proven", "/?token=", "/?token=x"])
@pytest.mark.parametrize("cookie", ["", "truegain-view=1", "half", "a=b; c"])
def test_without_the_token_nothing_is_told(viewer: Viewer, path: str, cookie: str) -> None:
    found = viewer.ask(path, cookie=cookie)
    assert found.status == 403 and "truegain view" in found.text and "proven" not in found.text
    wrong = viewer.cookie[:-1] + ("A" if viewer.cookie[-1] != "A" else "B")
    assert viewer.ask(path, cookie=wrong).status == 403


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1.example.org", "localhost.evil:80", "[::1]", "0.0.0.0", " "])
def test_a_page_that_has_its_name_pointed_here_gets_nothing(viewer: Viewer, host: str) -> None:
    for path in ("/", "/runs", f"/?token={viewer.token}"):
        found = viewer.ask(path, host=host)
        assert found.status in (400, 403) and "Set-Cookie" not in found.headers
    assert viewer.ask("/runs", host=f"localhost:{viewer.port}").status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site", "x"])
def test_another_page_of_this_machine_gets_nothing_but_the_frame(viewer: Viewer, site: str) -> None:
    for path in ("/runs", "/run/proven", "/report/proven", "/view.js", "/nothing"):
        assert viewer.ask(path, site=site).status == 403
    assert viewer.ask("/", site=site).status == 200, "a link in a mail program is how it is opened"
    for own in ("same-origin", "none"):
        assert viewer.ask("/runs", site=own).status == 200


def test_silent_strangers_keep_nobody_out(viewer: Viewer) -> None:
    strangers = [socket.create_connection(("127.0.0.1", viewer.port)) for _ in range(300)]
    try:
        for line in strangers:
            with contextlib.suppress(OSError):
                line.sendall(b"GET / HTTP/1.1\r\nX: ")
        assert viewer.ask("/runs").status == 200
        until(lambda: threads(viewer.process.pid) < 100, "an end to their threads")
    finally:
        for line in strangers:
            line.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_it_is_for_reading(viewer: Viewer, method: str) -> None:
    found = viewer.ask("/runs", method=method)
    assert found.status == 405 and found.headers["Allow"] == "GET"


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "%2e%2e",
        "..%2foutside",
        "../outside",
        "%2Ftmp",
        "proven%2f..%2f..%2foutside",
        "proven%00",
        "%5c",
        "x" * 5000,
        "linked",
        "half",
    ],
)
def test_only_runs_of_the_folder_are_served(viewer: Viewer, name: str) -> None:
    for path in (f"/run/{name}", f"/run/{name}/candidate/0", f"/report/{name}"):
        found = viewer.ask(path)
        assert found.status == 404 or "is not here any more" in found.json["error"], path
    assert viewer.ask(f"/{name}/etc/passwd").status == 404


def test_the_pages_load_nothing_and_run_no_script_but_their_own(viewer: Viewer) -> None:
    policy = viewer.ask("/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe-eval" not in policy
    for path in ("/", "/runs", "/run/proven", "/nothing"):
        found = viewer.ask(path)
        assert found.headers["Content-Security-Policy"] == policy
        assert found.headers["X-Content-Type-Options"] == "nosniff" and found.headers["Cache-Control"] == "no-store"
    for path in ("/", "/view.js", "/view.css", "/report.css"):
        assert "://" not in viewer.ask(path).text and "eval(" not in viewer.ask(path).text


def test_the_list_tells_which_runs_are_damaged_and_the_others_work(viewer: Viewer) -> None:
    html = viewer.ask("/runs").json["html"]
    assert html.count("<li ") == 5 and html.count('"dot damaged"') == 2 and "✓ proven" in html
    for name in ("damaged", "empty", "unknown"):
        found = viewer.run(name)
        assert found["error"] and found["hint"], name
        assert "error" in viewer.ask(f"/run/{name}/candidate/0").json
        assert viewer.ask(f"/report/{name}").status in (409, 500) or name == "unknown"
    assert "accuracy went from" in viewer.run("proven")["parts"]["head"]


def test_a_run_whose_evaluator_is_broken_is_none_without_a_gain(tmp_path: Path) -> None:
    problem = folder(tmp_path / "p", evaluate="def measure(candidate): raise RuntimeError('no scale')")
    runs = tmp_path / "runs"
    assert call("run", problem, "--runs", runs, cwd=tmp_path).code == 3
    gallery = Gallery(runs)
    (listed,) = gallery.states()
    told = answers.run(gallery, listed.name, {})
    assert told is not None
    for html in (parts.runs([listed]), told["parts"]["head"]):
        assert "cannot be scored" in html and "no gain" not in html
    assert call("list", "--runs", runs, cwd=tmp_path).out.strip().endswith("cannot be scored")


def test_what_is_new_is_sent_and_nothing_else(viewer: Viewer) -> None:
    first = viewer.run("proven")
    assert set(first["parts"]) == {"head", "table", "spend", "log", "cost"} and first["state"] == "finished"
    have = ",".join(f"{name}:{tag}" for name, tag in first["tags"].items())
    second = viewer.run("proven", cursor=first["cursor"], have=have)
    assert set(second["parts"]) == {"cost"} and "<svg" in second["parts"]["cost"], "the picture comes after the words"
    assert viewer.run("proven", cursor=second["cursor"], have=have) is None
    assert viewer.ask(f"/runs?have={viewer.ask('/runs').json['tag']}").status == 204


def test_candidates_are_found_and_paged(viewer: Viewer) -> None:
    whole = viewer.run("proven")["parts"]["table"]
    count = whole.count('<tr id="c')
    assert count > 3
    kept = viewer.run("proven", show="kept")["parts"]["table"]
    assert 2 <= kept.count('<tr id="c') < count and 'id="c0"' in kept
    found = viewer.run("proven", find="#1")["parts"]["table"]
    assert 'id="c1"' in found and 'id="c0"' not in found
    assert "No candidate fits" in viewer.run("proven", find="nobody says this")["parts"]["table"]
    for page in ("999999", "-1", "x", "９", "1" * 5000):
        assert 'id="c0"' in viewer.run("proven", page=page)["parts"]["table"], page


@pytest.mark.parametrize("run", ["proven", "nasty"])
def test_no_part_has_an_element_that_others_wrote(viewer: Viewer, run: str) -> None:
    parts = viewer.run(run)["parts"]
    parts["runs"] = viewer.ask("/runs").json["html"]
    for number in range(4):
        parts[f"card {number}"] = viewer.ask(f"/run/{run}/candidate/{number}").json["html"]
    for name, html in parts.items():
        for tag, attributes in Page(html).tags:
            assert HARMLESS.fullmatch(tag) or tag in ("progress", "button", "ol", "time", "small", "style"), name
            assert not [key for key in attributes if key.startswith("on") or key in ("src", "srcdoc", "action")], tag
            links = [value for key in ("href", "xlink:href") if (value := attributes.get(key)) is not None]
            assert all(value.startswith("#") for value in links), links
        assert not set("\ud800\u202e\x1b\x00") & set(html)
    assert run != "nasty" or "&lt;script&gt;alert(1)" in parts["card 1"]


def test_a_candidate_is_told_with_why_and_with_what_changed(viewer: Viewer) -> None:
    html = viewer.ask("/run/proven/candidate/1").json["html"]
    assert "Changed from the initial candidate" in html and 'class="fresh"' in html and "Evaluations on train (" in html
    assert "Nothing: it is the initial candidate" in viewer.ask("/run/proven/candidate/0").json["html"]
    assert "there is no candidate 999" in viewer.ask("/run/proven/candidate/999").json["error"]
    assert viewer.ask("/run/proven/candidate/-1").status == 404
    assert viewer.ask("/run/proven/candidate/%D9%A3").status == 404
    assert "no trace" in viewer.ask("/run/proven/trace/1").json["error"]


def test_the_full_report_is_a_link_away(viewer: Viewer) -> None:
    found = viewer.ask("/report/proven")
    assert found.status == 200 and "TrueGain report" in found.text


async def test_while_a_run_is_open_nothing_of_val_or_test_is_served(tmp_path: Path) -> None:
    world = await cut_off(tmp_path / "world", "last")
    secrets = Secrets.of(world.folder)
    name = world.folder.name
    ran = crawled(["--json"], world.folder.parent.parent)
    assert ran.code == 0 and f">{name}<" in ran.out and "show trace" in ran.out, ran.err
    assert secrets.inside(ran.out) == []
    assert "exam: the best candidate" not in ran.out, "not even that an exam is being held"


def test_a_run_is_followed_to_its_end_by_two_and_then_goes_away(tmp_path: Path) -> None:
    problem, runs = folder(tmp_path / "bowl", evaluate=TRACED), tmp_path / "runs"
    runs.mkdir()
    with viewing(runs) as one, viewing(runs) as two:
        assert "No runs here yet" in one.ask("/runs").json["html"]
        with running(problem, runs) as process:
            (name,) = until(lambda: [p.name for p in runs.iterdir() if (p / FILE).exists()], "a run")
            first = until(lambda: (found := one.run(name)).get("parts") and 'id="c1"' in str(found) and found, "rows")
            assert first["state"] == "running" and first["live"] and "nothing is claimed" in first["parts"]["head"]
            assert 'class="dot running"' in two.ask("/runs").json["html"]
            assert f'content="0;url=/#/{name}"' in two.enter().text, "the one that is running is opened"
            traced = until(lambda: _traced(two, name), "a trace")
            assert "bent(x=" in two.ask(f"/run/{name}/trace/{traced}").json["text"]
            (problem / "go").touch()
            process.wait(PATIENCE)
            last = one.run(name, cursor=first["cursor"])
            assert last["state"] == "finished" and not last["live"] and "✓ exact" in last["parts"]["head"]
            assert "loss went from" in last["parts"]["head"], "what the gate has found is told after the end"
            assert two.run(name)["tags"]["table"] == last["tags"]["table"], "both see the same"
        shutil.rmtree(runs / name)
        for viewer in (one, two):
            assert "is not here any more" in viewer.run(name, cursor=last["cursor"])["error"]
            assert name not in viewer.ask("/runs").json["html"]


def _traced(viewer: Viewer, name: str) -> str:
    html: str = viewer.ask(f"/run/{name}/candidate/0").json.get("html", "")
    return html.partition('data-trace="')[2].partition('"')[0]


def test_looking_never_holds_up_the_writer(tmp_path: Path, viewer: Viewer, runs: Path) -> None:
    copy = tmp_path / "runs" / "proven"
    shutil.copytree(runs / "proven", copy)
    with viewing(copy.parent) as other:
        assert other.run("proven")["parts"]
        journal = Journal(copy)  # takes the lock, and checkpoints at its end
        try:
            assert other.run("proven")["parts"] and other.ask("/runs").status == 200
        finally:
            journal.close()


def test_a_port_that_is_taken_is_told(tmp_path: Path, viewer: Viewer) -> None:
    ran = call("view", tmp_path, "--port", viewer.port, "--json", cwd=tmp_path)
    assert ran.code == 2 and str(viewer.port) in ran.json["error"]["message"] and "--port" in ran.json["error"]["hint"]


def test_a_run_can_be_named_and_is_opened_first(runs: Path) -> None:
    process = begin("view", runs / "proven", "--no-open", cwd=runs, PYTHONPATH=str(ROOT))
    assert process.stdout is not None
    url, place = process.stdout.readline().strip(), process.stdout.readline()
    found = Viewer(url, process)
    try:
        assert str(runs) in place
        assert 'content="0;url=/#/proven"' in found.enter().text
    finally:
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and err == ""


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    found: Any = call("view", "nothing", "--runs", tmp_path, "--json", cwd=tmp_path)
    assert found.code == 2 and found.json["error"]["hint"]


def test_no_server_of_ours_looks_up_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard one asks what 127.0.0.1 is called, for which some networks take seconds."""

    def refuse(*_: object) -> str:
        raise AssertionError("a name is looked up")

    monkeypatch.setattr(socket, "getfqdn", refuse)
    Server(tmp_path).server_close()
    door = Door(cast(Desk, None))
    door.take()
    door.close()
