"""A person at the terminal as judge: two outputs side by side, and one key for the better one.

A person's time is the dearest thing that a run spends. So each answer is on the disk before the run goes on, a pair
that was answered once is never asked again, and the number of answers has a limit.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from agent.code.untrusted import cleaned
from agent.errors import ConfigError, PrerequisiteError, RunLocked, StoreError
from agent.evaluation import Ask
from agent.evaluators.voting import SEARCH, Judged, Occasion
from agent.lines import Lines
from agent.metrics.base import Row, as_text
from agent.space import digest

FILE, HELD_OUT = "labels.jsonl", "held-out.jsonl"
"""Labels of the search, and those of rows that it must learn nothing of: each file has its own count."""
SHOWN = 4000
"""Most characters of an output, or of a field of the row, that a person is shown."""
TRIES, PAUSE = 100, 0.05
"""How often, and after how many seconds each, a file of labels is tried that another process writes just now."""
LEAVING = 1.0
"""Seconds in which a run that is told to stop may end this comparison, before it goes on as undecided."""
ANSWERS = {"a": 1.0, "b": 0.0, "t": 0.5, "tie": 0.5, "=": 0.5}


class Labels:
    """What people said of pairs, in a folder. Processes may share it; it holds hashes of the pairs, and no texts.

    Args:
        folder: Made when the first label comes.
        held_out: Whether they are those of held-out rows.
    """

    def __init__(self, folder: Path, *, held_out: bool = False) -> None:
        self.folder = folder
        self.known: dict[str, dict[str, Any]] = {}
        self._records: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._file = HELD_OUT if held_out else FILE
        self._lines = Lines(folder, self._file)

    @property
    def human(self) -> int:
        """How many of them a person gave."""
        return sum(record.get("human") is not None for record in self.known.values())

    def load(self) -> None:
        """Read what is there.

        Raises:
            StoreError: It cannot be read, or is damaged.
        """
        self._lines = Lines(self.folder, self._file)
        if not self._lines.path.exists() or not self._lines.path.stat().st_size:
            return
        for number, record in enumerate(self._lines.read(), 1):
            if not (isinstance(record, dict) and isinstance(record.get("key"), str)):
                raise self._lines.damaged(number, ValueError("no label"))
            self._take(record)

    async def add(self, record: Mapping[str, Any]) -> None:
        """Keep a record; it is on the disk when this returns.

        Raises:
            StoreError: It cannot be written.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in range(TRIES, -1, -1):
            try:
                self._lines.append([record])
                break
            except (RunLocked, StoreError):
                if not left:
                    raise
                await asyncio.sleep(PAUSE)
                self.load()  # another process wrote before us
        self._take(dict(record))

    @property
    def path(self) -> Path:
        """The file."""
        return self._lines.path

    @property
    def records(self) -> list[dict[str, Any]]:
        """All that was kept, also of pairs that several candidates share."""
        return list(self._records.values())

    def _take(self, record: dict[str, Any]) -> None:
        self.known[record["key"]] = record
        self._records[record["key"], record.get("candidate"), record.get("initial")] = record

    def has(self, key: str, occasion: Occasion) -> bool:
        """Whether the pair is there as one of this candidate beside this initial one."""
        return (key, occasion.candidate, occasion.initial) in self._records


def requirements_mark(requirements: str) -> str:
    """Stands for the requirements in a record."""
    return digest(["requirements", requirements])


def pair_key(requirements: str, row: Row, one: str, two: str) -> str:
    """Names a pair of outputs, whichever of them is the new one."""
    return digest([requirements, row, sorted((one, two))], 32)


def oriented(value: float, new: str, old: str) -> float:
    """A difference for the text that sorts first, as one for `new`; and the other way round."""
    return value if new <= old else -value


