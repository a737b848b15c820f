"""What a person may say to a run, and what is refused; no terminal is needed for that."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent.dialogue.beside import Beside, refuse_at_terminal
from agent.dialogue.terminal import TooLong
from agent.dialogue.why import why
from agent.errors import ConfigError
from agent.evaluation import Output, Score
from agent.evaluators.function import FunctionEvaluator
from agent.events import BudgetChanged, Event, ExamDecided, HintGiven, PairJudged, ValueBanned, ValuePinned
from agent.events.person import EVENTS
from agent.goals import Objective
from agent.journal import GATE, read, read_all
from agent.ledger import Budget
from agent.llm.scripted import Scripted
from agent.llm.types import Completion, ToolCall
from agent.parameters import Float
from agent.problem import Example, Problem
from agent.replay import replay
from agent.results.result import Result
from agent.session import Session
from agent.settings import Settings
from agent.space import Space
from tests.support import Direct, session


class Script:
    """A terminal whose person types a line each time something was said that they waited for.

    Args:
        lines: Text that must have been said (or "" for at once), and the line that is typed then.
    """

    typed = True
    styled = False

    def __init__(self, *lines: tuple[str, str | Exception]) -> None:
        self.lines = list(lines)
        self.text = ""
        self.reader = self
        self.toolbar: Callable[[], str] = str
        self.interrupted: Callable[[], None] = lambda: None

    def say(self, text: str, style: str = "") -> None:
        self.text += text + "\n"

    async def line(self) -> str:
        if not self.lines:
            await asyncio.Event().wait()
        wanted, line = self.lines.pop(0)
        while wanted not in self.text:
            await asyncio.sleep(0.001)
        if isinstance(line, Exception):
            raise line
        return line


async def talked(folder: Path, script: Script, chosen: Session) -> Result:
    """A run with the script's person beside it."""
    beside = Beside(script)  # type: ignore[arg-type]
    chosen.observers = (*chosen.observers, beside)
    try:
        return await chosen.run(folder, beside.hold)
    finally:
        await beside.close()


def slow(**given: Any) -> Session:
    """A run that leaves time to type."""
    given.setdefault("budget", Budget(evaluations=12))
    made = session(proposer="random", workers=1, **given)
    made.executor.pause = 0.01  # type: ignore[union-attr]
    return made


def own(folder: Path) -> list[Event]:
    return [entry.event for entry in read(folder) if isinstance(entry.event, EVENTS)]


BAD = (
    ("/nonsense", "there is no command /nonsense"),
    ("/\x1b[31mred\x07", "there is no command /red"),
    ("/why", "which candidate?"),
    ("/pin", "which parameter?"),
    ("/quit now please", "/quit takes nothing behind it"),
    ("Pause", "did you mean /pause?"),
    ("quit", "did you mean /quit?"),
    ("/why 999", "there is no candidate 999"),
    ("/why #", "there is no candidate"),
    ("/pin zz=1", "there is no parameter zz"),
    ("/pin x=7", "outside -1"),
    ("/pin x=nan", "finite"),
    ("/pin n=2.5", "not a number"),
    ("/pin kind=d", "is not one of a, b, c"),
    ("/ban x", "a ban needs a value"),
    ("/ban x=-1..1", "nothing would be left of x"),
    ("/ban x=0.5..0.1", "is above"),
    ("/free n", "neither pinned nor banned"),
    ("/budget evaluations=2", "less than what is spent"),
    ("/budget evaluations=lots", "allowed is a whole number"),
    ("/budget evaluations=20.5", "allowed is a whole number"),
    ("/budget evaluations=none", "nothing would end the search"),
    ("/budget wishes=3", "there is no limit wishes"),
    ("/budget usd=inf", "allowed is a number"),
    ("/resume", "the run is not paused"),
    ("/judge 0 0", "there is no second candidate"),
    ("/judge 0 1 2", "two candidates are compared"),
    ("w" * 2001, "guidance of 2001 characters is too long"),
)


async def test_what_is_wrong_is_said_and_changes_nothing(tmp_path: Path) -> None:
    script = Script(("= #1", "/Pause"), ("paused:", BAD[0][0]))
    for (_, before), (line, _) in pairwise(BAD):
        script.lines.append((before, line))
    script.lines += [(BAD[-1][1], TooLong("a line of 9000 bytes was thrown away")), ("9000 bytes", "/resume")]
    result = await talked(tmp_path / "run", script, slow())
    assert result.status in ("exact", "initial") and own(tmp_path / "run") == []
    assert "\x1b" not in script.text and "\x07" not in script.text


