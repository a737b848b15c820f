"""Learning rates chosen while training: the network, the forecasts, the schedules at equal steps."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.examples.support import EXAMPLES, modules

FOLDER = EXAMPLES / "autolrs"


@pytest.fixture
def net() -> Iterator[Any]:
    with modules("autolrs", "net") as (made,):
        yield made


@pytest.fixture
def schedule() -> Iterator[Any]:
    with modules("autolrs", "schedule") as (made,):
        yield made


@pytest.fixture
def evaluate() -> Iterator[Any]:
    with modules("autolrs", "evaluate") as (made,):
        yield made


# The network.


def test_a_step_goes_down_the_gradient_of_the_loss(net: Any) -> None:
    network = net.Network(1)
    before = network.copy()
    x, y = net.data("train")
    rows = network.copy().rng.integers(0, len(x), net.BATCH)

    def loss(which: int, place: tuple[int, ...], by: float) -> float:
        moved = before.copy()
        moved.weights[which][place] += by
        _, logs = moved._forward(x[rows])
        return float(-logs[np.arange(net.BATCH), y[rows]].mean())

    network.step(0.5)
    for which, place in ((0, (20, 5)), (1, (3, 7)), (2, (4,)), (3, (2,))):
        slope = (loss(which, place, 1e-5) - loss(which, place, -1e-5)) / 2e-5
        moved = network.weights[which][place] - before.weights[which][place]
        assert moved == pytest.approx(-0.5 * slope, rel=1e-4, abs=1e-9)


def test_a_checkpoint_trains_on_exactly_as_the_network_would(net: Any) -> None:
    network = net.Network(2)
    for _ in range(5):
        network.step(0.05)
    copy = network.copy()
    for _ in range(5):
        copy.step(0.05)
    unmoved = network.loss("val")
    for _ in range(5):
        network.step(0.05)
    assert network.loss("val") == copy.loss("val") != unmoved


def test_it_learns_and_a_huge_rate_breaks_it_without_an_error(net: Any) -> None:
    network = net.Network(3)
    for _ in range(300):
        network.step(0.05)
    assert network.loss("val") < 0.3 and network.accuracy("test") > 0.9
    for _ in range(100):
        network.step(1e6)
    assert not network.loss("val") < 2


def test_no_image_is_in_two_splits(net: Any) -> None:
    rows = [{image.tobytes() for image in net.data(split)[0]} for split in ("train", "val", "test")]
    assert [len(net.data(split)[1]) for split in ("train", "val", "test")] == [1200, 300, 297]
    assert not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]


# Forecasts.


def test_a_curve_that_levels_off_is_continued_and_never_below_zero(schedule: Any) -> None:
    points = [(step, 0.3 + 0.5 * math.exp(-step / 20)) for step in range(4, 41, 4)]
    assert 0.3 < schedule.forecast(points, 400) < points[-1][1]
    assert schedule.forecast([(step, 0.2) for step in range(4, 41, 4)], 400) == pytest.approx(0.2)
    assert schedule.forecast([(step, 1.0 - step / 41) for step in range(4, 41, 4)], 4000) >= 0.0


def test_a_probe_that_diverges_has_no_forecast(schedule: Any) -> None:
    assert math.isnan(schedule.forecast([(1, 1.0), (2, math.inf), (3, 1.0)], 400))
    assert math.isnan(schedule.forecast([(1, math.nan), (2, 1.0), (3, 1.0)], 400))


def test_a_probe_leaves_the_checkpoint_as_it_was(schedule: Any) -> None:
    network = schedule.Network(1)
    before = network.loss("val")
    promised = {rate: schedule.probe(network, rate, 400) for rate in (0.001, 0.05)}
    assert network.loss("val") == before
    assert promised[0.05] < promised[0.001] < before
    assert promised == {rate: schedule.probe(network, rate, 400) for rate in (0.001, 0.05)}


def test_noise_alone_is_not_taken_for_progress(schedule: Any) -> None:
    rng = np.random.default_rng(0)
    ends = [schedule.forecast([(s, 0.1 + 0.005 * rng.normal()) for s in range(4, 41, 4)], 400) for _ in range(50)]
    assert min(ends) > 0.08 and max(ends) < 0.12


# Schedules.


def test_every_method_pays_the_same_steps_and_probes_count(schedule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    original = schedule.Network.step

    def counted(self: Any, rate: float) -> None:
        nonlocal steps
        steps += 1
        original(self, rate)

    monkeypatch.setattr(schedule.Network, "step", counted)
    for name, value in (("STAGE", 60), ("PROBE", 10), ("PROBES", 3), ("POINTS", 5)):
        monkeypatch.setattr(schedule, name, value)
    network, rates, curve = schedule.autolrs(200, seed=0)
    assert steps == 200, "2 stages of 60 and their 6 probes of 10, and 20 more"
    assert len(rates) == 2 and all(schedule.LOW <= rate <= schedule.HIGH for rate in rates)
    assert curve[-1][0] <= 200 and network.loss("val") < 2
    steps = 0
    schedule.scheduled(schedule.cosine, 0.01, 200, seed=0)
    assert steps == 200


def test_the_cosine_starts_at_its_peak_and_ends_at_zero(schedule: Any) -> None:
    assert [schedule.cosine(0.2, step, 100) for step in (0, 50, 100)] == pytest.approx([0.2, 0.1, 0.0])
    assert schedule.constant(0.2, 99, 100) == 0.2


def test_the_script_prints_json_and_draws(tmp_path: Path) -> None:
    plot = tmp_path / "out.svg"
    command = [sys.executable, str(FOLDER / "schedule.py"), "--steps", "1280", "--seeds", "1", "--plot", str(plot)]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, timeout=200)
    told = json.loads(done.stdout)
    methods = told["seeds"][0]
    assert next(iter(methods)) == "AutoLRS" and len(methods) == 5
    assert [item["paid"] for item in methods.values()] == [1280, 1280, 6 * 1280, 1280, 6 * 1280]
    assert methods["AutoLRS"]["val_loss"] < 1 and len(methods["AutoLRS"]["rates"]) == 1
    assert methods["constant, best of 6 runs"]["val_loss"] <= methods["constant, 0.01 untuned"]["val_loss"]
    svg = plot.read_text()
    assert svg.startswith("<svg") and svg.count("<polyline") == 5 and "nan" not in svg
    few = subprocess.run([*command[:2], "--steps", "10"], capture_output=True, text=True, check=False, timeout=100)
    assert few.returncode == 2 and "steps are needed" in few.stderr


# The problem.


def test_the_schedule_warms_up_and_decays(evaluate: Any) -> None:
    given = {"peak": 0.2, "warmup": 0.1, "power": 1.0}
    rates = [evaluate.rate(given, step, 100) for step in range(100)]
    assert max(rates) == rates[10] == pytest.approx(0.2)
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.1) and rates[99] < 0.003
    flat = {"peak": 0.2, "warmup": 0.0, "power": 0.0}
    assert {evaluate.rate(flat, step, 100) for step in range(100)} == {0.2}


def test_a_schedule_that_diverges_is_a_failure_with_a_reason(evaluate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "STEPS", 40)
    with pytest.raises(ArithmeticError, match="too large"):
        evaluate.measure({"peak": 1e200, "warmup": 0.0, "power": 0.0})
    scores = evaluate.heldout({"peak": 0.1, "warmup": 0.0, "power": 1.0})
    assert 0.5 < scores["test_accuracy"] <= 1
