"""Runs that stop a measurement whose learning curve is hopeless."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import Fidelity
from agent.evaluation import Output, Request, Score
from agent.events import EvaluationEnded, EvaluationStarted
from agent.results.result import Result, load_state
from agent.surrogates.points import Points
from agent.watching import watch
from tests.fidelity_support import MIDDLE, bowl, of, replays, runner

STEPS = 24
CURVES = Fidelity(stop=True, full=STEPS)


@pytest.fixture
def quick(tmp_path: Path) -> Callable[..., Result]:
    return runner(tmp_path / "runs", fidelity=CURVES)


def train(candidate: Any, report: Callable[[int, float], None]) -> float:
    """A learning curve that levels off at the bowl."""
    end = (candidate["x"] - 0.3) ** 2 + (candidate["y"] - 0.6) ** 2
    for step in range(1, STEPS + 1):
        loss = end + math.exp(-step / 2)
        report(step, loss)
    return loss


async def learning(candidate: Any, partial: Any) -> float:
    waits = [0.0]

    def report(step: int, loss: float) -> None:
        waits.append(loss)

    train(candidate, report)
    for loss in waits[1:]:
        partial(loss)
        await asyncio.sleep(0)
    return loss


def test_a_hopeless_measurement_is_stopped_and_says_with_what_confidence(quick: Callable[..., Result]) -> None:
    result = quick(learning, budget=32)
    gone = [trial for trial in result.trials if trial.stopped]
    assert len(gone) > 5
    for trial in gone:
        assert trial.state == "dropped" and trial.values is None and not trial.failure, "it has not failed"
        assert trial.reason.startswith(f"hopeless after {trial.stopped['step']:g} of 24 steps: ")  # type: ignore[index]
        assert "% chance to beat" in trial.reason
    outputs = [event.output for event in of(result, EvaluationEnded) if event.output.get("stopped")]
    assert [output["failure"]["kind"] for output in outputs] == ["hopeless"] * len(gone)
    assert all(len(output["partials"]) >= output["stopped"]["step"] for output in outputs), "they are kept"
    found = Points.of(result.problem, load_state(result.folder).history)
    assert len(found.stopped) == len(gone) and not len(found.failed)
    assert replays(result)


def test_a_stopped_measurement_costs_the_share_of_its_steps(quick: Callable[..., Result]) -> None:
    result = quick(learning, budget=30)
    shares = [
        event.output["stopped"]["step"] / STEPS if event.output.get("stopped") else 1.0
        for event in of(result, EvaluationEnded)
    ]
    assert result.spent["evaluations"] == pytest.approx(math.fsum(shares), abs=1e-5)
    assert len(shares) > 36, "what was saved was spent on others"
    assert result.spent["evaluations"] <= 30


def test_several_workers_keep_to_the_limit(quick: Callable[..., Result]) -> None:
    result = quick(learning, budget=25, options={"workers": 4})
    assert any(trial.stopped for trial in result.trials)
    assert 24 <= result.spent["evaluations"] <= 25 and replays(result), "shares are kept to a billionth"


def test_the_initial_candidate_races_and_exams_come_to_their_end(quick: Callable[..., Result]) -> None:
    async def noisy(candidate: Any, partial: Any, seed: int, replicate: int) -> float:
        for step in range(1, STEPS + 1):
            noise = random.Random(f"{sorted(candidate.items())} {seed} {replicate} {step}").gauss(0, 0.01)
            loss = (candidate["x"] - 0.3) ** 2 + (candidate["y"] - 0.6) ** 2 + math.exp(-step / 2) + noise
            partial({"value": loss, "step": step, "of": STEPS})
            await asyncio.sleep(0)
        return loss

    result = quick(noisy, deterministic=False, budget=90, fidelity=Fidelity(stop=True))
    begun = {event.id: event for event in of(result, EvaluationStarted)}
    stopped = [begun[event.id] for event in of(result, EvaluationEnded) if event.output.get("stopped")]
    assert stopped and all(event.purpose == "search" and event.pair < 0 for event in stopped)
    assert result.initial.id not in {event.candidate for event in stopped}
    assert replays(result)


def test_only_first_looks_with_the_full_effort_are_watched(quick: Callable[..., Result]) -> None:
    state = load_state(quick(learning, budget=12).folder)
    trials = state.history.trials

    def watched(number: int, **more: Any) -> bool:
        started = {"id": 99, "candidate": trials[number].id, "example": None, "seed": 1, "replicate": 0, **more}
        return watch(state, EvaluationStarted(**{"purpose": "search", **started})) is not None

    assert [watched(number) for number in (0, 1, 5, 6, 7)] == [False, True, True, False, True], (
        "each sixth is left alone"
    )
    assert not watched(1, pair=3) and not watched(1, fidelity=0.5) and not watched(1, purpose="gate")


def test_rungs_and_learning_curves_go_together(quick: Callable[..., Result]) -> None:
    async def both(candidate: Any, fidelity: float, partial: Any) -> float:
        of = max(1, round(STEPS * fidelity))
        end = bowl(candidate, fidelity)
        for step in range(1, of + 1):
            partial({"value": end + math.exp(-step / 2), "step": step, "of": of})
            await asyncio.sleep(0)
        return end + math.exp(-of / 2)

    result = quick(both, budget=45, fidelity=Fidelity(1 / 3, stop=True))
    assert {event.fidelity for event in of(result, EvaluationStarted)} == {MIDDLE, 1.0}
    stopped = [trial for trial in result.trials if trial.stopped]
    assert all(MIDDLE in trial.partial and len(trial.partial) == 2 for trial in stopped), (
        "only in full are they watched"
    )
    assert result.spent["evaluations"] <= 45 and replays(result)


class Hostile:
    """An evaluator that streams what it likes, out of order."""

    spec = None
    exclusive = blocking = keeps_limits = False
    fingerprint = "hostile"

    def __init__(self, partials: Callable[[int], Any]) -> None:
        self.partials = partials

    async def produce(self, request: Request, partial: Callable[[Any], None]) -> Output:
        for step in sorted(range(1, STEPS + 1), key=lambda step: step + random.Random(step).uniform(-3, 3)):
            partial(self.partials(step))
            await asyncio.sleep(0)
        return Output(value=request.candidate["x"])

    def score(self, output: Output) -> Score:
        return Score({"value": output.value})


@pytest.mark.parametrize(
    "partials",
    [
        lambda step: {"value": "lots", "step": step},
        lambda step: {"value": 5.0, "step": -step},
        lambda step: {"value": 5.0, "step": "first"},
        lambda step: {"value": 10**400, "step": step},
        lambda step: {"value": 5.0, "step": step, "of": 0},
        lambda step: ["value", step],
        lambda step: {"values": {"value": None}},
    ],
    ids=["a string", "negative", "a word", "huge", "of none", "a list", "nothing"],
)
def test_partial_results_that_say_nothing_stop_nothing(quick: Callable[..., Result], partials: Any) -> None:
    result = quick(Hostile(partials), budget=12)
    assert result.status == "exact" and not any(trial.stopped for trial in result.trials)
    assert result.spent["evaluations"] == 12 and replays(result)


def test_points_out_of_order_are_put_in_order(quick: Callable[..., Result]) -> None:
    result = quick(Hostile(lambda step: {"value": 2 + math.exp(-step), "step": step}), budget=16)
    assert result.spent["evaluations"] <= 16 and any(trial.stopped for trial in result.trials), "2 beats nobody below 1"


def test_an_evaluator_cannot_call_itself_hopeless_and_save(quick: Callable[..., Result]) -> None:
    class Cheat(Hostile):
        async def produce(self, request: Request, partial: Callable[[Any], None]) -> Output:
            if request.candidate["x"] == 0.9:
                return Output(value=0.9)
            return Output.failed("hopeless", "no", stopped={"step": 0, "of": 1, "value": 0, "chance": 0, "against": 0})

    result = quick(Cheat(lambda step: step), budget=8)
    assert result.spent["evaluations"] == 8, "each counts in full"
    assert {trial.state for trial in result.trials[1:]} == {"failed"}


def test_who_reports_nothing_is_told(quick: Callable[..., Result], caplog: pytest.LogCaptureFixture) -> None:
    quick(lambda candidate, partial: candidate["x"], budget=5)
    assert "fidelity.stop has nothing to go by" in caplog.text
    assert '"step": 12, "of": 40' in caplog.text


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Path]:
    """A module that a worker process can import."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "slowlearner.py").write_text(
        "import math, os, pathlib, time\n"
        "def measure(candidate, partial):\n"
        "    for step in range(1, 25):\n"
        "        loss = (candidate['x'] - 0.3) ** 2 + (candidate['y'] - 0.6) ** 2 + math.exp(-step / 2)\n"
        "        partial({'value': loss, 'step': step, 'of': 24})\n"
        "        time.sleep(0.01 if candidate['x'] != 0.9 else 0)\n"
        "    with open(pathlib.Path(__file__).with_name('finished'), 'a') as file: file.write('x')\n"
        "    return loss\n"
    )
    yield tmp_path / "folder"


def test_a_worker_process_is_stopped_with_its_measurement(quick: Callable[..., Result], module: Path) -> None:
    result = quick(
        "slowlearner:measure", folder=module, fidelity=Fidelity(stop=True), budget=16, options={"executor": None}
    )
    stopped = sum(trial.stopped is not None for trial in result.trials)
    ended = len(of(result, EvaluationEnded))
    assert stopped > 2
    time.sleep(0.3)
    assert len((module / "finished").read_text()) == ended - stopped, "it was not just ignored"
    assert replays(result)


def test_a_thread_ends_at_its_next_partial_result(quick: Callable[..., Result]) -> None:
    finished = []

    def measure(candidate: Any, partial: Any) -> float:
        def report(step: int, loss: float) -> None:
            partial(loss)
            time.sleep(0.002)

        loss = train(candidate, report)
        finished.append(candidate)
        return loss

    result = quick(measure, budget=16)
    stopped = sum(trial.stopped is not None for trial in result.trials)
    assert stopped > 2
    time.sleep(0.3)
    assert len(finished) == len(of(result, EvaluationEnded)) - stopped