async def test_pins_bans_and_limits_are_recorded_and_replay(tmp_path: Path) -> None:
    script = Script(
        ("= #0", "  try small x\x1b[2J\x00 "),
        ("noted", "/pin n=4"),
        ("n stays 4", "/ban n=3"),
        ("n is pinned", "/ban x=0..1"),
        ("never x", "/pin x=0.5"),
        ("0.5 is banned", "/pin kind=a"),
        ("kind stays", "/pin x=-0.5"),
        ("nothing would be left", "/free kind"),
        ("kind is free again", "/budget evaluations=20 seconds=600"),
        ("limits: evaluations 20", "/budget seconds=none"),
        ("limits: evaluations 20\n", "/status"),
        ("banned: x from 0 to 1", "/best"),
        ("champion #", "/help"),
        ("/judge [A B]", "/judge"),
        ("no texts for the same row", "/why 1"),
    )
    result = await talked(tmp_path / "run", script, slow())
    assert not script.lines, script.text
    assert own(tmp_path / "run") == [
        HintGiven("try small x��") if "��" in script.text else HintGiven("try small x�"),
        ValuePinned("n", 4),
        ValueBanned("x", {"low": 0.0, "high": 1.0}),
        ValuePinned("kind", "a"),
        ValuePinned("kind", None),
        BudgetChanged({"evaluations": 20, "seconds": 600.0}),
        BudgetChanged({"evaluations": 20}),
    ]
    assert result.spent["evaluations"] == 20 and "#1" in script.text
    assert (await replay(tmp_path / "run"))[1] is None
    assert (await replay(tmp_path / "run", workers=4))[1] is None


async def test_finish_ends_the_search_and_holds_the_exam(tmp_path: Path) -> None:
    script = Script(("✓ kept", "/pause"), ("paused:", "/finish"))
    result = await talked(tmp_path / "run", script, slow(problem=_noisy(), budget=Budget(evaluations=200)))
    assert result.reason == "finished" and result.exit_code == 0 and result.verdict is not None
    assert result.spent["evaluations"] < 150 and "the search ends: you ended it" in script.text
    assert [e for e in read_all(tmp_path / "run") if isinstance(e.event, ExamDecided)]
    assert (await replay(tmp_path / "run"))[1] is None


async def test_quit_says_that_it_is_saved(tmp_path: Path) -> None:
    script = Script(("= #1", "/quit"))
    result = await talked(tmp_path / "run", script, slow())
    assert result.status == "open" and "\n  » saved; truegain session --resume goes on\n" in script.text
    assert "the search ends" not in script.text


async def test_a_hint_that_no_model_reads_is_told_so(tmp_path: Path) -> None:
    script = Script(("initial candidate", "stay low"), ("stay low", "/pause"), ("paused:", "/resume"))
    result = await talked(tmp_path / "run", script, slow(models={}))
    assert "  » noted, but this run has no model that would read it: stay low\n" in script.text
    assert "\n  » paused: " in script.text and "\n  » goes on\n" in script.text
    said = why(tmp_path / "run", "initial")
    assert any(line.startswith("measured: ") for line in said), "there are no rows that it could be the train rows of"
    assert result.status != "open"


async def test_why_of_a_champion_that_was_replaced(tmp_path: Path) -> None:
    result = await talked(tmp_path / "run", Script(), slow(budget=Budget(evaluations=40)))
    kept = [
        entry.event.candidate for entry in read(tmp_path / "run") if getattr(entry.event, "decision", "") == "promote"
    ]
    assert len(kept) >= 2
    numbers = [next(trial.number for trial in result.trials if trial.id == name) for name in kept]
    assert f"the search began here; #{numbers[0]} replaced it" in why(tmp_path / "run", "initial")[0]
    assert f"kept, and later replaced by #{numbers[1]}" in why(tmp_path / "run", str(numbers[0]))[0]
    assert "the search builds on it" in why(tmp_path / "run", str(numbers[-1]))[0]


async def test_each_measurement_is_said_once_and_tools_in_words(tmp_path: Path) -> None:
    script = Script()
    await talked(tmp_path / "run", script, _agent([], ()))
    lines = script.text.splitlines()
    assert len([line for line in lines if "#0" in line and "initial" in line]) == 1, script.text
    assert "  · measured an idea" in lines and "{" not in script.text


