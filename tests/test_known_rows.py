"""What was read stays read: in notes, in other candidates' texts and reasons, wherever a model is shown them."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.events import CandidateAdmitted, RaceDecided
from agent.llm.scripted import Scripted
from agent.llm.types import Completion, ModelRequest, ToolCall, Usage
from agent.measuring import Unit
from agent.problem import Example
from agent.proposers import cards, evidence, opro
from agent.proposers.agentic import _plain_request
from agent.proposers.base import Context
from agent.replay import replay
from agent.texts import Text
from agent.tools.base import Desk
from agent.tools.hypothesis import lines
from agent.tools.python import exported
from agent.tools.submit import Submissions
from tests.row_support import rows, run
from tests.tools.tool_support import Known, ask, context, with_rows

SECRET = re.compile(r"S\d{4}")
TRAIN = 60
READ = 36


def data() -> list[Example]:
    """Rows whose answer stands in them."""
    return [
        Example(
            row.id,
            {"question": row.row["question"], "answer": f"S{number:04d}"},
            split="train" if number < TRAIN else "val",
        )
        for number, row in enumerate(rows(TRAIN + 100))
    ]


def measure(candidate: Any, row: Any) -> float:
    """Right where the prompt has the answer, and on a third of all rows by chance."""
    return float(row["answer"] in candidate["p"] or int(row["answer"][1:]) % 10 < 3)


def cheat(request: ModelRequest, way: str) -> Completion:
    """It learns rows by heart, and hands the answers to its next conversation."""
    said = [message for message in request.messages if message.role == "tool"]
    first = request.messages[0].text

    def calls(*wanted: tuple[str, dict[str, Any]]) -> Completion:
        made = tuple(ToolCall(f"c{len(said)}-{i}", name, given) for i, (name, given) in enumerate(wanted))
        return Completion("", made, stop="tool", usage=Usage(input=10, output=10))

    def submit(text: str) -> Completion:
        return calls(("submit", {"changes": {"p": text}, "rationale": "."}))

    noted = sorted(set(SECRET.findall(first)))
    if way == "notebook" and noted:
        return submit(" ".join(noted))
    if way == "candidate" and "#1" in first:
        return submit("copied " + said[-1].text[-3000:]) if said else calls(("candidate", {"candidate": "#1"}))
    if len(said) < READ:
        return calls(*[("read_row", {"row": f"row-{i}"}) for i in range(len(said), min(READ, len(said) + 16))])
    got = sorted({secret for message in said for secret in SECRET.findall(message.text)})
    if way == "notebook" and len(said) == READ:
        return calls(("hypothesis", {"text": " ".join(got)}))
    return submit("unrelated" if way == "notebook" else " ".join(got))


@pytest.mark.parametrize("way", ["notebook", "candidate"])
def test_what_is_known_by_heart_from_an_earlier_decision_wins_no_race(way: str, tmp_path: Path) -> None:
    def model(request: ModelRequest) -> Completion:
        return cheat(request, way)

    result = run(
        tmp_path / "run",
        measure,
        data(),
        space={"p": Text("nothing")},
        proposer="agentic",
        models={"propose": "scripted:test"},
        model=Scripted(model),
        budget=300,
        options={"off": ["python"], "evaluations": 0, "calls": 100, "tokens": 10**6},
    )
    admitted = [event for event in result.events if isinstance(event, CandidateAdmitted)]
    later = [event for event in admitted if event.proposal > 1 and len(SECRET.findall(event.values["p"])) > 20]
    assert later and all(len(set(event.read)) == READ for event in later)
    races = [event for event in result.events if isinstance(event, RaceDecided)]
    assert races and all(event.decision == "drop" for event in races)


def test_a_replay_counts_the_same_rows(tmp_path: Path) -> None:
    result = run(
        tmp_path / "run",
        measure,
        data(),
        space={"p": Text("nothing")},
        proposer="agentic",
        models={"propose": "scripted:test"},
        model=Scripted(lambda request: cheat(request, "candidate")),
        budget=120,
        options={"off": ["python"], "evaluations": 0, "calls": 100, "tokens": 10**6},
    )
    assert sum(isinstance(event, CandidateAdmitted) for event in result.events) > 1
    assert asyncio.run(replay(tmp_path / "run"))[1] is None


def admit(known: Known, text: str, read: list[str], parents: list[str], score: float | None = 0.5) -> str:
    made = known.problem.space.candidate({"p": text})
    known.history.apply(CandidateAdmitted(1, made.id, made.values_json, "listed", "why", parents, None, read))
    unit = Unit(made.id, 0, -1, "search", None if score is None else {"score": score}, "error: boom", "", 0.0, "r0")
    known.history.measured(unit, True)
    return made.id


def learned() -> tuple[Known, dict[str, str]]:
    """A champion, one that is made of it, one that is not, and one that failed; each has read a row of its own."""
    known = context(with_rows(8, space={"p": Text("nothing")}), rows={f"r{i}": {"n": i} for i in range(8)})
    first = known.history.champion
    made = {"champion": admit(known, "one", ["r1"], [first])}
    known.history.apply(RaceDecided(made["champion"], first, "promote", "better", {}))
    made["child"] = admit(known, "two", ["r2"], [made["champion"]])
    made["other"] = admit(known, "three", ["r3"], [first], 0.4)
    made["failed"] = admit(known, "four", ["r4"], [made["other"]], None)
    return known, made


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("candidate", {"candidate": "champion"}, []),  # races of its own line favour nobody
        ("candidate", {"candidate": "child"}, ["r2"]),
        ("candidate", {"candidate": "failed"}, ["r3", "r4"]),
        ("diff", {"before": "champion", "after": "other"}, ["r3"]),
        ("top", {"n": 3}, ["r2", "r3"]),
        ("recent", {"n": 1}, ["r3", "r4"]),
        ("failures", {}, ["r3", "r4"]),
        ("parameters", {}, []),
    ],
)
async def test_who_is_shown_a_candidate_knows_what_it_was_made_with(
    name: str, given: dict[str, Any], read: list[str]
) -> None:
    known, made = learned()
    await ask(
        name, known, **{key: made.get(item, item) if isinstance(item, str) else item for key, item in given.items()}
    )
    assert known.reads == read


@pytest.mark.parametrize(
    ("show", "read"),
    [
        (lambda known: exported(Desk(known)), ["r2", "r3", "r4"]),
        (lambda known: opro._request(known, opro.Options()), ["r2", "r3", "r4"]),
        (lambda known: opro._request(known, opro.Options(shown=1)), ["r3", "r4"]),  # the failed one is told of
        (lambda known: cards.facts(known, "x", ["p"]), ["r3", "r4"]),
        (lambda known: evidence._memory(known, 1), ["r3", "r4"]),
        (lambda known: evidence._memory(known, 9), ["r2", "r3", "r4"]),
        (lambda known: _plain_request(known, Submissions(known, 1), {}, []), ["r2", "r3", "r4"]),
    ],
)
def test_so_does_every_prompt_that_shows_one(show: Callable[[Context], Any], read: list[str]) -> None:
    known, _ = learned()
    show(known)
    assert sorted(known.reads) == read


async def test_a_hypothesis_knows_the_rows_that_it_and_its_lesson_were_written_with() -> None:
    notebook: dict[str, Any] = {}
    known = context(with_rows(), rows={f"r{i}": i for i in range(6)})

    async def note(name: str, **given: Any) -> None:
        from agent.tools.base import call, load

        assert not (await call(load(name), Desk(known, "1.1.0", {}, notebook), given))[1]

    await note("hypothesis", text="nothing was read yet")
    await known.read("r2")
    await note("hypothesis", text="r2 says so")
    await known.read("r4")
    await note("outcome", hypothesis=1, verdict="refuted", lesson="r4 says so")
    later = Context(known.problem, known.history, random.Random(1))
    assert len(lines(later, notebook)) == 2
    assert sorted(later.reads) == ["r2", "r4"]
    second = Context(known.problem, known.history, random.Random(1))
    lines(second, {"hypotheses": notebook["hypotheses"][1:]})
    assert second.reads == ["r2"]


def quoting() -> Known:
    """A champion whose words quote one row, and a candidate whose failure and fate quote another one."""
    known = context(with_rows(6), rows={f"r{i}": {"question": i} for i in range(6)})
    made = known.problem.space.candidate({**known.problem.space.initial(), "x": 0.9})
    champion = known.history.champion
    known.history.apply(CandidateAdmitted(1, made.id, made.values_json, "listed", "", [champion]))
    for row, score, words in (("r0", 0.1, ""), ("r1", 0.2, ""), ("r2", 0.9, "the answer was SECRET2")):
        known.history.measured(Unit(champion, 0, -1, "search", {"score": score}, "", words, 0.0, row), True)
    failure = "error: ValueError: expected SECRET3, got None"
    known.history.measured(Unit(made.id, 0, -1, "search", None, failure, "", 0.0, "r3"), False)
    known.history.apply(RaceDecided(made.id, champion, "drop", f"failed: {failure}", {}))
    return known


@pytest.mark.parametrize("name", ["candidate", "recent", "failures", "top", "parameters", "rows"])
async def test_words_about_a_row_are_shown_by_no_tool_that_does_not_read_it(name: str) -> None:
    known = quoting()
    text = await ask(name, known, **({"candidate": "#1"} if name == "candidate" else {}))
    assert "SECRET" not in text and not known.reads
    if name in ("candidate", "recent", "failures"):
        assert "error" in text, "the kind is told"


@pytest.mark.parametrize(
    "show",
    [
        lambda known: exported(Desk(known)),
        lambda known: cards.facts(known, "x", ["x"]),
        lambda known: evidence._memory(known, 5),
        lambda known: opro._request(known, opro.Options()),
        lambda known: lines(
            known, {"hypotheses": [{"number": 1, "text": "t", "candidate": known.history.trials[1].id}]}
        ),
    ],
)
def test_nor_by_a_prompt(show: Callable[[Context], Any]) -> None:
    known = quoting()
    assert "SECRET" not in str(show(known)) and not known.reads


async def test_evidence_tells_the_words_of_the_rows_that_it_reads_alone() -> None:
    known = quoting()
    found = await evidence.gathered(known, trace=False, rows=1, attempts=0)
    assert known.reads == ["r0"] and "SECRET" not in str(found)
    whole = await evidence.gathered(quoting(), trace=False, rows=6, attempts=0)
    assert "SECRET2" in str(whole)


def test_where_nothing_is_measured_by_rows_the_words_are_told() -> None:
    known = context(rows=None)
    made = known.problem.space.candidate({**known.problem.space.initial(), "x": 0.9})
    known.history.apply(CandidateAdmitted(1, made.id, made.values_json, "listed", "", []))
    known.history.measured(Unit(made.id, 0, -1, "search", None, "error: no such file"), False)
    assert "no such file" in str(cards.facts(known, "x", ["x"]))
