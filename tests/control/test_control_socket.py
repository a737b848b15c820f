"""The socket of a run: what may be asked, what comes back, and clients that mean no good."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.control import wire
from agent.control.client import ask, pause
from agent.control.server import Steering
from agent.control.wire import KINDS, Control, ControlError, address
from agent.errors import StoreError
from agent.loop import Run
from agent.results.result import Result
from tests.support import Direct, entries, problem, session

SEARCH_FACTS = {"run", "pid", "state", "busy", "in_flight"}


@pytest.fixture(autouse=True)
def _runtime(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("r")))


class Held(Direct):
    """Measures up to a number, then waits until it is let go."""

    def __init__(self, chosen: Any, free: int) -> None:
        super().__init__(chosen)
        self.free = free
        self.go = asyncio.Event()
        self.held = asyncio.Event()

    async def submit(self, request: Any) -> Any:
        if len(self.requests) >= self.free:
            self.held.set()
            await self.go.wait()
        return await super().submit(request)


Story = Callable[[Path, Held, "asyncio.Task[Result]"], Awaitable[None]]


async def life(folder: Path, story: Story, free: int = 5) -> Result:
    """A service that is held in its sixth measurement while the story is told."""
    chosen = problem()
    held = Held(chosen, free)
    made = session(problem=chosen, executor=held, proposer="coordinate", service=True)
    task = asyncio.create_task(made.run(folder))
    await asyncio.wait({task, asyncio.create_task(held.held.wait())}, return_when=asyncio.FIRST_COMPLETED)
    try:
        await story(folder, held, task)
    finally:
        held.go.set()
    return await task


async def asked(folder: Path, do: str, **more: Any) -> dict[str, Any]:
    return await asyncio.to_thread(ask, folder, do, **more)


async def said(folder: Path, data: bytes, hang: bool = False) -> dict[str, Any]:
    """What comes back for raw bytes."""
    control = Control.read(folder)
    assert control is not None
    reader, writer = await asyncio.open_unix_connection(control.socket)
    try:
        writer.write(data)
        if not hang:
            writer.write_eof()
        async with asyncio.timeout(60):
            return dict(json.loads(await reader.readline() or "{}"))
    finally:
        writer.close()


async def test_a_run_tells_where_it_is_and_no_more_than_the_search_knows(tmp_path: Path) -> None:
    async def story(folder: Path, held: Held, task: Any) -> None:
        found = await asked(folder, "status")
        assert set(found) == SEARCH_FACTS
        assert found["run"] == "run" and found["pid"] == os.getpid() and found["state"] == "running" and found["busy"]
        assert found["in_flight"]["evaluations"] == 1

    result = await life(tmp_path / "run", story)
    assert result.status == "exact"


async def test_what_the_gate_measures_is_not_told(tmp_path: Path) -> None:
    from tests.support import noisy

    chosen = problem(noisy, deterministic=False)
    held = Held(chosen, 10**9)
    made = session(problem=chosen, executor=held, proposer="coordinate", service=True, workers=2)
    told: list[dict[str, Any]] = []

    def hold(run: Run) -> None:
        steering = Steering(run)
        real = held.submit

        async def submit(request: Any) -> Any:
            if request.purpose == "gate":
                told.append(steering.standing())
            return await real(request)

        held.submit = submit  # type: ignore[method-assign]

    result = await made.run(tmp_path / "run", hold)
    assert result.status != "open" and len(told) > 8, "there was an exam"
    assert all(set(item) == SEARCH_FACTS for item in told)
    assert {item["in_flight"]["evaluations"] for item in told} == {0}


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"\xff\xfe\x00 garbage\n", "bad_request"),
        (b"[" * 4000 + b"\n", "bad_request"),
        (b"[]\n", "bad_request"),
        (b"", "bad_request"),
        (b"{}\n", "bad_request"),
        (b'{"do": ["status"]}\n', "bad_request"),
        (b'{"do": "raise the limits"}\n', "unknown_request"),
        (b'{"do": "' + b"x" * 10_000_000 + b'"}\n', "too_large"),
    ],
    ids=["bytes", "nested", "list", "nothing", "empty", "no-text", "unknown", "10MB"],
)
async def test_a_bad_request_gets_its_kind_and_disturbs_nothing(tmp_path: Path, line: bytes, kind: str) -> None:
    async def story(folder: Path, held: Held, task: Any) -> None:
        error = (await said(folder, line))["error"]
        assert error["kind"] == kind and set(error) == {"kind", "message", "hint"}
        assert (await asked(folder, "status"))["state"] == "running"

    assert (await life(tmp_path / "run", story)).status == "exact"
    assert kind in KINDS


async def test_a_hundred_garbage_clients_at_once_do_not_disturb_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.control.server.PATIENCE", 0.3)

    async def story(folder: Path, held: Held, task: Any) -> None:
        lines = [b"\x00" * 100, b'{"do":', b"x" * 100_000, b'{"do": "status"}\n', b""]
        work = [asyncio.create_task(said(folder, lines[n % 5], hang=n % 2 == 0)) for n in range(100)]
        held.go.set()  # the run goes on meanwhile
        answers = await asyncio.gather(*work, return_exceptions=True)
        kinds = {answer.get("error", {}).get("kind", "ok") for answer in answers if isinstance(answer, dict)}
        assert kinds <= {"bad_request", "too_large", "timeout", "busy", "ok"} and "busy" in kinds
        assert all(isinstance(answer, (dict, OSError)) for answer in answers)

    result = await life(tmp_path / "run", story)
    quiet = await session(proposer="coordinate").run(tmp_path / "quiet")
    assert result.status == "exact" and result.best == quiet.best and result.spent["evaluations"] == 60


async def test_a_client_that_never_speaks_is_sent_away_and_the_end_does_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.control.server.PATIENCE", 0.1)

    async def story(folder: Path, held: Held, task: Any) -> None:
        assert (await said(folder, b'{"do": "sta', hang=True))["error"]["kind"] == "timeout"
        monkeypatch.setattr("agent.control.server.PATIENCE", 3600.0)
        control = Control.read(folder)
        assert control is not None
        silent = await asyncio.open_unix_connection(control.socket)
        held.go.set()
        async with asyncio.timeout(60):
            await task
        silent[1].close()

    assert (await life(tmp_path / "run", story)).status == "exact"


async def test_stop_finishes_what_is_in_flight_and_may_be_said_twice(tmp_path: Path) -> None:
    async def story(folder: Path, held: Held, task: Any) -> None:
        assert (await asked(folder, "stop"))["state"] == "stopping"
        assert (await asked(folder, "stop"))["state"] == "stopping"
        with pytest.raises(ControlError) as caught:
            await asked(folder, "pause")
        assert caught.value.what == "wrong_state"
        assert not task.done()

    result = await life(tmp_path / "run", story)
    assert (result.exit_code, result.reason, result.status) == (143, "terminated", "open")
    events = [entry.event.type for entry in entries(tmp_path / "run")]
    assert events.count("stop.requested") == 1
    assert events.count("evaluation.started") == events.count("evaluation.ended")
    again = await session(proposer="coordinate").resume(tmp_path / "run")
    assert again.status == "exact" and again.spent["evaluations"] == 60


async def test_stop_now_ends_at_once_and_answers_first(tmp_path: Path) -> None:
    async def story(folder: Path, held: Held, task: Any) -> None:
        assert (await asked(folder, "stop-now"))["state"] == "stopping"
        with pytest.raises(asyncio.CancelledError):
            await task

    with pytest.raises(asyncio.CancelledError):
        await life(tmp_path / "run", story)
    assert (await session(proposer="coordinate").resume(tmp_path / "run")).spent["evaluations"] == 60


async def test_the_address_is_there_while_the_run_is_driven_and_gone_afterwards(tmp_path: Path) -> None:
    async def story(folder: Path, held: Held, task: Any) -> None:
        control = Control.read(folder)
        assert control is not None and control.pid == os.getpid()
        assert len(os.fsencode(control.socket)) < 100
        place = Path(control.socket)
        assert stat.S_ISSOCK(place.lstat().st_mode) and place.parent.stat().st_mode & 0o777 == 0o700

    await life(tmp_path / "run", story)
    assert not (tmp_path / "run" / "control").exists() and not address(tmp_path / "run").exists()
    with pytest.raises(ControlError) as caught:
        ask(tmp_path / "run", "status")
    assert caught.value.what == "not_running" and caught.value.exit_code == 2


async def test_what_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    import socket

    folder = tmp_path / "run"
    folder.mkdir()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(address(folder)))
    dead.close()  # the socket's file stays
    Control(str(address(folder)), 1, 0.0).write(folder)

    async def story(folder: Path, held: Held, task: Any) -> None:
        assert (await asked(folder, "status"))["pid"] == os.getpid()

    assert (await life(folder, story)).status == "exact"


@pytest.mark.parametrize(
    "rubbish", ["", "[]", "{", '{"socket": 1}', '{"socket": "/x", "pid": "?", "started": 0}', "\0"]
)
async def test_rubbish_in_the_address_is_no_address(tmp_path: Path, rubbish: str) -> None:
    async def story(folder: Path, held: Held, task: Any) -> None:
        (folder / "control").write_text(rubbish)
        with pytest.raises(ControlError) as caught:
            await asked(folder, "status")
        assert caught.value.what == "unreachable" and caught.value.exit_code == 75

    await life(tmp_path / "run", story)


async def test_a_run_from_python_does_not_listen_and_says_so(tmp_path: Path) -> None:
    from agent.journal import Journal

    journal = Journal(tmp_path / "run")
    with pytest.raises(ControlError) as caught:
        ask(tmp_path / "run", "stop")
    assert caught.value.what == "unreachable" and "from Python" in caught.value.hint
    journal.close()


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for the name of a socket, which a test's own one may not."""
    with tempfile.TemporaryDirectory(prefix="r") as name:
        yield Path(name)