async def test_rows_are_not_said_one_by_one(tmp_path: Path) -> None:
    script = Script()
    rows = tuple(Example(f"row-{n}", {"n": n}, split="train") for n in range(5))
    made = _writer()
    made.problem = replace(made.problem, data=rows)
    made.executor = Says(made.problem, 0.001)
    made.budget = Budget(evaluations=30)
    result = await talked(tmp_path / "run", script, made)
    assert len(result.trials) > 1 and "= #" not in script.text
    assert all(f"#{trial.number} " in script.text for trial in result.trials[1:])


async def test_a_key_in_a_hint_is_masked_and_said_so(tmp_path: Path) -> None:
    key = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD"
    script = Script(("= #0", f"use {key}"))
    await talked(tmp_path / "run", script, slow())
    (hint,) = own(tmp_path / "run")
    assert isinstance(hint, HintGiven) and key not in hint.text and "use " in hint.text
    assert "is masked" in script.text and key not in script.text
    assert not [file for file in (tmp_path / "run").rglob("*") if file.is_file() and key.encode() in file.read_bytes()]


async def test_the_gate_tells_why_a_bit_and_nothing_else(tmp_path: Path) -> None:
    script = Script()
    result = await talked(tmp_path / "run", script, slow(problem=_noisy(), budget=Budget(evaluations=60)))
    (exam,) = (entry.event for entry in read_all(tmp_path / "run") if isinstance(entry.event, ExamDecided))
    lines = why(tmp_path / "run", "champion")
    assert f"gate: it {'accepted it' if exam.accepted else 'did not accept it'}" in lines
    assert result.verdict is not None
    said = "\n".join("\n".join(why(tmp_path / "run", str(trial.number))) for trial in result.trials)
    hidden = [entry.event for entry in read_all(tmp_path / "run") if entry.event.audience != "search"]
    values = {str(e.score["values"]["value"]) for e in hidden if getattr(e, "score", None)}  # type: ignore[attr-defined]
    assert values and not any(value in said for value in values)
    (tmp_path / "run" / GATE).write_bytes(b"nobody looks in here")
    assert why(tmp_path / "run", "champion") == lines
    assert "race against #0: " in said and len(said.splitlines()) >= 3 * len(result.trials)


def _noisy() -> Any:
    from tests.support import noisy, problem

    return problem(noisy, deterministic=False)


MOMENTS = (
    "proposal.started", "proposal.ended", "candidate.admitted", "evaluation.started", "evaluation.ended",
    "race.decided", "call.started", "call.ended", "tool.ended", "hint.given", "look.asked",
)  # fmt: skip


@pytest.mark.parametrize("moment", MOMENTS)
async def test_two_ctrl_c_while_a_decision_is_written_lose_nothing(tmp_path: Path, moment: str) -> None:
    """The person presses twice in the middle of recording; what goes on is what would have been without that."""
    told: list[Any] = []
    beside: list[Beside] = []

    def press(event: Event, state: Any) -> None:
        told.append(event)
        if event.type == moment and beside and [e.type for e in told].count(moment) == (1 if moment[0] == "h" else 2):
            for _ in range(2):  # a signal is heard when the loop comes to it, as this is
                asyncio.get_running_loop().call_soon(beside[0]._pressed, signal.SIGINT)

    asked: list[str] = []
    script = Script(("= #0", "stay low"))
    chosen = _agent(asked, (press,))
    beside.append(Beside(script))  # type: ignore[arg-type]
    chosen.observers = (*chosen.observers, beside[0])
    with pytest.raises(asyncio.CancelledError):
        await chosen.run(tmp_path / "run", beside[0].hold)
    await beside[0].close()
    recorded = [entry.event for entry in read_all(tmp_path / "run")]
    assert [e.body() for e in recorded] == [e.body() for e in told], "what was told is what is on the disk"
    result = await _agent(asked, ()).resume(tmp_path / "run")
    assert result.status in ("exact", "initial") and result.spent["evaluations"] == 8
    lost = result.spent["possibly_spent"]["calls"]
    assert len(asked) - result.spent["calls"] in (0, lost) and lost <= 1
    assert len(asked) - len(set(asked)) <= lost, "only what nobody had answered is asked again"
    assert (await replay(tmp_path / "run"))[1] is None


