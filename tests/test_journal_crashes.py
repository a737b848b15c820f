"""What is left of a run when a process is killed, a disk is full, or a file is torn. With real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.errors import RunLocked, StoreError
from agent.events import CandidateRejected
from agent.folders import listing
from agent.journal import FILE, Entry, Journal, read
from agent.lock import is_locked

WRITER = """
import sys
from pathlib import Path
from agent.events import CandidateRejected
from agent.journal import Journal

def write(store, numbers, size=300):
    for number in numbers:
        store.append(CandidateRejected(number, f"c{number}", "x" * size, "test"), float(number))
    store.commit()

store = Journal(Path(sys.argv[1]))
"""

ENDLESS = (
    WRITER
    + """
number = 0
while True:
    write(store, range(number + 1, number + 4))
    number += 3
    print(number, flush=True)
"""
)

IDLE = (
    WRITER
    + """
write(store, [1, 2])
print("ready", flush=True)
sys.stdin.read()
"""
)

FULL = (
    WRITER
    + """
import json, resource
from agent.errors import StoreError
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
done = 0
try:
    while True:
        write(store, range(done + 1, done + 11), size=2000)
        done += 10
except StoreError as error:
    print(json.dumps([done, error.message, error.hint]), flush=True)
try:
    store.close()
except StoreError as error:
    print(json.dumps(error.message), flush=True)
"""
)


@contextmanager
def process(program: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A writing process; killed at the end."""
    command = [sys.executable, "-c", program, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def line(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    found = running.stdout.readline().strip()
    assert found, "the process ended early"
    return found


def check_prefix(entries: list[Entry], size: int = 300) -> None:
    """Entries without a gap, each as it was written."""
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    for entry in entries:
        assert entry.event == CandidateRejected(entry.seq, f"c{entry.seq}", "x" * size, "test")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_after_a_kill_everything_acknowledged_is_there_and_nothing_half_done(folder: Path) -> None:
    with process(ENDLESS, folder) as running:
        acknowledged = 0
        while acknowledged < 60:
            acknowledged = int(line(running))
        running.send_signal(signal.SIGKILL)
        running.wait()
    entries = list(read(folder))
    check_prefix(entries)
    assert len(entries) >= acknowledged and len(entries) % 3 == 0  # groups are whole or absent
    assert not is_locked(folder)
    store = Journal(folder)
    store.append(entries[0].event, 0.0)
    store.close()
    assert len(list(read(folder))) == len(entries) + 1


def test_readers_see_a_growing_prefix_while_another_process_writes(folder: Path) -> None:
    with process(ENDLESS, folder) as running:
        line(running)
        seen = 0
        while seen < 60:
            entries = list(read(folder))
            check_prefix(entries)
            assert len(entries) >= seen
            seen = len(entries)
            acknowledged = int(line(running))
            assert next(read(folder, after=acknowledged - 1)).seq == acknowledged


def test_a_second_writer_is_told_which_process_writes(folder: Path) -> None:
    with process(IDLE, folder) as running:
        line(running)
        with pytest.raises(RunLocked) as caught:
            Journal(folder)
        assert caught.value.pid == running.pid and str(running.pid) in caught.value.message
        assert caught.value.exit_code == 75 and caught.value.hint
        assert is_locked(folder) and len(list(read(folder))) == 2
        running.kill()
        running.wait()
        store = Journal(folder)  # the kernel frees the lock of a dead process
        assert len(list(store.entries())) == 2
        store.close()


def test_a_full_disk_stops_the_run_clearly_and_keeps_what_was_committed(folder: Path) -> None:
    with process(FULL, folder) as running:
        done, message, hint = json.loads(line(running))
        again = json.loads(line(running))  # closing cannot write either, and says so
        assert running.wait() == 0
    assert done > 0 and "cannot write the journal" in message and "cannot write" in again
    assert "free some space" in hint and f"truegain resume {folder.name}" in hint
    entries = list(read(folder))
    check_prefix(entries, 2000)
    assert len(entries) >= done
    store = Journal(folder)  # there is space again: the run goes on
    store.append(CandidateRejected(len(entries) + 1, f"c{len(entries) + 1}", "x" * 2000, "test"), 0.0)
    store.close()
    check_prefix(list(read(folder)), 2000)


def torn(folder: Path, count: int = 2000) -> Path:
    store = Journal(folder)
    for number in range(1, count + 1):
        store.append(CandidateRejected(number, f"c{number}", "x" * 300, "test"), 0.0)
    store.close()
    return folder / FILE


def readable(folder: Path) -> tuple[list[Entry], StoreError | None]:
    """What can still be read, and the error that ended it."""
    entries = []
    try:
        for entry in read(folder):
            entries.append(entry)
    except StoreError as error:
        return entries, error
    return entries, None


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_a_file_that_was_cut_short_is_an_error_and_never_a_shorter_run(folder: Path, kept: float) -> None:
    path = torn(folder)
    os.truncate(path, int(path.stat().st_size * kept))
    left = path.read_bytes()
    entries, error = readable(folder)
    check_prefix(entries)
    assert error is not None and "cannot be read" in error.message and "backup" in error.hint
    try:  # the end may be gone without the writer seeing it at once; reading then tells
        Journal(folder).close()
    except StoreError as refused:
        assert "backup" in refused.hint
        assert path.read_bytes() == left
        assert not is_locked(folder)


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.99])
def test_a_file_with_foreign_bytes_in_it_is_an_error_and_never_a_wrong_event(folder: Path, place: float) -> None:
    path = torn(folder)
    with path.open("r+b") as file:
        file.seek(int(path.stat().st_size * place))
        file.write(b"\xfe\x00{garbage" * 500)
    entries, error = readable(folder)
    check_prefix(entries)
    assert error is not None and error.hint


def test_what_is_no_database_says_so_and_is_listed_as_damaged(folder: Path) -> None:
    folder.mkdir()
    (folder / FILE).write_text("these are my notes\n" * 100)
    _, error = readable(folder)
    assert error is not None and "cannot be read" in error.message
    with pytest.raises(StoreError, match="cannot be read"):
        Journal(folder)
    assert (folder / FILE).read_text().startswith("these are my notes")
    assert not is_locked(folder)
    assert (listing(folder).state, listing(folder).problem) == ("damaged", "")
