"""A person at a real terminal: what is shown, what is kept, and what is never asked twice."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError, PrerequisiteError, StoreError
from agent.evaluators.human import FILE, HumanJudge, Labels, pair_key
from agent.evaluators.voting import Judged, Occasion
from tests.cli_helpers import command, environment

PATIENCE = 60.0
HIDDEN = Occasion("new", "old", held_out=True)
ROW = {"id": "q1", "question": "How far is Ulm from Bonn?", "answer": "secret"}


class Person:
    """Sits at the other end of a terminal, and answers each question by what is shown."""

    def __init__(self, likes: str, *instead: str) -> None:
        self.likes, self.instead = likes, list(instead)
        self.here, there = pty.openpty()
        os.set_blocking(self.here, False)
        self.source, self.screen = os.fdopen(there, "r"), os.fdopen(os.dup(there), "w")
        self.seen = ""
        self.rest = ""
        self.asked = 0
        self.open = True
        self._thread = threading.Thread(target=self._sit, daemon=True)
        self._thread.start()

    def _sit(self) -> None:
        until, part = time.monotonic() + PATIENCE, ""
        while self.open and time.monotonic() < until:
            if not select.select([self.here], [], [], 0.05)[0]:
                continue
            try:
                self.rest = part = part + os.read(self.here, 65536).decode("utf-8", "replace")
            except OSError:
                return
            if "for a tie?" in part:
                self.asked += 1
                self.seen += part
                os.write(self.here, self._answer(part).encode())
                part = ""

    def _answer(self, shown: str) -> str:
        if self.instead:
            return self.instead.pop(0)
        cells = [line.split("│") for line in shown.replace("┃", "│").splitlines() if "│" in line]
        a = any(len(cell) > 2 and self.likes in cell[1] for cell in cells)
        b = any(len(cell) > 2 and self.likes in cell[2] for cell in cells)
        return "t\n" if a == b else "a\n" if a else "b\n"

    def close(self) -> None:
        self.open = False
        self._thread.join(PATIENCE)
        if self.here < 0:
            return
        for item in (self.source, self.screen):
            item.close()
        os.close(self.here)
        self.here = -1


@pytest.fixture
def sit() -> Iterator[Any]:
    people: list[Person] = []

    def make(likes: str = "km", *instead: str) -> Person:
        people.append(Person(likes, *instead))
        return people[-1]

    yield make
    for person in people:
        person.close()


def judge(person: Person, folder: Path, most: int = 20, **options: Any) -> HumanJudge:
    made = HumanJudge(
        "Distances have a unit.", labels=folder, most=most, source=person.source, screen=person.screen, **options
    )
    made.guard()
    return made


def compare(made: HumanJudge, new: str, old: str, row: Any = None) -> Judged:
    return asyncio.run(asyncio.wait_for(made.compare(row or ROW, new, old), PATIENCE))


def test_a_person_sees_two_outputs_side_by_side_and_says_which_is_better(sit: Any, tmp_path: Path) -> None:
    person = sit("km")
    made = judge(person, tmp_path / "labels")
    assert compare(made, "12 km", "12").difference == 1
    assert compare(made, "13", "13 km").difference == -1
    tie = compare(made, "14 km", "15 km")
    assert tie.difference == 0 and tie.by == "human"
    assert "Distances have a unit." in person.seen and "How far is Ulm" in person.seen
    assert "label 3 of at most 20" in person.seen and "secret" not in person.seen


def test_which_output_is_a_does_not_follow_which_is_new(sit: Any, tmp_path: Path) -> None:
    person = sit("km", *["a\n"] * 60)
    made = judge(person, tmp_path, most=60)
    found = [compare(made, f"{number} km", str(number)).difference for number in range(60)]
    assert set(found) == {1, -1} and 15 < found.count(1) < 45


def test_an_answer_is_on_the_disk_and_never_asked_for_again(sit: Any, tmp_path: Path) -> None:
    person = sit()
    assert compare(judge(person, tmp_path / "labels"), "12 km", "12").difference == 1
    place = tmp_path / "labels" / FILE
    assert stat.S_IMODE(place.stat().st_mode) == 0o600 and b"12 km" not in place.read_bytes()
    again = judge(person, tmp_path / "labels")
    assert compare(again, "12 km", "12").difference == 1 and compare(again, "12", "12 km").difference == -1
    assert person.asked == 1 and again.left == 19


def test_beyond_the_limit_nobody_is_asked_and_that_is_told(sit: Any, tmp_path: Path) -> None:
    person = sit()
    made = judge(person, tmp_path, most=1)
    compare(made, "12 km", "12")
    found = compare(made, "13 km", "13")
    assert (found.difference, found.by, found.unreadable) == (0, "nobody", 1) and person.asked == 1
    assert "all 1 labels of people are used" in found.words
    assert judge(person, tmp_path, most=1).left == 0, "a new process has a new budget"


def test_another_word_is_asked_about_once_more(sit: Any, tmp_path: Path) -> None:
    person = sit("km", "maybe\n", "\n", "TIE\n")
    assert compare(judge(person, tmp_path), "12 km", "12").difference == 0
    assert person.asked == 3 and "'maybe' is none of a, b, t" in person.seen


def test_several_pairs_at_once_are_asked_one_after_the_other(sit: Any, tmp_path: Path) -> None:
    person = sit()
    made = judge(person, tmp_path)

    async def together() -> list[Judged]:
        pairs = [(f"{number} km", str(number)) for number in range(5)] + [("0 km", "0")]
        return list(await asyncio.gather(*(made.compare(ROW, *pair) for pair in pairs)))

    found = asyncio.run(asyncio.wait_for(together(), PATIENCE))
    assert [item.difference for item in found] == [1] * 6 and person.asked == 5


def test_who_leaves_stops_the_run_and_decides_nothing(sit: Any, tmp_path: Path) -> None:
    person, stopped = sit("km", "\x04"), []
    before = signal.signal(signal.SIGINT, lambda *_: stopped.append(True))
    try:
        found = compare(judge(person, tmp_path), "12 km", "12")
    finally:
        signal.signal(signal.SIGINT, before)
    assert stopped and (found.difference, found.by) == (0, "nobody") and not (tmp_path / FILE).exists()


LEAVES = """
from agent import Categorical, optimize

