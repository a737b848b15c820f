"""A run that is cut off in an exam, with everything marked that must stay behind the wall."""

from __future__ import annotations

import asyncio
import inspect
import json
import random
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import wall
from agent.cli.run import session_of
from agent.config import load
from agent.evaluation import Output, Request
from agent.evaluators.source import ProblemFolder
from agent.events import EvaluationEnded, ReportReached, StopRequested, VerdictReached
from agent.journal import read_all
from agent.loop import Run
from agent.proposers.base import Context
from tests.support import Direct

MARK = "BEHINDTHEWALL"
"""In ids, contents and answers of held-out rows, and so in all that is said about them."""
NAME = "wall-run"

TOML = """
[evaluator]
function = "evaluate:measure"
deterministic = true

[space.kind]
type = "categorical"
choices = ["a", "b", "c"]

[[objectives]]
name = "accuracy"
direction = "maximize"
low = 0
high = 1

[data]
train = "train.jsonl"
val = "val.jsonl"
test = "test.jsonl"
answer = "answer"

[gate]
interim = true

[budget]
evaluations = 4000

[proposer]
name = "tests.row_support:Steps"
options = { candidates = [{ kind = "b" }, { kind = "c" }] }
"""

TEXTS = """
[space.prompt]
type = "text"
default = "Read the question slowly.\\nAnswer step by step. The weather is nice.\\nCheck the units of every number."

[space.shots]
type = "demos"
k = 2
pool = [{ question = "one of the user's own", answer = "first" }, { question = "another one", answer = "second" }]

[space.program]
type = "code"
default = "def read(text):\\n    return text.strip()\\n"
"""
"""What a problem has beside, for proposers that change texts and programs."""

STEPS = {
    "b": r'''prompt = "Answer.\nCheck the units.", shots = [1], program = "def read(text):\n    return text\n"''',
    "c": r'''prompt = "Reverse it. Go slowly.", shots = [], program = "def read(text):\n    return text[:]\n"''',
}
"""What the candidates of such a problem have beside."""

EVALUATE = """
from agent import note, op

SKILL = {"a": 0.2, "b": 0.65, "c": 0.97}

@op
def answer(question, kind):
    note(f"asked {question}")
    return question[::-1]

def measure(candidate, row):
    answer(row["question"], candidate["kind"])
    right = row["easy"] < SKILL[candidate["kind"]]
    # No other row has this score, so that it can be told where it turns up.
    return (0.98 if right else 0.01) + row["number"] * 1.0000007e-5, f"{row['question']}: it was {row['answer']}"
"""


