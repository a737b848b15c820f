"""A run's progress as JSON lines."""

from __future__ import annotations

import io
import json
import logging
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agent.cli import logs
from agent.cli.jsonlines import JsonLines, LogFile, Prints, Warnings
from agent.telling.display import Display
from tests.support import noisy, problem, session


def parsed(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_it_says_what_the_terminal_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    await session(proposer="coordinate", observers=(JsonLines(stream), Display(live=False))).run(tmp_path / "run")
    lines = parsed(stream)
    assert "\n".join(line["text"] for line in lines) + "\n" == capsys.readouterr().err
    assert {line["run"] for line in lines} == {"run"}
    assert list(lines[0])[-5:] == ["ts", "level", "run", "event", "text"]
    kept = next(line for line in lines if line.get("decision") == "promote")
    assert kept["event"] == "race.decided" and "✓ kept" in kept["text"] and kept["candidate"]
    assert all(datetime.fromisoformat(line["ts"]).utcoffset() is not None for line in lines)


async def test_of_the_gate_only_the_bit_is_written(tmp_path: Path) -> None:
    stream = io.StringIO()
    chosen = problem(noisy, deterministic=False)
    await session(problem=chosen, proposer="coordinate", observers=(JsonLines(stream),)).run(tmp_path / "run")
    events = [line["event"] for line in parsed(stream)]
    assert "exam.decided" in events and not {"exam.started", "exam.planned", "report.started"} & set(events)


def test_hostile_text_stays_on_its_line_and_keys_are_masked() -> None:
    stream = io.StringIO()
    key = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCDEF"
    lines = JsonLines(stream, "run")
    lines.say("warning", "test", f"\x1b[2J\r{key}\u2028\n}}\ud83d", detail={"api_key": key}, run="another")
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert key not in line and "\\x1b[2J" in found["text"] and found["run"] == "run"
    line.encode("ascii")


def test_what_is_printed_and_logged_becomes_lines() -> None:
    stream = io.StringIO()
    lines = JsonLines(stream, "run")
    print("one\ntwo", 3, file=Prints(lines, "warning"))
    log = logging.getLogger("test_jsonlines")
    log.addHandler(handler := Warnings(lines))
    log.propagate = False
    log.warning("careful: %s", 1)
    log.info("not this")
    log.removeHandler(handler)
    found = [(line["level"], line["event"], line["text"]) for line in parsed(stream)]
    assert found == [("warning", "printed", "one"), ("warning", "printed", "two 3"), ("warning", "log", "careful: 1")]


def test_a_log_keeps_what_came_before_it_was_opened_and_appends_to_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("before\n")
    file = LogFile()
    file.write("early\n")
    file.open(tmp_path / "log.jsonl")
    file.write("late\ud83d\n")
    assert (tmp_path / "log.jsonl").read_text() == "before\nearly\nlate\\ud83d\n"


def test_whoever_follows_a_log_waits_for_the_last_words_of_its_process(tmp_path: Path) -> None:
    """The run's lock is free already, and the process has not gone yet."""
    file = LogFile()
    descriptor = file.open(tmp_path / "log.jsonl")
    following = logs.lines(tmp_path, True)
    for word in ("measured", "done"):
        JsonLines(file, "run").say("info", word, word)
        assert next(following)["event"] == word
    os.close(descriptor)
    assert not list(following)


def test_a_full_disk_is_no_error_of_the_log() -> None:
    file = LogFile()
    descriptor = file.open(Path("/dev/full"))
    with pytest.raises(OSError, match="No space left"):
        os.write(descriptor, b"x")
    JsonLines(file, "run").say("info", "test", "x")
    assert file.write("x\n") == 2  # as if it were there: the journal says that the disk is full
    os.close(descriptor)


def test_only_the_beginning_and_the_end_of_a_download_are_written() -> None:
    stream = io.StringIO()
    lines = JsonLines(stream)
    for done in (0, 5, 9, 10):
        lines.progress(done, 10, "weights")
    assert [(line["done"], line["total"]) for line in parsed(stream)] == [(0, 10), (10, 10)]