def answer(candidate, row):
    return str(row["number"]) + {"bare": "", "unit": " km"}[candidate["style"]]

rows = [{"question": f"How far is {name}?", "number": 100 + 7 * n} for n, name in enumerate("abcdefghij")]
optimize(answer, space={"style": Categorical(["bare", "unit"])}, data=rows, metric="preference",
    metric_options={"requirements": "Distances have a unit.", "judge": "human", "human_labels": 6},
    options={"proposer": "random"}, budget=60)
print("it went on")
"""


def test_who_leaves_a_python_program_stops_it(sit: Any, tmp_path: Path) -> None:
    person = sit("km", "a\n", "b\n", "\x04")
    (tmp_path / "leaves.py").write_text(LEAVES)
    done = subprocess.run(
        [sys.executable, "leaves.py"],
        stdin=person.source,
        stderr=person.screen,
        stdout=subprocess.PIPE,
        env=environment(TERM="xterm", COLUMNS="80", PYTHONPATH=str(Path(__file__).parents[2])),
        cwd=tmp_path,
        timeout=2 * PATIENCE,
        text=True,
    )
    person.close()
    assert done.returncode == -signal.SIGINT and "it went on" not in done.stdout, person.seen + person.rest
    assert person.asked == 3 and "KeyboardInterrupt" in person.rest and "RuntimeError" not in person.rest


def test_held_out_rows_have_labels_of_their_own(sit: Any, tmp_path: Path) -> None:
    person = sit("km")
    made = judge(person, tmp_path, most=1)
    compare(made, "12 km", "12")
    found = asyncio.run(asyncio.wait_for(made.compare(ROW, "13 km", "13", None, HIDDEN), PATIENCE))
    assert found.by == "human" and made.held_out.human == made.labels.human == 1
    assert "label 1 of at most 1 on held-out rows" in person.seen
    assert asyncio.run(made.compare(ROW, "14 km", "14", None, HIDDEN)).by == "nobody"
    again = judge(person, tmp_path, most=1)
    assert asyncio.run(again.compare(ROW, "13 km", "13", None, HIDDEN)).by == "human" and person.asked == 2


def test_what_an_output_holds_cannot_move_the_cursor(sit: Any, tmp_path: Path) -> None:
    person = sit("km")
    hostile = "12 \x1b[2J\x1b]0;title\x07 [bold]km[/bold] ‮" + "long " * 5000
    compare(judge(person, tmp_path), hostile, "12", {"question\x1b[H": "a\x1b[31mb"})
    assert "\x1b[2J" not in person.seen and "\x1b]0" not in person.seen and "\x1b[31m" not in person.seen
    assert "[bold]km[/bold]" in person.seen and "characters left out" in re.sub(r"[\s│]+", " ", person.seen)


def test_off_a_terminal_it_refuses_before_anything_is_spent(tmp_path: Path) -> None:
    with open(os.devnull) as nothing, open(os.devnull, "w") as nowhere:
        made = HumanJudge("better", labels=tmp_path, most=3, source=nothing, screen=nowhere)
        with pytest.raises(PrerequisiteError, match="not a terminal") as caught:
            made.guard()
    assert "judge" in caught.value.fix


@pytest.mark.parametrize("most", [0, -1, True, 2.5])
def test_a_limit_is_a_whole_number(most: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="human_labels"):
        HumanJudge("better", labels=tmp_path, most=most)


# The labels themselves.


def test_a_line_that_was_cut_off_is_no_label(tmp_path: Path) -> None:
    asyncio.run(Labels(tmp_path).add({"key": "one", "human": 1.0}))
    with open(tmp_path / FILE, "a") as file:
        file.write('{"human":1.0,"key":"tw')
    again = Labels(tmp_path)
    again.load()
    assert set(again.known) == {"one"}
    asyncio.run(again.add({"key": "three", "human": 0.0}))
    again.load()
    assert set(again.known) == {"one", "three"} and again.human == 2


@pytest.mark.parametrize("line", ["nonsense\n", "[1]\n", "{}\n"])
def test_a_damaged_file_is_refused(tmp_path: Path, line: str, sit: Any) -> None:
    (tmp_path / FILE).write_text(line)
    with pytest.raises(StoreError, match="damaged"):
        judge(sit(), tmp_path)


def write(folder: Path, name: str) -> None:
    labels = Labels(folder)

    async def several() -> None:
        for number in range(20):
            await labels.add({"key": f"{name}{number}", "human": 1.0})

    asyncio.run(several())


def test_two_processes_write_one_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write, args=(tmp_path, name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    assert [process.exitcode for process in processes] == [0, 0]
    labels = Labels(tmp_path)
    labels.load()
    assert len(labels.known) == 40
    assert len((tmp_path / FILE).read_text().splitlines()) == 40 == len({json.dumps(r) for r in labels.known.values()})


def test_labels_that_cannot_be_kept_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agent.lines.os.fsync", full)
    monkeypatch.setattr("agent.evaluators.human.PAUSE", 0.0)
    with pytest.raises(StoreError, match="No space left"):
        asyncio.run(Labels(tmp_path).add({"key": "one", "human": 1.0}))


def test_a_pair_has_one_name_whichever_is_new() -> None:
    assert pair_key("r", ROW, "a", "b") == pair_key("r", ROW, "b", "a")
    assert len({pair_key("r", ROW, "a", "b"), pair_key("s", ROW, "a", "b"), pair_key("r", {}, "a", "b")}) == 3


# A whole run.

PROBLEM = """
[evaluator]
function = "task:answer"
metric = "preference"
metric_options = { requirements = "Distances have a unit.", judge = "human", human_labels = 6 }