def write_problem(folder: Path, texts: bool = False) -> Path:
    """A problem whose val and test rows are marked; with texts, its candidates are prompts too."""
    folder.mkdir(parents=True)
    toml = TOML + TEXTS if texts else TOML
    if texts:
        for kind, values in STEPS.items():
            toml = toml.replace(f'{{ kind = "{kind}" }}', f'{{ kind = "{kind}", {values} }}')
    (folder / "problem.toml").write_text(toml)
    (folder / "evaluate.py").write_text(EVALUATE)
    number = 0
    for split, count in (("train", 60), ("val", 60), ("test", 30)):
        lines = []
        for _ in range(count):
            number += 1
            rng = random.Random(number)
            mark = "" if split == "train" else f"{MARK}-{split}-{number} "
            words = " ".join(f"{rng.getrandbits(40):x}" for _ in range(8))
            row = {"id": f"{mark.strip()}row{number}", "question": f"{mark}{words}", "answer": f"{mark}{words[::-1]}"}
            lines.append(json.dumps({**row, "number": number, "easy": rng.random()}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


class Stopping(Direct):
    """An executor that stops answering in an exam or in the report; what lay on the disk then is kept.

    Args:
        polite: It does not stop, and interrupts the run as Ctrl-C would.
    """

    def __init__(self, inner: Any, folder: Path, where: str, polite: bool = False) -> None:
        super().__init__(inner)
        self.folder, self.where, self.polite = folder, where, polite
        self.reached = asyncio.Event()
        self.run: Run
        self.count = 0
        self.live: dict[str, bytes] = {}

    async def submit(self, request: Request) -> Output:
        gate = self.run.state.gate
        phase = "report" if request.purpose == "report" else "last" if gate.exams else "interim"
        self.count += request.purpose != "search" and phase == self.where
        if self.count == 10 and self.polite:
            self.run.record(StopRequested("interrupted"))
        elif self.count == 10:
            await self.run.flush()
            self.live = {file.name: file.read_bytes() for file in self.folder.iterdir() if file.is_file()}
            self.reached.set()
            await asyncio.Event().wait()
        return await super().submit(request)


class Watching:
    """A proposer that remembers what the one inside was given."""

    def __init__(self, inner: Any, seen: list[Context]) -> None:
        self.inner, self.seen, self.name, self.needs_model = inner, seen, inner.name, inner.needs_model

    async def propose(self, context: Context, n: int) -> Any:
        self.seen.append(context)
        return await self.inner.propose(context, n)


@dataclass
class World:
    """An open run with gate rows that were measured.

    Args:
        home: Holds the problem's folder and the folder of runs.
        live: The run's files while it was written, with what was not yet folded back.
        contexts: All that its proposer was given.
    """

    home: Path
    live: Mapping[str, bytes]
    contexts: list[Context] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.home / "runs" / NAME

    @property
    def problem(self) -> Path:
        return self.home / "problem"

    def copy(self, home: Path) -> World:
        """The same, to change something in."""
        shutil.copytree(self.home, home)
        text = str(self.problem), str(home / "problem")
        assert text[0] != text[1]
        return World(home, self.live, self.contexts)


def forget() -> None:
    """Let go of the module of an earlier problem's evaluator: each world has one of the same name."""
    sys.modules.pop("evaluate", None)
    sys.path[:] = [place for place in sys.path if not isinstance(place, ProblemFolder)]


async def cut_off(home: Path, where: str, texts: bool = False) -> World:
    """Begin a run and cut it off at the tenth measurement of an exam ("interim", "last") or of the "report"."""
    problem, folder = write_problem(home / "problem", texts), home / "runs" / NAME
    chosen = session_of(load(problem, {}))
    stopping = Stopping(chosen.problem, folder, where)
    chosen.executor = stopping
    seen: list[Context] = []

    def hold(run: Run) -> None:
        stopping.run = run
        run.proposer = Watching(run.proposer, seen)  # type: ignore[assignment]

    forget()
    task = asyncio.create_task(chosen.run(folder, hold))
    reached = asyncio.create_task(stopping.reached.wait())
    await asyncio.wait({task, reached}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
    assert reached.done(), f"the run never came to its {where} rows: {task}"
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert not wall.ended(folder)
    return World(home, stopping.live, seen)


# What must not be seen.


@dataclass(frozen=True)
class Secrets:
    """Words and numbers that are known behind the wall only.

    Args:
        words: Any text that holds one of them leaks.
        numbers: Scores and what verdicts say, as numbers.
    """

    words: tuple[str, ...]
    numbers: frozenset[float]

    @classmethod
    def of(cls, folder: Path, rows_only: bool = False) -> Secrets:
        """What this run's gate has measured; of single rows only, when the run has ended and its verdicts may be told.

        Levels are no secret: they follow from the bits of earlier exams, which were told.
        """
        held: set[float] = set()
        told: set[float] = set()
        words = {MARK}
        for entry in read_all(folder):
            event, found = entry.event, set(_numbers(json.loads(entry.event.body())))
            of_row = isinstance(event, EvaluationEnded) and event.purpose != "search"
            summary = isinstance(event, (VerdictReached, ReportReached))  # whatever audience they are for
            if of_row or (summary and not rows_only):
                held |= found
            elif not summary:
                told |= found
            if isinstance(event, VerdictReached) and not rows_only:
                words.add(event.verdict["sentence"])
        telling = {number for number in held - told if len(repr(number)) > 7}
        assert telling, "nothing is hidden, so that nothing would be tested"
        return cls(tuple(words), frozenset(telling))

    def inside(self, text: str) -> list[str]:
        """What of it is in a text."""
        found = [word for word in self.words if word in text]
        return found + [repr(number) for number in self.numbers if repr(number) in text]


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if name not in ("seconds", "time"):
                yield from _numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item)


def reachable(root: object) -> Iterator[tuple[str, object]]:
    """Everything that attributes, properties and members lead to, with the way there.

    Functions are walls of their own: a model call and a row that is read go through the run, which writes the gate's
    rows. What they return is looked at where they are called.
    """
    known: set[int] = set()
    kept: list[object] = []
    waiting: list[tuple[str, object]] = [("context", root)]
    while waiting:
        way, item = waiting.pop()
        if id(item) in known or isinstance(item, type) or inspect.isroutine(item) or inspect.ismodule(item):
            continue
        known.add(id(item))
        kept.append(item)  # so that its number is not given to another
        yield way, item
        if isinstance(item, (str, bytes, int, float, complex, random.Random)) or item is None:
            continue
        if isinstance(item, Mapping):
            waiting += [(f"{way}[{key!r}]", part) for key, value in item.items() for part in (key, value)]
        elif isinstance(item, (Sequence, Set)) or type(item).__name__ in ("deque", "WeakSet"):
            waiting += [(f"{way}[{place}]", part) for place, part in enumerate(item)]  # type: ignore[arg-type]
        for name in _attributes(item):
            with suppress(Exception):
                waiting.append((f"{way}.{name}", getattr(item, name)))


def _attributes(item: object) -> set[str]:
    names = set(getattr(item, "__dict__", ()))
    for kind in type(item).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names.update((slots,) if isinstance(slots, str) else slots)
        names.update(name for name, value in vars(kind).items() if isinstance(value, property))
    return {name for name in names if not name.startswith("__")}


def seen_by(context: object, secrets: Secrets) -> list[str]:
    """What of the secrets can be reached from what a proposer is given."""
    found = []
    for way, item in reachable(context):
        if isinstance(item, bytes):
            item = item.decode("utf-8", "replace")
        if isinstance(item, str) and secrets.inside(item):
            found.append(f"{way}: {item[:80]!r}")
        elif isinstance(item, float) and item in secrets.numbers:
            found.append(f"{way}: {item!r}")
    return found