class HumanJudge:
    """Asks a person, who sees neither the prompts nor which of the outputs is the new one.

    Which of them is shown as A is drawn from the pair. Pairs beyond the limit are ties, and that is told.

    Args:
        requirements: What makes an output better, as the person reads it.
        labels: Folder in which the answers are kept.
        most: Answers at most in the search, and as many again on held-out rows.
        fields: Fields of the row that are shown; all but the answer by default.
        answer: The row's field with the right answer, which is not shown.
        source: Where answers are typed; standard input.
        screen: Where pairs are shown; standard error.

    Raises:
        ConfigError: The limit is no whole number of at least 1.
    """

    uses: tuple[str, ...] = ()
    at_terminal = True

    def __init__(
        self,
        requirements: str,
        *,
        labels: Path | str,
        most: int,
        fields: Sequence[str] | None = None,
        answer: str = "answer",
        source: TextIO | None = None,
        screen: TextIO | None = None,
    ) -> None:
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise ConfigError(f"human_labels: found {most!r}, allowed is a whole number of at least 1")
        self.requirements, self.most = requirements, most
        self.labels = Labels(Path(labels))
        self.held_out = Labels(Path(labels), held_out=True)
        self._fields, self._answer = fields, answer
        self._source, self._screen = source or sys.stdin, screen or sys.stderr
        self._free = asyncio.Lock()
        self._typed = b""

    @property
    def fingerprint(self) -> str:
        """Changes with what the person is asked."""
        return digest(["human", self.requirements, list(self._fields or ())])

    @property
    def left(self) -> int:
        """Answers that may still be asked for in the search."""
        return max(0, self.most - self.labels.human)

    def place(self, occasion: Occasion) -> Labels:
        """Where a label of it is kept."""
        return self.held_out if occasion.held_out else self.labels

    def known(self, key: str, occasion: Occasion) -> Mapping[str, Any] | None:
        """What is known of a pair. The search knows nothing of held-out rows; these may know of it."""
        found = self.place(occasion).known.get(key)
        return self.labels.known.get(key) if found is None else found

    def guard(self) -> None:
        """Refuse to run where nobody can answer, or where the answers cannot be kept.

        Raises:
            PrerequisiteError: There is no terminal.
            StoreError: The labels cannot be read.
        """
        if not (self._source.isatty() and self._screen.isatty()):
            raise PrerequisiteError(
                "a person is to compare outputs, and this is not a terminal",
                fix='run it at a terminal, without --detach; or take judge = "model"',
            )
        self.labels.load()
        self.held_out.load()

    async def self_test(self, ask: Ask | None = None) -> None:
        """A person is told what A and B mean; there is nothing to test."""

    async def compare(
        self, row: Row, new: str, old: str, ask: Ask | None = None, occasion: Occasion = SEARCH
    ) -> Judged:
        """As `agent.evaluators.voting.Judge`."""
        found = await self.label(row, new, old, occasion)
        if found is None:
            return Judged(0.0, f"nobody compared them: all {self.most} labels of people are used", 1.0, by="nobody")
        return Judged(found, "a person compared them", by="human")

    async def label(self, row: Row, new: str, old: str, occasion: Occasion = SEARCH, **more: Any) -> float | None:
        """The person's preference for `new`, -1, 0 or 1; None when no more may be asked, or nobody answers.

        Args:
            row: What the outputs are for.
            new: One output.
            old: The other.
            occasion: What for.
            more: Is kept with the label.
        """
        key = pair_key(self.requirements, row, new, old)
        async with self._free:  # one question at a time
            known = (self.known(key, occasion) or {}).get("human")
            if known is None:
                labels = self.place(occasion)
                if labels.human >= self.most:
                    return None
                one, two = sorted((new, old))
                known = await self._ask(key, row, one, two, occasion)
                if known is None:  # the person has left: the run is to stop as by Ctrl-C, which the main thread hears
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                    await asyncio.sleep(LEAVING)
                    return None
                await labels.add({**self.record(key, occasion), **more, "human": known})
        return oriented(float(known), new, old)

    def record(self, key: str, occasion: Occasion) -> dict[str, Any]:
        """What every record holds."""
        about = {"candidate": occasion.candidate, "initial": occasion.initial}
        return {"key": key, "requirements": requirements_mark(self.requirements), **about}

    async def _ask(self, key: str, row: Row, one: str, two: str, occasion: Occasion = SEARCH) -> float | None:
        """The difference for `one`; None at the end of input."""
        swapped = random.Random(key).random() < 0.5
        self._show(row, *((two, one) if swapped else (one, two)), occasion)
        while True:
            self._say("Which is better: a, b, or t for a tie? ")
            line = await self._line()
            if line is None:
                return None
            if (said := line.strip().lower()) in ANSWERS:
                value = 2 * ANSWERS[said] - 1
                return -value if swapped else value
            self._say(f"{cleaned(line.strip(), 100)!r} is none of a, b, t. Ctrl-D stops the run.\n")

    def _say(self, text: str) -> None:
        self._screen.write(text)
        self._screen.flush()

    def _show(self, row: Row, a: str, b: str, occasion: Occasion) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = Console(file=self._screen, highlight=False)
        which = " on held-out rows" if occasion.held_out else ""
        console.rule(f"label {self.place(occasion).human + 1} of at most {self.most}{which}")
        console.print(Text(f"Better is: {cleaned(self.requirements, SHOWN)}"))
        fields = row if isinstance(row, Mapping) else {"row": row}
        shown = [name for name in fields if name not in ("id", self._answer)] if self._fields is None else self._fields
        for name in shown:
            console.print(Text(f"{cleaned(str(name), 100)}: {cleaned(as_text(fields.get(name)), SHOWN)}"))
        table = Table(expand=True, show_lines=True)
        table.add_column("A", ratio=1, overflow="fold")
        table.add_column("B", ratio=1, overflow="fold")
        table.add_row(*(Text(cleaned(text, SHOWN) if text.strip() else "(empty)") for text in (a, b)))
        console.print(table)

    async def _line(self) -> str | None:
        """The next line that is typed, without holding up the run; None at the end of input."""
        loop, place = asyncio.get_running_loop(), self._source.fileno()
        while b"\n" not in self._typed:
            ready: asyncio.Future[bytes] = loop.create_future()

            def read(ready: asyncio.Future[bytes] = ready) -> None:
                loop.remove_reader(place)
                try:
                    data = os.read(place, 4096)
                except OSError:  # the terminal is gone
                    data = b""
                if not ready.done():
                    ready.set_result(data)

            loop.add_reader(place, read)
            try:
                data = await ready
            finally:
                loop.remove_reader(place)
            if not data:
                return None
            self._typed += data
        line, _, self._typed = self._typed.partition(b"\n")
        return line.decode("utf-8", "replace")