[space.style]
type = "categorical"
choices = ["bare", "unit"]

[data]
file = "rows.jsonl"

[proposer]
name = "random"

[budget]
evaluations = 60
"""
TASK = """
def answer(candidate, row):
    return str(row["number"]) + {"bare": "", "unit": " km"}[candidate["style"]]
"""


def test_a_person_judges_a_run_and_a_live_display_stands_still(sit: Any, tmp_path: Path) -> None:
    (tmp_path / "problem.toml").write_text(PROBLEM)
    (tmp_path / "task.py").write_text(TASK)
    questions = [{"question": f"How far is {name}?", "number": 100 + 7 * n} for n, name in enumerate("abcdefghij")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    person = sit("km")
    there = {"TERM": "xterm", "COLUMNS": "80", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command("run", tmp_path, "--json"),
        stdin=person.source,
        stderr=person.screen,
        stdout=subprocess.PIPE,
        env=environment(**there),
        cwd=tmp_path,
        timeout=2 * PATIENCE,
        text=True,
    )
    assert done.returncode == 0, person.seen
    result = json.loads(done.stdout)
    labels, hidden = (Labels(tmp_path / "human-labels", held_out=held_out) for held_out in (False, True))
    labels.load()
    hidden.load()
    assert labels.human + hidden.human == person.asked and 0 < labels.human <= 6 and hidden.human <= 6
    assert {record["human"] for record in labels.known.values()} <= {1, -1}
    assert len({record["candidate"] for record in labels.known.values()}) == 1
    assert result["best"] == {"style": "unit"} and result["status"] == "unproven"
