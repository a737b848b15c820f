"""Dice and clocks win no exact claim, although only a program that beats the champion is run a second time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agent import Budget, Code, Programs, Result, optimize
from agent.evaluation import Rival
from agent.events import CandidateConvicted, CandidateSuspected, EvaluationEnded, EvaluationStarted, Event
from agent.goals import Constraint, Objective
from agent.history import AGAIN
from agent.journal import Journal, read_all
from agent.proposers.base import Context, Proposal
from agent.replay import replay
from tests.evaluators import code_helpers

RAN = "TRUEGAIN_TEST_RAN"
GAIN = Objective("gain", "maximize")
START = "def solve(x):\n    return 1.0\n"


def honest(value: float, more: str = "") -> str:
    return f"{more}def solve(x):\n    return {value!r}\n"


def dice(low: float, high: float, name: str = "a") -> str:
    """Worth `high` the first time it is run, then `low`, and so on: dice whose luck the test knows."""
    return (
        "import os\n"
        "def solve(x):\n"
        f"    place = {os.environ.get(RAN, '')!r} + '/dice-{name}'\n"
        "    with open(place, 'a') as file:\n"
        "        file.write('x')\n"
        f"    return {high!r} if os.path.getsize(place) % 2 == 1 else {low!r}\n"
    )


class Counted(code_helpers.Plain):
    """Runs in a plain process, so that programs may keep count, and tells how often each program ran."""

    def _run(self, job: Any) -> Any:
        with open(Path(os.environ[RAN]) / "ran", "a") as file:
            file.write(repr(next(iter(job.files.values()))) + "\n")
        return super()._run(job)


class Task:
    """The larger the answer, the better; several inputs say the same."""

    schema: ClassVar = {"type": "number"}
    count = 1

    def inputs(self, seed: int, stage: str) -> list[int]:
        return [] if stage == "smoke" else [1] * self.count

    def score(self, given: int, output: float) -> float:
        return output


class Small(Task):
    """The smaller, the better."""

    def score(self, given: int, output: float) -> float:
        return -output


class Two(Task):
    """Two objectives, of which the first is compared."""

    def score(self, given: int, output: float) -> dict[str, float]:  # type: ignore[override]
        return {"gain": output, "size": 1.0}


class Limited(Task):
    """With a constraint that only answers above 0 keep."""

    def score(self, given: int, output: float) -> dict[str, float]:  # type: ignore[override]
        return {"gain": output, "limit": output}


class Rows(Task):
    """Measured on rows of data."""

    def inputs(self, seed: int, stage: str, row: Any = None) -> list[int]:
        return [] if stage == "smoke" else [row]


class Listed:
    """Proposes the programs of its options, one at a time."""

    name, needs_model = "listed", False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        told = int(context.memory or 0)
        programs = context.options["programs"]
        context.exhausted = told >= len(programs)
        context.memory = told + 1
        return [] if context.exhausted else [Proposal({"program": programs[told]}, "listed")]

    def forecast(self, problem: Any, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 0, 0, 0


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(RAN, str(tmp_path))
    return tmp_path


def lucky(place: Path, runs: int, value: float) -> str:
    """Worth `value` for so many runs, then nothing: a clock whose hour the test knows."""
    return (
        "import os\n"
        "def solve(x):\n"
        f"    place = {str(place)!r} + '/lucky-{value}'\n"
        "    with open(place, 'a') as file:\n"
        "        file.write('x')\n"
        f"    return {value!r} if os.path.getsize(place) <= {runs} else 0.0\n"
    )


def checks(result: Result) -> list[str]:
    """Who was suspected and who was measured before a claim, in order."""
    return [
        f"{event.type} {result._state.history[event.candidate].number}"
        for event in events(result)
        if (isinstance(event, CandidateSuspected) and event.reason == AGAIN)
        or (isinstance(event, EvaluationStarted) and event.stage == AGAIN)
    ]


def told(result: Result) -> str:
    """What became of whom, for who reads a failed test."""
    trials = [f"#{t.number} {t.state} {t.values} {t.failure or t.reason}" for t in result.trials]
    return "\n".join([f"{result.status}: {result.sentence}", *trials, str(result._state.history.rejected)])


def search(place: Path, programs: Sequence[str], task: Any = "Task", start: str = START, **given: Any) -> Result:
    options = {
        "workers": 1,
        "executor": "inline",
        "proposer": f"{__name__}:Listed",
        "options": {"programs": list(programs)},
        **given.pop("options", {}),
    }
    return optimize(
        Programs(
            f"{__name__}:{task}" if isinstance(task, str) else task,
            sandbox={"kind": f"{__name__}:Counted"},
            **given.pop("judged", {}),
        ),
        space={"program": Code(start, entry="solve")},
        objectives=given.pop("objectives", "maximize"),
        deterministic=True,
        budget=Budget(evaluations=given.pop("evaluations", 40)),
        runs=place,
        options=options,
        **given,
    )


def runs_of(place: Path, program: str) -> int:
    return (place / "ran").read_text().splitlines().count(repr(program.encode()))


def events(result: Result) -> list[Event]:
    return [entry.event for entry in read_all(Path(result.folder))]


def test_only_who_beats_the_champion_is_run_twice(place: Path) -> None:
    better, worse, equal = honest(2.0), honest(0.5), honest(2.0, "import math\n")
    result = search(place, [worse, better, equal])
    assert result.best["program"] == better and result.status == "exact"
    assert runs_of(place, worse) == runs_of(place, equal) == 1
    assert runs_of(place, better) == 2 + 3, "in the search, and before it is claimed"
    assert runs_of(place, START) == 4, "nobody was there to be beaten, and it is measured once more to learn the noise"


@pytest.mark.parametrize("kind", ["objectives", "suite", "rows"])
def test_where_one_measurement_is_not_the_whole_score_every_program_is_run_twice(place: Path, kind: str) -> None:
    """It may be better as a whole although it is worse on the row that is measured."""
    rows = [{"id": str(number), "value": number} for number in range(4)]
    given: dict[str, Any] = {
        "objectives": {"task": "Two", "objectives": [GAIN, Objective("size", "minimize")]},
        "suite": {"task": "Rows", "data": rows, "target": "suite"},
        "rows": {"task": "Rows", "data": rows, "target": "population"},
    }[kind]
    worse = honest(0.5)
    result = search(place, [worse], **given)
    measured = [e for e in events(result) if isinstance(e, EvaluationStarted) and e.candidate == result.trials[1].id]
    assert measured and runs_of(place, worse) == 2 * len(measured)


@pytest.mark.parametrize("kind", ["scalar", "minimize", "objectives", "constraint", "suite", "rows"])
def test_dice_never_are_champion(place: Path, kind: str) -> None:
    """However high they fall: not with one objective or two, as a whole or on rows."""
    trick, real = dice(1.5, 9.0), honest(3.0)
    rows = [{"id": str(number), "value": number} for number in range(6)]
    given: dict[str, Any] = {
        "scalar": {},
        "minimize": {"task": "Small", "objectives": "minimize"},
        "objectives": {"task": "Two", "objectives": [GAIN, Objective("size", "minimize")]},
        "constraint": {"task": "Limited", "objectives": GAIN, "constraints": [Constraint("limit", min=0.1)]},
        "suite": {"task": "Rows", "data": rows, "target": "suite"},
        "rows": {"task": "Rows", "data": rows, "target": "population", "evaluations": 200},
    }[kind]
    result = search(place, [trick, real], **given)
    cheat = result.trials[1]
    assert cheat.candidate["program"] == trick and cheat.state == "failed", (cheat.state, cheat.values)
    assert "differently each time" in cheat.failure
    assert result.trials[2].state == "champion"
    assert all(
        event.candidate != cheat.id
        for event in events(result)
        if event.type == "race.decided" and event.decision == "promote"
    )  # type: ignore[attr-defined]
    assert asyncio.run(replay(Path(result.folder)))[1] is None


def test_dice_that_fall_low_the_first_time_win_nothing_either(place: Path) -> None:
    low = dice(9.0, 0.5)  # low first
    result = search(place, [low, honest(3.0)])
    assert result.trials[1].values == {"value": 0.5} and result.trials[1].state == "dropped"
    assert result.best["program"] == honest(3.0)


def test_dice_whose_holes_are_tuned_are_dice(place: Path) -> None:
    """Honest holes are tuned beside them, and win."""
    loaded = "import os\ndef solve(x):\n    return tune(1.0, 0, 5) + os.urandom(4)[0]\n"
    result = search(
        place,
        [],
        start="def solve(x):\n    return tune(1.0, 0, 5)\n",
        starts=[{"program": loaded}],
        evaluations=14,
        options={"proposer": "tune", "options": {}},
    )
    cheats = [trial for trial in result.trials if "urandom" in trial.candidate["program"]]
    assert cheats and not any(trial.state == "champion" for trial in cheats)
    assert result.status == "exact" and "urandom" not in result.best["program"]


def test_who_takes_the_place_of_a_clock_is_run_more_often(place: Path) -> None:
    """The best was right twice and is not at the end; the next best, never run twice, are dice that fell well once."""
    tricks, real = [dice(0.0, 8.0, "b"), dice(0.0, 7.0, "c")], honest(3.0)
    result = search(place, [lucky(place, 2, 9.0), *tricks, real])
    assert [trial.state for trial in result.trials[1:4]] == ["failed"] * 3
    assert result.best["program"] == real and result.status == "exact"
    assert runs_of(place, real) == 1 + 1 + 3 + 2 * 3, "in the search, what it missed there, and for each that fell two"
    assert asyncio.run(replay(Path(result.folder)))[1] is None


def test_claims_are_checked_where_nothing_is_suspicious_too(place: Path) -> None:
    trick, equal, real = lucky(place, 2, 9.0), honest(2.0), honest(3.0)
    result = search(place, [trick, equal, real], options={"suspicion": 0})
    assert result.trials[1].state == "failed" and "it scored 9" not in result.sentence
    assert result.best["program"] == real and result.status == "exact"
    assert runs_of(place, equal) == 1, "nor is it how often the search runs a program that does not beat the champion"
    assert asyncio.run(replay(Path(result.folder)))[1] is None


def test_luck_for_one_check_does_not_pass_the_next(place: Path) -> None:
    """Of many dice that are equally good one would pass three runs sooner or later."""
    tricks = [lucky(place, 2, 9.0), lucky(place, 1 + 3, 8.0), lucky(place, 1 + 6, 7.0)]
    result = search(place, [*tricks, honest(3.0)])
    assert [trial.state for trial in result.trials[1:4]] == ["failed"] * 3
    assert result.best["program"] == honest(3.0) and result.status == "exact"
    assert [runs_of(place, trick) for trick in tricks] == [2 + 3, 1 + 4, 1 + 7], "until they differed"


def test_after_four_that_fell_nothing_is_claimed(place: Path) -> None:
    tricks = [lucky(place, 2, 10.0 + number) for number in range(5)]
    result = search(place, [*tricks, honest(3.0), honest(2.0)], evaluations=100, options={"workers": 4})
    assert result.status == "unproven" and result.best["program"] == tricks[0], told(result)
    assert "4 that looked better still did not score the same again" in result.sentence
    assert "deterministic" in result.sentence
    assert len(checks(result)) == 2 * 4, "the fifth is not tried"
    assert [trial.state for trial in result.trials].count("failed") == 4
    assert asyncio.run(replay(Path(result.folder)))[1] is None


@pytest.mark.parametrize("workers", [1, 4])
def test_who_cannot_be_checked_keeps_its_score_until_a_resume_pays_for_it(place: Path, workers: int) -> None:
    """One lucky program takes the one check that was held back; nothing is wrong with the next best."""
    real = honest(2.5)
    programs, given = [honest(2.0), real, lucky(place, 2, 9.0)], {"options": {"workers": workers}}
    result = search(place, programs, evaluations=6, **given)
    assert result.status == "unproven" and result.best["program"] == real, told(result)
    assert result.released == result.initial
    assert "could not be run again with the evaluations left; resume with more" in result.sentence
    second = result.trials[2]
    assert second.values == {"value": 2.5} and second.state == "champion" and not second.failure
    assert second.reason == "the next best after #3" and result.trials[1].values == {"value": 2.0}
    fell = [event.candidate for event in events(result) if isinstance(event, CandidateConvicted)]
    assert fell == [result.trials[3].id] and "search ended" not in result.trials[3].failure
    assert checks(result) == ["candidate.suspected 3", "evaluation.started 3"], "what was told was done"
    assert "no candidate was better" not in result.sentence + (Path(result.folder) / "summary.md").read_text()
    assert asyncio.run(replay(Path(result.folder)))[1] is None
    result = search(place, programs, evaluations=10, resume=result.run, **given)
    assert result.status == "exact" and result.best["program"] == real and runs_of(place, real) == 2 + 6
    assert asyncio.run(replay(Path(result.folder)))[1] is None


def test_a_check_on_rows_is_begun_when_all_of_it_can_be_paid(place: Path) -> None:
    rows = [{"id": str(number), "value": number} for number in range(4)]
    real, given = honest(2.5), {"task": "Rows", "data": rows, "target": "suite"}
    result = search(place, [real, lucky(place, 8, 9.0)], evaluations=22, **given)
    assert result.status == "unproven" and result.best["program"] == real
    assert checks(result) == ["candidate.suspected 2", *["evaluation.started 2"] * 4]
    assert result.spent["evaluations"] <= 22


def test_an_ensemble_of_programs_is_checked_too(place: Path) -> None:
    """Each of two tasks ran it twice in the search, and runs it three times at the end."""
    judged = {
        "judged": {"ensemble": {"combine": "worst"}},
        "task": dict.fromkeys(("left", "right"), f"{__name__}:Task"),
    }
    trick, real = lucky(place, 2 * 2 + 2, 9.0), honest(3.0)
    result = search(place, [trick, real], **judged)
    assert result.trials[1].state == "failed" and result.best["program"] == real and result.status == "exact"
    assert runs_of(place, real) == 2 * (2 + 6), "members are told no rival"
    assert asyncio.run(replay(Path(result.folder)))[1] is None


def test_four_at_a_time_and_cut_off_anywhere_no_dice_win(place: Path) -> None:
    """The champion may be another one when a measurement ends than when it began."""
    programs = [dice(0.0, 8.0 + number, str(number)) if number % 2 else honest(1 + number / 10) for number in range(12)]
    whole = search(place, programs, options={"workers": 4})
    assert whole.best["program"] == honest(2.0), told(whole)
    assert asyncio.run(replay(Path(whole.folder)))[1] is None
    entries = list(read_all(Path(whole.folder)))
    for cut in range(20, len(entries), len(entries) // 2):
        folder = place / f"cut{cut}"
        journal = Journal(folder / "run")
        for entry in entries[:cut]:
            journal.append(entry.event, entry.time)
        journal.close()
        for file in place.glob("dice-*"):
            file.unlink()
        result = search(folder, programs, resume="run", options={"workers": 4})
        assert result.best["program"] == honest(2.0) and result.status == "exact"
        ended = [event.id for event in events(result) if isinstance(event, EvaluationEnded)]
        assert len(ended) == len(set(ended)), "nothing that had ended was measured again"
        assert any(isinstance(event, EvaluationStarted) for event in events(result))
        assert asyncio.run(replay(Path(result.folder)))[1] is None


@pytest.mark.parametrize(
    ("sign", "value", "beaten"), [(1, 2.1, True), (1, 2.0, False), (1, 1.9, False), (-1, 1.9, True), (-1, 2.0, False)]
)
def test_who_beats_whom(sign: int, value: float, beaten: bool) -> None:
    rival = Rival("score", sign, 2.0)
    assert rival.beaten({"score": value}) is beaten
    assert rival.beaten({}), "what cannot be compared is looked at twice"
    assert beaten is (Objective("score", "maximize" if sign > 0 else "minimize").gain(value, 2.0) > 0)
