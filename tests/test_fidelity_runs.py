"""Runs that measure with a part of the effort first, and runs that stop hopeless measurements."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import Budget, Categorical, ConfigError, Constraint, Fidelity, Objective, Study
from agent.errors import RunChanged
from agent.events import EvaluationEnded, EvaluationStarted, RaceDecided, RunResumed
from agent.folds.asks import Asks
from agent.replay import Replay, compare
from agent.results.result import Result, load_state
from agent.session import Session
from agent.surrogates.points import Points
from tests.cli_helpers import TOML, cli
from tests.fidelity_support import LOW, MIDDLE, NINTHS, SPACE, bowl, of, replays, runner, shaky
from tests.support import Direct, bare, bodies, entries, problem, session


@pytest.fixture
def quick(tmp_path: Path) -> Callable[..., Result]:
    return runner(tmp_path / "runs", fidelity=NINTHS)


# Rungs.


def test_candidates_begin_at_the_lowest_rung_and_the_best_go_up(quick: Callable[..., Result]) -> None:
    result = quick()
    assert result.status == "exact"
    started = of(result, EvaluationStarted)
    assert {event.fidelity for event in started} == {LOW, MIDDLE, 1.0}
    by_candidate: dict[str, list[float]] = {}
    for event in started:
        by_candidate.setdefault(event.candidate, []).append(event.fidelity)
    initial = by_candidate.pop(result.initial.id)
    assert initial == [1, 1], "once, and once more to see whether measuring is deterministic"
    assert all(rungs == [LOW, MIDDLE, 1.0][: len(rungs)] for rungs in by_candidate.values()), "no rung is left out"
    at = {rung: sum(rung in rungs for rungs in by_candidate.values()) for rung in (LOW, MIDDLE, 1.0)}
    assert at[LOW] > 1.5 * at[MIDDLE] > 1.5 * at[1.0] > 0
    assert len({event.seed for event in started if event.candidate != result.initial.id}) == 1, "one seed, all rungs"
    assert replays(result)


def test_who_goes_up_is_measured_before_those_that_begin() -> None:
    asks = Asks(["r", "s"])
    asks.rung("new", LOW, climbs=False)
    asks.rung("climber", MIDDLE, climbs=True)
    asked = []
    while asks.first is not None:
        asked.append((asks.first.candidate, asks.first.example, asks.first.fidelity))
        asks.started()
    assert asked == [("climber", "r", MIDDLE), ("climber", "s", MIDDLE), ("new", "r", LOW), ("new", "s", LOW)]


def test_what_a_rung_says_never_counts_as_a_measurement(quick: Callable[..., Result]) -> None:
    result = quick()
    for trial in result.trials[1:]:
        full = {"value": bowl(trial.candidate, 1.0)}
        assert trial.values in (None, full) and trial.count == (trial.values is not None)
        assert all(cost == bowl(trial.candidate, share) for share, cost in trial.partial.items())
        if trial.state == "dropped" and trial.values is None:
            share = max(trial.partial)
            assert trial.reason.startswith(f"stopped at {result.problem.fidelity.words(share)}: rank ")  # type: ignore[union-attr]
    promoted = [event for event in of(result, RaceDecided) if event.decision == "promote"]
    assert promoted and all("fidelity" not in event.evidence for event in promoted)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("budget", [5, 17])
def test_the_limit_on_evaluations_holds_exactly(quick: Callable[..., Result], workers: int, budget: int) -> None:
    seen: list[float] = []

    async def slow(candidate: Any, fidelity: float) -> float:
        seen.append(fidelity)
        await asyncio.sleep(random.uniform(0, 0.002))
        return bowl(candidate, fidelity)

    result = quick(slow, budget=budget, options={"workers": workers})
    assert budget - 1 < math.fsum(seen) <= budget, "what is left would not measure one candidate in full"
    assert result.spent["evaluations"] == pytest.approx(math.fsum(seen), abs=1e-6)
    state = load_state(result.folder)
    assert state.ledger.left("evaluations") == pytest.approx(budget - math.fsum(seen), abs=1e-9)
    assert replays(result)


def test_a_noisy_problem_races_and_is_examined_with_the_full_effort(quick: Callable[..., Result]) -> None:
    result = quick(shaky, deterministic=False, budget=80)
    assert result.status in ("proven", "unproven", "initial")
    started = of(result, EvaluationStarted)
    assert any(event.pair >= 0 and event.purpose == "search" for event in started), "there was a race"
    held = [event for event in started if event.purpose == "gate"]
    assert len(held) in (0, 24)
    assert all(event.fidelity == 1 for event in started if event.pair >= 0)
    asked = [(event.candidate, event.replicate, event.fidelity) for event in started]
    assert len(set(asked)) == len(asked), "a race takes new replicates"
    assert [e.fidelity for e in started if e.candidate == result.initial.id and e.pair < 0] == [1, 1, 1]
    assert result.spent["evaluations"] <= 80
    assert replays(result)


def test_rows_that_are_the_goal_are_all_measured_at_each_rung(quick: Callable[..., Result]) -> None:
    def measure(candidate: Any, row: Any, *, fidelity: float) -> float:
        return bowl(candidate, fidelity) + row["add"]

    rows = [{"id": str(n), "add": n} for n in range(3)]
    result = quick(measure, data=rows, target="suite", budget=40)
    started = [event for event in of(result, EvaluationStarted) if event.fidelity < 1]
    assert started and len({event.example for event in started}) == 3
    trial = next(trial for trial in result.trials if trial.partial)
    share, cost = next(iter(trial.partial.items()))
    assert cost == pytest.approx(bowl(trial.candidate, share) + 1)
    assert result.spent["evaluations"] <= 40 and replays(result)


def test_a_candidate_that_fails_at_a_rung_has_failed(quick: Callable[..., Result]) -> None:
    def picky(candidate: Any, fidelity: float) -> float:
        if candidate["x"] < 0.4 and fidelity < 0.5:
            raise ValueError("too small for that")
        return bowl(candidate, fidelity)

    result = quick(picky)
    failed = [trial for trial in result.trials if trial.candidate["x"] < 0.4]
    assert failed and all(trial.state == "failed" and "too small" in trial.failure for trial in failed)
    found = Points.of(result.problem, load_state(result.folder).history)
    assert len(found.failed) == len(failed)
    assert len(found.stopped) == sum(t.state == "dropped" and t.values is None for t in result.trials) > 0
    assert replays(result)


def test_larger_is_better_and_a_constraint_that_does_not_hold_ranks_behind(quick: Callable[..., Result]) -> None:
    def measure(candidate: Any, fidelity: float) -> dict[str, float]:
        return {"accuracy": -bowl(candidate, fidelity), "size": candidate["x"]}

    result = quick(
        measure, objectives=[Objective("accuracy", "maximize")], constraints=[Constraint("size", min=0.5)], budget=30
    )
    assert result.best["x"] >= 0.5
    assert -(result.trials[-1].partial or {LOW: -1.0})[LOW] < 0, "costs are small where they are good"
    measured = [trial for trial in result.trials[1:] if trial.values]
    assert sum(trial.feasible for trial in measured) > len(measured) / 2, "they are the ones that went up"


def test_a_small_space_that_is_used_up_is_measured_in_full(quick: Callable[..., Result]) -> None:
    choices = {"kind": Categorical(list("abcdef"))}
    result = quick(lambda candidate, fidelity: "fcbade".index(candidate["kind"]) + 1 - fidelity, space=choices)
    assert result.reason == "exhausted" and result.best["kind"] == "f"
    assert all(trial.values is not None for trial in result.trials), "while the budget pays for it"
    climbs = [event for event in of(result, RaceDecided) if event.decision == "climb"]
    assert any("nothing else is left to try" in event.reason for event in climbs)
    assert replays(result)


def test_a_study_is_asked_for_parts_of_the_effort(tmp_path: Path) -> None:
    options = {"proposer": "random"}
    seen = []
    with Study(
        space=SPACE, budget=12, deterministic=True, model=None, fidelity=NINTHS, runs=tmp_path, options=options
    ) as study:
        while (request := study.ask()) is not None:
            seen.append(request.fidelity)
            study.tell(request, bowl(request.candidate, request.fidelity))
    assert set(seen) == {LOW, MIDDLE, 1.0} and study.result.status == "exact"


# Being cut off.


async def test_a_run_cut_off_at_any_event_goes_on_exactly(tmp_path: Path) -> None:
    def fresh() -> Session:
        made = problem(tilted, exclusive=True, fidelity=NINTHS)
        return session(problem=made, proposer="random", budget=Budget(evaluations=6), model=None)

    chosen = fresh()
    run, journal = bare(tmp_path / "whole", chosen)
    run.start(chosen.started("r"))
    await run.drive()
    whole = list(journal.entries())
    journal.close()
    rungs = {entry.event.fidelity for entry in whole if isinstance(entry.event, EvaluationStarted)}
    assert rungs == {LOW, MIDDLE, 1.0}
    for cut in range(1, len(whole), 3):
        again = fresh()
        run, journal = bare(tmp_path / f"cut{cut}", again)
        for entry in whole[:cut]:
            journal.append(entry.event, entry.time)
        journal.commit()
        run.resume(RunResumed())
        await run.drive()
        got = list(journal.entries())
        journal.close()
        assert compare(got, await Replay(got).replayed()) is None, f"cut at {cut}: the resumed run replays too"
        assert bodies(got, skip=("run.resumed",)) == bodies(whole), f"cut at {cut}"
        ended = sum(isinstance(entry.event, EvaluationEnded) for entry in whole[:cut])
        assert isinstance(again.executor, Direct)
        total = sum(isinstance(entry.event, EvaluationEnded) for entry in whole)
        assert len(again.executor.requests) == total - ended, "no finished evaluation is repeated"


def tilted(candidate: Any, fidelity: float) -> float:
    """On the space of `tests.support`."""
    return (candidate["x"] - 0.3) ** 2 + 0.02 * (candidate["n"] - 6) ** 2 + (1 - fidelity) * 0.1 * candidate["n"]


def test_more_budget_continues_and_another_fidelity_is_another_problem(quick: Callable[..., Result]) -> None:
    first = quick(budget=8)
    second = quick(budget=16, resume=first.run)
    assert second.run == first.run and 15 < second.spent["evaluations"] <= 16
    assert replays(second)
    with pytest.raises(RunChanged, match="problem"):
        quick(budget=20, resume=first.run, fidelity=Fidelity(1 / 3))
    third = quick(budget=24, resume=first.run, fidelity=None, accept_change=True)
    after = [entry.event for entry in entries(third.folder)]
    begun = next(place for place, event in enumerate(after) if event.type == "epoch.started")
    assert all(event.fidelity == 1 for event in after[begun:] if isinstance(event, EvaluationStarted))


# What cannot work is refused before anything is spent.


@pytest.mark.parametrize(
    ("evaluate", "given", "message", "hint"),
    [
        (lambda candidate: 1.0, {}, "does not take `fidelity`", "def measure"),
        (lambda candidate: 1.0, {"fidelity": Fidelity(stop=True)}, "does not take `partial`", "call partial"),
        (lambda candidate, row, fidelity: 1.0, {"data": [{"id": str(n)} for n in range(50)]}, "row by row", "suite"),
        (
            lambda candidate, row, partial: 1.0,
            {"data": [{"id": str(n)} for n in range(5)], "target": "suite", "fidelity": Fidelity(stop=True)},
            "one row's learning curve",
            "leave out stop",
        ),
        (bowl, {"fidelity": 0.1}, "found 0.1, allowed is Fidelity", ""),
        (bowl, {"budget": 4}, "one new candidate 3", "at least 5"),
    ],
)
def test_what_cannot_work_is_refused(
    quick: Callable[..., Result], evaluate: Any, given: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        quick(evaluate, **given)
    assert hint in error.value.hint


def test_a_study_has_no_learning_curves(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no learning curve can stop one"):
        Study(space=SPACE, budget=12, model=None, fidelity=Fidelity(stop=True), runs=tmp_path)


def test_a_request_is_enough_to_know_the_fidelity(quick: Callable[..., Result]) -> None:
    assert quick(lambda candidate, request: bowl(candidate, request.fidelity)).status == "exact"


# The command line.


def folder(place: Path, source: str, fidelity: str, evaluations: int = 12) -> Path:
    place.mkdir()
    (place / "evaluate.py").write_text(source)
    text = TOML.replace("evaluations = 12", f"evaluations = {evaluations}").replace("coordinate", "random")
    (place / "problem.toml").write_text(f"{text}\n[fidelity]\n{fidelity}\n")
    return place


SOURCE = "def measure(candidate, fidelity):\n    return (candidate['x'] - 0.3) ** 2 + 0.01 * (1 - fidelity)\n"


def test_the_command_line_shows_rungs(tmp_path: Path) -> None:
    place = folder(tmp_path / "p", SOURCE, 'lowest = 0.111\nunit = "epochs"\nfull = 81')
    told = cli("estimate", place, cwd=tmp_path)
    assert told.code == 0, told.err
    assert "about 30 at 9 of 81 epochs, 10 at 27 of 81 epochs, and 3 in full" in told.out
    ran = cli("run", place, cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert "stopped at 9 of 81 epochs: rank " in ran.err and "goes on to 27 of 81 epochs" in ran.err
    shown = cli("show", "last", cwd=tmp_path)
    assert "Stopped early: " in shown.out and " at 9 of 81 epochs" in shown.out
    found = cli("show", "last", "--json", "--all", cwd=tmp_path).json
    assert 11 < found["spent"]["evaluations"] <= 12
    assert any(trial["partial"] for trial in found["trials"])
    number = next(trial["number"] for trial in found["trials"] if trial["partial"] and not trial["values"])
    assert "with less effort: " in cli("show", "last", str(number), cwd=tmp_path).out
    assert cli("replay", "last", cwd=tmp_path).code == 0


@pytest.mark.parametrize(
    ("source", "fidelity", "message"),
    [
        ("def measure(candidate):\n    return 1.0\n", "lowest = 0.111", "does not take `fidelity`"),
        (SOURCE, "stop = true", "does not take `partial`"),
        (SOURCE, "lowest = 2", "fidelity.lowest"),
        (SOURCE, "lowest = 0.111\nrungs = 3", "fidelity.rungs: unknown key"),
        (SOURCE, "", "nothing is asked for"),
    ],
)
def test_the_problem_file_is_checked(tmp_path: Path, source: str, fidelity: str, message: str) -> None:
    ran = cli("run", folder(tmp_path / "p", source, fidelity), cwd=tmp_path)
    assert ran.code not in (0, 3) and message in ran.err
    assert not list(tmp_path.rglob("journal.sqlite")), "nothing was begun"


def test_what_the_source_does_not_tell_is_found_when_it_is_loaded(tmp_path: Path) -> None:
    source = "import functools\n@functools.cache\ndef hidden(x):\n    return x\nmeasure = lambda candidate: 1.0\n"
    ran = cli("run", folder(tmp_path / "p", source, "lowest = 0.111"), cwd=tmp_path)
    assert ran.code == 3 and "does not take `fidelity`" in ran.out + ran.err and "def measure" in ran.out + ran.err


def test_a_command_hears_of_the_fidelity(tmp_path: Path) -> None:
    source = (
        "import json, sys\nasked = json.load(open(sys.argv[-1]))\n"
        "print(json.dumps({'loss': asked['candidate']['x'] ** 2 + 1 - asked['fidelity']}))\n"
    )
    place = folder(tmp_path / "p", source, "lowest = 0.3")
    file = place / "problem.toml"
    file.write_text(file.read_text().replace('function = "evaluate:measure"', 'command = ["python3", "evaluate.py"]'))
    ran = cli("run", place, "--evaluations", 8, "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["spent"]["evaluations"] <= 8 and "33 % of the effort" in ran.err