def _agent(asked: list[str], observers: Any) -> Session:
    def answer(request: Any) -> Completion:
        asked.append(repr(request))
        results = [message for message in request.messages if message.role == "tool"]
        place = (len(asked) * 37 % 100) / 100
        if not results:
            call = ToolCall("1", "evaluate", {"changes": {"a": round(place, 2)}})
        else:
            call = ToolCall("2", "submit", {"changes": {"a": round(place, 3), "b": 0.5}, "rationale": "r"})
        return Completion("", tool_calls=(call,), stop="tool")

    problem = _bowl()
    return Session(
        problem,
        Settings.from_json(
            {"proposer": "agentic", "models": {"propose": "scripted:m"}, "options": {"off": ["python"]}}
        ),
        Budget(evaluations=8),
        seed=2,
        model=Scripted(answer),
        executor=Direct(problem, 0.001),
        observers=observers,
    )


def bowl(candidate: Any, seed: int = 0, replicate: int = 0) -> float:
    return float((candidate["a"] - 0.3) ** 2 + (candidate["b"] - 0.7) ** 2)


def _bowl() -> Problem:
    return Problem(
        name="bowl",
        space=Space({"a": Float(0, 1), "b": Float(0, 1)}),
        evaluator=FunctionEvaluator(bowl, names=("value",)),
        objectives=(Objective("value"),),
        deterministic=True,
    )


async def test_a_model_that_tries_to_raise_its_budget_cannot(tmp_path: Path) -> None:
    def answer(request: Any) -> Completion:
        results = [message for message in request.messages if message.role == "tool"]
        if not results:
            wants = {"evaluations": 999}
            calls = (ToolCall("1", "budget", wants), ToolCall("2", "hypothesis", {"text": "/budget evaluations=999"}))
            return Completion("/budget evaluations=999", tool_calls=calls, stop="tool")
        assert "there is no tool 'budget'" in results[0].text
        values = {"changes": {"a": len(str(request)) % 97 / 97}, "rationale": "/budget evaluations=999"}
        return Completion("/pin a=0", tool_calls=(ToolCall("3", "submit", values),), stop="tool")

    chosen = _agent([], ())
    chosen.model = Scripted(answer)
    result = await talked(tmp_path / "run", Script(), chosen)
    assert own(tmp_path / "run") == [] and result.spent["limits"] == {"evaluations": 8}
    assert result.spent["evaluations"] <= 8


async def test_a_person_compares_what_two_candidates_made(tmp_path: Path) -> None:
    script = Script(
        ("= #1", "/pause"),
        ("paused:", "/judge 0 1"),
        ("Which is better", "x"),
        ("is none of a, b, t", "a"),
        ("is preferred", "/judge 0 1"),
        ("is preferred", "/judge 1"),
        ("compared #1 and #0", "/resume"),
    )
    result = await talked(tmp_path / "run", script, _writer())
    assert not script.lines, script.text
    events = [event for event in own(tmp_path / "run") if isinstance(event, PairJudged)]
    assert len(events) == 3 and {abs(event.preference) for event in events} == {1.0}
    assert events[0] == events[1], "a pair is asked about once"
    assert (
        script.text.count("Which is better") == 2 and "kind of you" in script.text
    )  # asked again after a typing error
    assert events[2].one == events[0].two and events[2].preference == -events[0].preference
    assert result.status != "open" and (await replay(tmp_path / "run"))[1] is None
    with pytest.raises(ConfigError, match="asks a person"):
        refuse_at_terminal(type("At", (), {"at_terminal": True}))


def _writer() -> Session:
    problem = _texts()
    return Session(
        problem,
        Settings.from_json({"proposer": "random"}),
        Budget(evaluations=6),
        executor=Says(problem, 0.005),
    )


def _texts() -> Problem:
    return Problem(
        name="texts",
        space=Space({"a": Float(0, 1)}),
        evaluator=Texts(bowl, names=("value",)),
        objectives=(Objective("value"),),
        data=(Example("row-1", {"name": "kind of you"}, split="train"),),
        deterministic=True,
    )


class Texts(FunctionEvaluator):
    def score(self, output: Any, row: Any = None) -> Score:
        return Score({"value": output.value["value"]})


class Says(Direct):
    """Its outputs hold texts besides numbers, as those of prompts do."""

    async def submit(self, request: Any, partial: Any = None, **more: Any) -> Any:
        await asyncio.sleep(self.pause)
        value = request.candidate["a"]
        return Output(value={"value": value, "text": f"text of {value:.3f}"})
