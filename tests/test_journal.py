"""The run store: in order, durable when it says so, never changed, and clear about what is wrong."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent import journal, lock, redact, sqlitefile
from agent.errors import RunLocked, StoreError
from agent.events import CallStarted, CandidateRejected, EvaluationStarted, Event, RunEnded, StopRequested
from agent.journal import FILE, GATE, Entry, Journal, last, read, read_all
from agent.lock import Lock, filesystem, is_locked


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def event(number: int) -> Event:
    return CandidateRejected(number, f"c{number}", "seen before", "tëst")


def written(folder: Path, count: int) -> Path:
    """A closed journal of so many events."""
    store = Journal(folder)
    for number in range(1, count + 1):
        store.append(event(number), float(number))
    store.close()
    return folder / FILE


def numbers(folder: Path) -> list[int]:
    return [entry.event.proposal for entry in read(folder)]  # type: ignore[attr-defined]


def test_events_come_back_in_order_with_their_times(folder: Path) -> None:
    written(folder, 3)
    store = Journal(folder)
    store.append(StopRequested("interrupted"), 9.5)
    store.close()
    entries = list(read(folder))
    assert [(entry.seq, entry.time) for entry in entries] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 9.5)]
    assert [entry.event for entry in entries] == [event(1), event(2), event(3), StopRequested("interrupted")]
    assert last(folder) == entries[-1]
    assert [entry.seq for entry in read(folder, after=2)] == [3, 4]
    assert entries[0].to_json() | {"proposal": 1, "type": "candidate.rejected", "seq": 1} == entries[0].to_json()


def mixed(folder: Path) -> Journal:
    store = Journal(folder)
    for number, purpose in enumerate(("gate", "search", "gate", "report", "search", "gate"), 1):
        store.append(EvaluationStarted(number, "c", None, 0, 0, purpose), float(number))
    return store


def ids(entries: Iterable[Entry]) -> list[int]:
    return [entry.event.id for entry in entries]  # type: ignore[attr-defined]


def test_what_is_not_for_the_search_is_in_a_file_of_its_own(folder: Path) -> None:
    mixed(folder).close()
    assert ids(read(folder)) == [2, 5]
    assert [entry.seq for entry in read(folder)] == [1, 2], "nothing shows how much is hidden"
    assert ids(read_all(folder)) == [1, 2, 3, 4, 5, 6]
    assert ids(read_all(folder, after=1)) == [3, 4, 5, 6]
    again = Journal(folder)
    assert ids(again.entries()) == [1, 2, 3, 4, 5, 6]
    again.append(EvaluationStarted(7, "c", None, 0, 0, "search"), 7.0)
    again.close()
    assert ids(read_all(folder)) == [1, 2, 3, 4, 5, 6, 7]
    assert (folder / GATE).stat().st_mode & 0o777 == 0o600


def test_the_gates_half_of_a_group_that_was_cut_off_is_taken_back(folder: Path) -> None:
    mixed(folder).close()
    with closing(sqlite3.connect(folder / GATE)) as db, db:  # as a crash between the two files leaves it
        db.execute("INSERT INTO events SELECT NULL, 3, time, type, audience, body FROM events WHERE seq = 1")
    again = Journal(folder)
    assert ids(again.entries()) == [1, 2, 3, 4, 5, 6]
    again.close()
    assert ids(read_all(folder)) == [1, 2, 3, 4, 5, 6]


def test_a_gates_file_that_was_being_made_is_made_again(folder: Path) -> None:
    written(folder, 1)
    (folder / "gate.new").write_bytes(b"half a file")  # as a kill leaves it
    (folder / "gate.new-journal").write_bytes(b"and its journal")
    mixed(folder).close()
    assert ids(entry for entry in read_all(folder) if entry.event.type == "evaluation.started") == [1, 2, 3, 4, 5, 6]
    assert not list(folder.glob("gate.new*"))


def test_a_gates_file_without_its_table_is_damaged(folder: Path) -> None:
    mixed(folder).close()
    (folder / GATE).write_bytes(b"")
    with pytest.raises(StoreError, match="no such table"):
        list(read_all(folder))


def test_a_failed_commit_is_not_half_there_when_it_succeeds_later(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = mixed(folder)
    insert, calls = sqlitefile.insert, []

    def failing(db: Any, rows: Any, query: str) -> None:
        calls.append(query)
        if len(calls) == 2:
            raise sqlite3.OperationalError("database or disk is full")
        insert(db, rows, query)

    monkeypatch.setattr(journal, "insert", failing)
    with pytest.raises(StoreError, match="full"):
        store.commit()
    store.commit()
    assert ids(store.entries()) == [1, 2, 3, 4, 5, 6]
    store.close()


async def test_flush_returns_when_it_is_on_the_disk_and_waiters_share_a_group(folder: Path) -> None:
    store = Journal(folder)
    store.append(event(1), 0.0)
    assert store.dirty and list(read(folder)) == [] and last(folder) is None

    async def waiter() -> int:
        await store.flush()
        return len(numbers(folder))

    for number in range(2, 42):
        store.append(event(number), 0.0)
    assert await asyncio.gather(*(waiter() for _ in range(40))) == [41] * 40
    assert not store.dirty
    assert store.commits == 1
    await store.flush()
    assert store.commits == 1
    store.close()


async def test_events_that_arrive_during_a_commit_get_the_next_one(folder: Path) -> None:
    store = Journal(folder)
    waiters = []
    for number in range(1, 200):
        store.append(event(number), 0.0)
        waiters.append(asyncio.ensure_future(store.flush()))
        if number % 10 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*waiters)
    assert numbers(folder) == list(range(1, 200))
    assert store.commits < 100
    store.close()


def test_nothing_that_was_written_can_be_changed_or_deleted(folder: Path) -> None:
    db = sqlite3.connect(written(folder, 2))
    for statement in ("UPDATE events SET body = '{}'", "DELETE FROM events WHERE seq = 1"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(statement)
    db.close()
    assert numbers(folder) == [1, 2]


def test_the_run_folder_is_the_owners_alone(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    Journal(folder).close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_one_writer_and_any_number_of_readers(folder: Path) -> None:
    store = Journal(folder)
    store.append(event(1), 0.0)
    store.commit()
    with pytest.raises(RunLocked) as caught:
        Journal(folder)
    assert caught.value.pid == os.getpid() and str(os.getpid()) in caught.value.message
    assert is_locked(folder) and numbers(folder) == [1]
    store.close()
    assert not is_locked(folder)
    Journal(folder).close()


def test_a_commit_that_fails_loses_nothing(folder: Path) -> None:
    store = Journal(folder)
    store.append(event(1), 0.0)
    store._db.execute("PRAGMA query_only=ON")  # as when the folder becomes read-only
    with pytest.raises(StoreError, match="readonly") as caught:
        store.commit()
    assert "truegain resume run" in caught.value.hint
    store.append(event(2), 0.0)
    store._db.execute("PRAGMA query_only=OFF")
    store.close()
    assert numbers(folder) == [1, 2]


def test_what_arrives_during_a_failing_commit_stays_behind_it(folder: Path) -> None:
    store = Journal(folder)
    db = store._db

    class Full:
        def execute(self, statement: str, values: Any = ()) -> None:
            if statement.startswith("INSERT"):
                store.append(event(2), 0.0)
            raise sqlite3.OperationalError("database or disk is full")

    store._db = Full()  # type: ignore[assignment]
    store.append(event(1), 0.0)
    with pytest.raises(StoreError, match="full"):
        store.commit()
    store._db = db
    store.commit()
    assert not store.dirty and numbers(folder) == [1, 2]
    store.close()


def test_a_group_of_more_than_one_statement_takes_is_there_as_a_whole_or_not_at_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlitefile, "ROWS", 3)
    store = Journal(folder)
    for number in range(1, 9):
        store.append(event(number), 0.0)
    append = sqlitefile._append

    def failing(db: Any, rows: Any, query: str) -> None:
        if rows[-1][0] == 8:
            raise sqlite3.OperationalError("database or disk is full")
        append(db, rows, query)

    with monkeypatch.context() as full:
        full.setattr(sqlitefile, "_append", failing)
        with pytest.raises(StoreError, match="full"):
            store.commit()
    assert numbers(folder) == [] and store.dirty
    store.commit()
    assert numbers(folder) == [1, 2, 3, 4, 5, 6, 7, 8] and store.commits == 1
    store.close()


async def test_everyone_who_waits_hears_of_a_failed_commit(folder: Path) -> None:
    store = Journal(folder)
    store._db.execute("PRAGMA query_only=ON")
    store.append(event(1), 0.0)
    found = await asyncio.gather(*(store.flush() for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in found] == [StoreError] * 3
    store._db.execute("PRAGMA query_only=OFF")
    store.close()


MOUNTS = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw shared:2 master:7 - nfs4 server:/home rw
31 30 8:2 / /home/local\040disk rw - xfs /dev/sdb rw
32 22 0:41 / /home2 rw - fuse.sshfs host:/ rw
33 22 0:42 / /Bücher rw - cifs //server/x rw
34 22 0:43 / /data rw - ext4 /dev/sdc rw
35 22 0:44 / /data rw - lustre x rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tmp/runs", "ext4"),
        ("/home/ann/runs", "nfs4"),
        ("/home/local disk/runs", "xfs"),
        ("/home2", "fuse.sshfs"),
        ("/homework/runs", "ext4"),
        ("/Bücher/runs", "cifs"),
        ("/data/runs", "lustre"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(tmp_path: Path, path: str, kind: str) -> None:
    info = tmp_path / "mountinfo"
    info.write_text(MOUNTS, encoding="utf-8")
    assert filesystem(Path(path), str(info)) == kind


def test_where_the_system_does_not_tell_there_is_no_file_system(tmp_path: Path) -> None:
    assert filesystem(tmp_path, str(tmp_path / "absent")) == ""


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_a_network_mount_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(lock, "filesystem", lambda _: kind)
    with pytest.raises(StoreError, match=kind) as caught:
        Journal(folder)
    assert "TRUEGAIN_RUNS" in caught.value.hint
    assert not (folder / FILE).exists()


def test_a_newer_store_is_refused_and_not_touched(folder: Path) -> None:
    path = written(folder, 2)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    before = path.read_bytes()
    for _ in range(2):  # the lock is free again after the first
        with pytest.raises(StoreError, match="newer version") as caught:
            Journal(folder)
        assert "pip install -U" in caught.value.hint
    assert path.read_bytes() == before


def test_an_event_of_a_newer_version_says_so(folder: Path) -> None:
    db = sqlite3.connect(written(folder, 2))
    db.execute("INSERT INTO events VALUES (3, 0.0, 'moon.landed', 'search', '{}')")
    db.commit()
    db.close()
    entries = read(folder)
    assert [next(entries).seq, next(entries).seq] == [1, 2]
    with pytest.raises(StoreError, match=r"moon\.landed") as caught:
        next(entries)
    assert "upgrade" in caught.value.hint


def test_where_there_is_no_run_the_error_says_so(folder: Path) -> None:
    with pytest.raises(StoreError, match="there is no run"):
        list(read(folder))
    with pytest.raises(StoreError):
        last(folder)


def test_a_run_that_is_just_being_made_is_empty_and_not_damaged(folder: Path) -> None:
    folder.mkdir()
    (folder / FILE).touch()
    lock = Lock(folder)
    assert list(read(folder)) == [] and last(folder) is None
    lock.release()
    with pytest.raises(StoreError, match="no such table"):  # nobody is making it: something is lost
        list(read(folder))


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write") as caught:
        Journal(tmp_path / "file" / "run")
    assert caught.value.hint


SECRETS = {
    "OPENAI_API_KEY": "sk-proj-abcdefghijklmnop123456",
    "MY_SERVICE_TOKEN": 'plain "words" with ünusual \\ signs',
    "DB_PASSWORD": "correcthorsebattery",
}


async def test_secrets_never_reach_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    redact.refresh()
    try:
        store = Journal(folder)
        texts = [
            *SECRETS.values(),
            "Authorization: Bearer abcdefgh12345678",
            "AKIAABCDEFGHIJKLMNOP",
            "\ud83d ghp_" + "a1" * 15,
        ]
        for text in texts:
            for wrapped in (text, f"before {text} after", f"line\n{text}\nline"):
                kept = store.append(CandidateRejected(1, "c", wrapped, "test"), 0.0)
                assert "[redacted]" in kept.reason  # type: ignore[attr-defined]
                nested = {"messages": [{"role": "user", "text": [wrapped, {"deep": wrapped}]}], wrapped: 1}
                store.append(CallStarted(1, "s", "k", 0, "propose", "m", {}, nested), 0.0)
                store.append(RunEnded("provider", "initial", "a", "b", 0, wrapped), 0.0)
                await store.flush()
        while_open = b"".join(file.read_bytes() for file in folder.iterdir())
        store.close()
        closed = b"".join(file.read_bytes() for file in folder.iterdir())
        for secret in [*SECRETS.values(), "abcdefgh12345678", "AKIAABCDEFGHIJKLMNOP", "a1" * 15]:
            for spelling in {secret, secret.replace("\\", "\\\\").replace('"', '\\"')}:
                assert spelling.encode() not in while_open + closed
        assert [entry.event for entry in read(folder)]
    finally:
        monkeypatch.undo()
        redact.refresh()


def test_what_is_folded_is_what_was_stored(folder: Path) -> None:
    store = Journal(folder)
    kept = store.append(CandidateRejected(1, "c", "sk-proj-abcdefghijklmnop123456 was wrong", "test"), 0.0)
    plain = store.append(event(2), 0.0)
    store.close()
    assert [entry.event for entry in read(folder)] == [kept, plain]
    assert plain == event(2)


async def test_what_a_model_writes_can_always_be_stored(folder: Path) -> None:
    store = Journal(folder)
    odd = CandidateRejected(1, "c", "half a pair \ud83d, a null \0, a bell \a,   and \U0001f600", "test")
    store.append(event(1), 0.0)
    store.append(odd, 0.0)
    await store.flush()
    store.close()
    assert [entry.event for entry in read(folder)] == [event(1), odd]


def test_a_group_of_nothing_is_no_statement() -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        said: list[str] = []
        db.set_trace_callback(said.append)
        sqlitefile.insert(db, [], "INSERT INTO nothing VALUES (?)")
        assert said == []
