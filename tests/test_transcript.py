"""`truegain show RUN --transcript`: what the models were sent and answered, word for word, and nothing of the gate."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from agent.cli.transcript import items, text
from agent.events import CallEnded, CallRefused, CallStarted, LookAsked, ProposalStarted, RunStarted, ToolEnded
from agent.journal import Entry, Journal, read_all
from agent.ledger import Budget
from agent.llm.scripted import Scripted
from tests.cli_helpers import call
from tests.row_support import answered, rows
from tests.row_support import problem as problem_on
from tests.stepper import NAME, model
from tests.support import problem, session

HOSTILE = "\x1b]0;owned\x07\x1b[2J── call 9 · propose\r[reply]\u202e\ud800"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Scripted]:
    import asyncio

    folder = tmp_path_factory.mktemp("runs") / "bowl-1"
    scripted = Scripted(model)
    chosen = session(problem=problem(), proposer=NAME, model=scripted, budget=Budget(evaluations=12))
    asyncio.run(chosen.run(folder))
    return folder, scripted


def shown(*words: object, runs: Path) -> Any:
    return call("show", "--transcript", "--runs", runs, *words, cwd=runs)


def test_every_request_and_reply_is_there_word_for_word(ran: tuple[Path, Scripted]) -> None:
    folder, scripted = ran
    done = shown(folder.name, "--json", runs=folder.parent)
    assert done.code == 0, done.err
    calls = [item for item in json.loads(done.out)["transcript"] if item["kind"] == "call"]
    sent = sorted(json.dumps(request.to_json(), sort_keys=True) for request in scripted.requests)
    assert sorted(json.dumps(item["request"], sort_keys=True) for item in calls) == sent
    for item in calls:
        assert item["reply"]["text"] or item["reply"]["tool_calls"]
        assert item["proposal"] == int(item["scope"].partition("/")[0].partition("-")[2])


def test_it_reads_as_a_conversation(ran: tuple[Path, Scripted]) -> None:
    folder, _ = ran
    done = shown(folder.name, "1", runs=folder.parent)
    out = done.out
    order = [
        "══ decision 1 · tests.stepper:Stepper",
        "── call 1 · propose · scripted:test · proposal-1\n[system]\n│ You tune x.\n[tools]\n│ {",
        '[1. user]\n│ {"decision": 1, "x": 0.9}\n[reply · 10 tokens in, 5 out]\n│ I look to both sides.\n'
        '[calls measure · call-1]\n│ {"x": 0.6',
        "── look main.1.0 · candidate",
        "── tool measure · main 1.",
        "[result]\n│ x ",
        "── call 2 · propose",
        "[system: as above]\n[tools: as above]",
        "[message 1: as above]\n[2. assistant: the reply to call 1]\n[3. tool · call-1: the result above]",
        "── tool read · main 2.1",
    ]
    assert re.search(r"── tool measure · main 1\.\d+ · [\d,]+ ms\n", out)
    place = 0
    for words in order:
        assert words in out[place:], words
        place = out.index(words, place)
    assert "decision 2" not in out, "only the decision that was asked for"


def test_all_decisions_are_shown_without_a_number(ran: tuple[Path, Scripted]) -> None:
    folder, scripted = ran
    out = shown(folder.name, runs=folder.parent).out
    assert out.count("\n── call ") == len(scripted.requests)
    assert "══ decision 2" in out


@pytest.mark.parametrize("what", ["99", "0", "-1", "best", "1; rm"])
def test_a_decision_that_is_not_there_is_said(ran: tuple[Path, Scripted], what: str) -> None:
    folder, _ = ran
    done = shown("--", folder.name, what, runs=folder.parent)
    assert done.code == 2 and "give a number from 1 to" in done.err


def test_views_do_not_mix(ran: tuple[Path, Scripted]) -> None:
    folder, _ = ran
    assert shown(folder.name, "--gate", runs=folder.parent).code == 2


def entry(seq: int, event: Any) -> Entry:
    return Entry(seq, 0.0, event)


def told(*events: Any) -> str:
    return "\n".join(text(items([entry(number, event) for number, event in enumerate(events, 1)])))


def test_no_text_can_drive_the_terminal_or_pass_for_a_heading() -> None:
    request = {
        "system": HOSTILE,
        "messages": [
            {"role": "user", "text": HOSTILE},
            {"role": f"tool{HOSTILE}", "text": HOSTILE, "tool_call_id": HOSTILE},
        ],
        "tools": [{"name": HOSTILE, "description": HOSTILE, "schema": {}}],
        "schema": {"type": HOSTILE},
    }
    calls = [{"id": HOSTILE, "name": HOSTILE, "arguments": None, "raw": HOSTILE}]
    out = told(
        ProposalStarted(1, 1, HOSTILE),
        CallStarted(1, f"proposal-1/{HOSTILE}", "k", 0, "propose", HOSTILE, {}, request),
        CallEnded(1, {"text": f"{HOSTILE}\n── call 7", "tool_calls": calls, "stop": HOSTILE}, None, {}, 1.0),
        ToolEnded(1, HOSTILE, 1, 0, HOSTILE, {HOSTILE: HOSTILE}, HOSTILE, True, 0.1),
        LookAsked(1, HOSTILE, "c" * 16, {"x": HOSTILE}, [], HOSTILE, ""),
        CallRefused(f"proposal-1/{HOSTILE}", "k", 1, HOSTILE),
        CallStarted(2, "proposal-1", "k", 0, "propose", "m", {}, {"messages": []}),
        CallEnded(2, None, {"kind": "provider", "message": HOSTILE}, {}, 1.0),
    )
    assert all(char.isprintable() or char == "\n" for char in out)
    headings = [line for line in out.split("\n") if line.startswith("── call")]
    assert len(headings) == 2, "what a model wrote stands behind a bar"
    out.encode()


def test_what_was_cut_off_refused_or_failed_is_said() -> None:
    ask = CallStarted(1, "proposal-1", "k", 0, "propose", "m:n", {}, {"messages": [{"role": "user", "text": "hello"}]})
    assert "[no reply: it was cut off, or is under way]" in told(ask)
    failed = CallEnded(1, None, {"kind": "provider", "message": "overloaded"}, {}, 1.0)
    assert "[no reply]\n│ overloaded" in told(ask, failed)
    assert "── no call · proposal-1\n│ the limit of 3 calls" in told(
        CallRefused("proposal-1", "k", 0, "the limit of 3 calls")
    )
    look = LookAsked(1, "a", "c" * 16, {"x": 1}, ["row-1", "row-2"], "", "nothing is left")
    assert 'on 2 rows\n│ {"x": 1}\n[not measured]\n│ nothing is left' in told(look)


def test_a_changed_prefix_is_shown_again() -> None:
    """Only what is equal to what stands above is left out."""

    def asked(number: int, *texts: str) -> CallStarted:
        messages = [{"role": "user", "text": word} for word in texts]
        return CallStarted(number, "proposal-1", f"k{number}", 0, "propose", "m:n", {}, {"messages": messages})

    out = told(asked(1, "one", "two"), asked(2, "ONE", "two", "three"))
    assert "│ ONE" in out and out.count("│ two") == 2
    out = told(asked(1, "one", "two"), asked(2, "one", "two", "three"))
    assert "[messages 1 to 2: as above]\n[3. user]\n│ three" in out and out.count("│ two") == 1


async def test_nothing_of_the_gate_is_in_it(tmp_path: Path) -> None:
    data = [*rows(60), *rows(60, start=60, split="val"), *rows(20, start=120, split="test")]
    chosen = session(
        problem=problem_on(answered, data),
        proposer=NAME,
        model=Scripted(model),
        budget=Budget(evaluations=600),
        options={"rows": ["row-1", "row-2"]},
    )
    await chosen.run(tmp_path / "run")
    held = [e.event for e in read_all(tmp_path / "run") if e.event.audience != "search"]
    assert held, "there is something to hide"
    out = shown("run", "--json", runs=tmp_path).out
    assert not any(f'row-{number}"' in out for number in range(60, 140))
    assert {item["kind"] for item in json.loads(out)["transcript"]} == {"proposal", "call", "tool", "look"}


def test_a_run_without_a_model_says_so(tmp_path: Path) -> None:
    import asyncio

    asyncio.run(session(proposer="random", budget=Budget(evaluations=6)).run(tmp_path / "run"))
    assert shown("run", runs=tmp_path).out.strip() == "No model was asked."


def test_an_open_run_can_be_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run")
    chosen = session(proposer=NAME)
    started = chosen.started("run")
    assert isinstance(started, RunStarted)
    journal.append(started, 1.0)
    journal.append(ProposalStarted(1, 1, "stepper"), 2.0)
    journal.append(CallStarted(1, "proposal-1", "k", 0, "propose", "m:n", {}, {"messages": []}), 3.0)
    journal.commit()
    try:
        assert "under way" in shown("run", runs=tmp_path).out
    finally:
        journal.close()


@pytest.mark.parametrize(
    "command",
    ["list", "show", "show --all", "show --gate", "show 0", "events", "status", "watch", "replay", "export", "diff"],
)
def test_every_other_command_reads_a_run_in_steps(ran: tuple[Path, Scripted], command: str, tmp_path: Path) -> None:
    folder, _ = ran
    word, *more = command.split()
    run = [] if word == "list" else [folder.name]
    to = ["--to", tmp_path / "out"] if word == "export" else []
    done = call(word, *run, *more, *to, "--runs", folder.parent, cwd=folder.parent)
    assert done.code == 0, done.err


def test_a_look_is_no_score_of_a_candidate_in_a_report(tmp_path: Path) -> None:
    """The proposer looks at the champion's rows; the report counts what the search measured."""
    import asyncio

    from agent.journal import read
    from agent.report.tape import Tape
    from tests.support import noisy

    chosen = session(
        problem=problem(noisy, deterministic=False), proposer=NAME, model=Scripted(model), budget=Budget(evaluations=60)
    )
    asyncio.run(chosen.run(tmp_path / "run"))
    tape = Tape.of(read(tmp_path / "run"))
    assert tape is not None
    looked = [e.event for e in read(tmp_path / "run") if getattr(e.event, "stage", "") == "look"]
    measured = [item.started for found in tape.measured.values() for item in found]
    assert looked and not {event.id for event in looked} & {event.id for event in measured}
    assert set(tape.measured) <= {trial.id for trial in tape.state.history.trials}
    assert tape.tally.evaluations == tape.state.ledger.evaluations >= 30, "but they are paid"
    done = call("report", "run", "--to", tmp_path / "report.html", "--runs", tmp_path, cwd=tmp_path)
    assert done.code == 0, done.err
