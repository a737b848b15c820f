"""Patterns that are written: pieces learnt from rows, edits, and what a hostile one costs."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agent.config import load
from agent.evaluation import Request
from agent.session import Session
from agent.space import Candidate
from tests.examples.support import EXAMPLES, modules

FILE = EXAMPLES / "spans" / "patterns.toml"
ROWS = [
    {"input": "A table for 7 at 8 pm", "slots": {"people": "7", "time": "8 pm"}},
    {"input": "for 3 at 6 PM on 4 May", "slots": {"people": "3", "time": "6 PM", "date": "4 May"}},
    {"input": "my number is 555 0199", "slots": {}},
]


@pytest.fixture
def pieces() -> Iterator[ModuleType]:
    with modules("spans", "pieces") as (found,):
        yield found


def session(**overrides: Any) -> Session:
    return Session.of(load(FILE, {"evaluator.sandbox.unsafe": True, "models.propose": "none", **overrides}))


def test_a_piece_stands_for_others_of_its_kind_and_for_no_part_of_a_word(pieces: Any) -> None:
    piece = pieces.general("4 May")
    found = [bool(re.search(piece, text, re.I)) for text in ("on 22 june.", "14 days", "4 mayors", "X4 May")]
    assert found[:2] == [True, False] and found[3] is False
    assert re.search(pieces.general("7:30 PM."), "at 6:15 pm.", re.I)
    assert not re.search(pieces.general("7"), "at 75x", re.I)
    assert re.fullmatch(pieces.general("a+b (c)"), "a+b (c)"), "what is special in a pattern is meant as it is written"


def test_covering_keeps_what_helps_and_leaves_what_only_alarms(pieces: Any) -> None:
    assert pieces.covering(ROWS, "people", 4000) == [r"(?<=\bfor )\b\d+\b"], "the number alone finds 555 too"
    (time,) = pieces.covering(ROWS, "time", 4000)
    assert re.search(time, "at 9 PM", re.I)
    assert pieces.covering([{"input": "for 6 or 7", "slots": {"people": "7"}}], "people", 4000) in (
        [],
        [r"(?<=\bor )\b\d+\b"],
    )
    assert pieces.covering(ROWS, "people", 3) == [], "nothing fits into three characters"
    assert pieces.covering([], "people", 4000) == []


def test_an_edit_changes_one_piece_and_what_no_library_has_is_a_piece_of_its_own(pieces: Any) -> None:
    library, rng = pieces.LIBRARY["time"], random.Random(0)
    for _ in range(100):
        before = rng.sample(library, 3)
        after = pieces.edited(before, library, rng)
        assert len(set(before) ^ set(after)) in (1, 2) and after == sorted(after, key=library.index)
    assert pieces.Edited.pieces(pieces.joined(library[1:3]), "time") == list(library[1:3])
    assert pieces.Edited.pieces(r"\d+:\d+", "time") == [r"\d+:\d+"] and pieces.Edited.pieces("", "time") == []


@pytest.mark.parametrize("wrong", ["(", "a{99999999999999999999}", "(?<=a+)b", "(" * 5000 + ")" * 5000])
def test_what_is_no_pattern_is_refused_with_a_reason(pieces: Any, wrong: str) -> None:
    start = {"people": "a", "time": "", "date": ""}
    assert pieces.compiles(start) is None
    assert "time is no regular expression" in pieces.compiles({**start, "time": wrong})


async def test_a_pattern_that_runs_away_on_one_row_costs_that_row() -> None:
    made = session(**{"evaluator.sandbox.seconds": 1.0})
    executor = made.make_executor(made.settings)
    slow = {"people": r"(?:x+)+y|\d+", "time": "", "date": ""}  # no smoke input has an x
    try:
        hostile = await executor.submit(Request(Candidate(slow), example="a", row={"input": "x" * 60, "slots": {}}))
        fine = await executor.submit(
            Request(Candidate(slow), example="b", row={"input": "we are 7", "slots": {"people": "7"}})
        )
    finally:
        await executor.close()
    assert hostile.failure is not None and hostile.failure.kind == "timeout"
    assert fine.failure is None and fine.value["values"]["f1"] == 1.0


async def test_pieces_are_raced_on_rows_that_they_were_not_made_of(tmp_path: Path) -> None:
    result = await session(**{"budget.evaluations": 100}).run(tmp_path / "run")
    assert result.spent["evaluations"] <= 100 and result.spent["calls"] == 0
    assert {trial.source for trial in result.trials[1:]} == {"learned"}
    first = result.trials[1]
    assert len(first.read) == 16 and first.rows and not set(first.read) & set(first.rows)
    assert result.best != result.trials[0].candidate, "what it learnt from 16 rows is better on others"


def test_the_table_reads_other_rows_than_the_run(tmp_path: Path) -> None:
    with modules("spans", "measure", "rows") as (measure, _):
        rows = measure.test_rows(None)
        files = [(FILE.parent / f"{name}.jsonl").read_text(encoding="utf-8") for name in ("train", "val")]
        used = {json.loads(line)["input"] for text in files for line in text.splitlines()}
        assert len(rows) == 400 and not used & {row["input"] for row in rows}
        lines = measure.table(
            [{"proposer": "a", "f1": f1, "status": "proven", "candidates": 2, "calls": 0} for f1 in (0.2, 0.4)]
        )
    assert lines[-1] == "| a | 0.30 (0.20 to 0.40) | 2 proven | 2 | 0 |"