def test_a_runtime_folder_that_others_may_enter_is_refused(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    assert address(tmp_path).parent == short / "truegain"
    (short / "truegain").chmod(0o750)
    with pytest.raises(StoreError, match="belongs to you alone"):
        address(tmp_path)
    (short / "truegain").rmdir()
    (short / "elsewhere").mkdir(mode=0o700)
    (short / "truegain").symlink_to(short / "elsewhere")
    with pytest.raises(StoreError):
        address(tmp_path)


async def test_a_run_that_cannot_listen_goes_on_and_says_so(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    (short / "truegain").mkdir()
    (short / "truegain").chmod(0o777)
    result = await session(proposer="coordinate", service=True).run(tmp_path / "run")
    assert result.status == "exact"
    assert "will not reach this run" in caplog.text and "chmod 700" in caplog.text


def test_a_long_runtime_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    found = address(tmp_path / "run")
    assert str(found).startswith(f"/tmp/truegain-{os.getuid()}/") and len(os.fsencode(found)) < wire.SHORT


def test_the_documented_kinds_are_all_there_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "background.md").read_text(encoding="utf-8")
    table = page[page.index("| kind | meaning |") :].splitlines()[2 : 2 + len(KINDS)]
    assert [row.split("|")[1].strip() for row in table] == list(KINDS)


async def test_keys_never_leave_by_the_socket(tmp_path: Path) -> None:
    assert b"sk-" not in wire.encode({"ok": {"run": "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCDEF"}})


async def test_pausing_waits_until_nothing_is_in_flight_and_not_longer_than_it_may(tmp_path: Path) -> None:
    async def story(folder: Path, held: Held, task: Any) -> None:
        with pytest.raises(ControlError) as caught:
            await asyncio.to_thread(pause, folder, True, 0.2)
        assert caught.value.what == "timeout" and caught.value.exit_code == 75
        assert (await asyncio.to_thread(pause, folder, False))["busy"]
        waiting = asyncio.create_task(asyncio.to_thread(pause, folder, True, 60.0))
        held.go.set()
        found = await waiting
        assert found["state"] == "paused" and not found["busy"]
        assert not task.done()
        assert (await asked(folder, "go"))["state"] == "running"
        assert (await asked(folder, "go"))["state"] in ("running", "finished"), "nothing to do is no error"

    assert (await life(tmp_path / "run", story)).status == "exact"


async def test_sockets_of_the_dead_are_cleared_away_and_those_of_the_living_stay(tmp_path: Path) -> None:
    place = address(tmp_path / "run").parent
    for name in ("dead", "young", "alive"):
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(place / f"{name}.sock"))
            made.listen()
            if name == "alive":
                alive = made.dup()
    for name in ("dead", "alive"):
        os.utime(place / f"{name}.sock", (1.0, 1.0))

    async def story(folder: Path, held: Held, task: asyncio.Task[Result]) -> None:
        kept = {path.name for path in place.glob("*.sock")}
        assert kept == {"young.sock", "alive.sock", address(folder).name}

    await life(tmp_path / "run", story)
    alive.close()
