"""The stream of linear systems: the solver, the bandits on it, and the tuned policy."""

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

from tests.examples.support import EXAMPLES, modules, ran

FOLDER = EXAMPLES / "relax"


@pytest.fixture
def sor() -> Iterator[Any]:
    with modules("relax", "sor") as (made,):
        yield made


@pytest.fixture
def evaluate() -> Iterator[Any]:
    with modules("relax", "evaluate") as (made,):
        yield made


# The solver.


def plain(shift: float, seed: int, omega: float, size: int) -> tuple[int, Any]:
    """SOR point by point, red ones first; gives the iterations and the error against a direct solution."""
    b = np.random.default_rng(seed).standard_normal((size, size))
    line = np.eye(size) * 2 - np.eye(size, k=1) - np.eye(size, k=-1)
    matrix = np.kron(line, np.eye(size)) + np.kron(np.eye(size), line) + shift * np.eye(size * size)
    flat, x = b.ravel(), np.zeros(size * size)
    order = sorted(range(size * size), key=lambda k: (k // size + k % size) % 2)
    for number in range(1, 301):
        for k in order:
            x[k] += omega * (flat[k] - matrix[k] @ x) / matrix[k, k]
        if np.linalg.norm(flat - matrix @ x) < 1e-6 * np.linalg.norm(flat):
            return number, x - np.linalg.solve(matrix, flat)
    return 300, None


@pytest.mark.parametrize(("shift", "omega"), [(0.05, 1.0), (0.05, 1.6), (0.7, 1.3), (2.0, 1.9)])
def test_it_takes_as_many_iterations_as_the_textbook_method(sor: Any, shift: float, omega: float) -> None:
    used, error = plain(shift, 3, omega, 7)
    assert sor.iterations(shift, 3, [omega], size=7).tolist() == [used]
    assert np.abs(error).max() < 1e-4


def test_several_omegas_at_once_are_several_solves(sor: Any) -> None:
    omegas = [1.0, 1.2, 1.5, 1.8, 1.95]
    together = sor.iterations(0.3, 5, omegas, size=9)
    assert together.tolist() == [int(sor.iterations(0.3, 5, [omega], size=9)[0]) for omega in omegas]
    assert len(set(together.tolist())) > 3


def test_a_solve_is_given_up_at_the_cap(sor: Any) -> None:
    assert sor.iterations(0.05, 1, [1.0, 1.6], cap=60).tolist()[0] == 60
    assert sor.iterations(0.0, 1, [1.99]).tolist() == [sor.CAP]


def test_the_formula_from_the_spectrum_is_nearly_the_best_there_is(sor: Any) -> None:
    for shift in (0.05, 0.3, 2.0):
        grid = np.linspace(1.0, 1.95, 39)
        best = sor.iterations(shift, 7, grid).min()
        assert best <= sor.iterations(shift, 7, [sor.young(shift)])[0] <= best + 3
    assert sor.young(0.05) > sor.young(0.3) > sor.young(2.0) > 1


@pytest.mark.parametrize(
    ("shift", "omegas"), [(-0.1, [1.5]), (math.nan, [1.5]), (0.1, [2.0]), (0.1, [0.0]), (0.1, [1.5, math.nan])]
)
def test_what_is_no_such_system_is_refused(sor: Any, shift: float, omegas: list[float]) -> None:
    with pytest.raises(ValueError, match="omegas in"):
        sor.iterations(shift, 1, omegas)


def test_the_context_is_the_place_of_the_shift(sor: Any) -> None:
    low, high = sor.SHIFTS
    assert [sor.place(s) for s in (low / 9, low, math.sqrt(low * high), high, 9 * high)] == pytest.approx(
        [-1, -1, 0, 1, 1]
    )
    systems = sor.instances(50, 1)
    assert systems == sor.instances(50, 1) != sor.instances(50, 2)
    assert all(low <= shift <= high for shift, _ in systems)


# The stream.


def test_the_bandits_end_between_the_default_and_hindsight() -> None:
    command = [sys.executable, str(FOLDER / "stream.py"), "--systems", "400", "--size", "8", "--json"]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout)
    used = {name.partition(" (")[0]: row["iterations"] for name, row in told["methods"].items()}
    late = {name.partition(" (")[0]: row["second_half"] for name, row in told["methods"].items()}
    fixed, optimum = used["best fixed omega in hindsight"], used["best omega of the grid for each system"]
    assert used["Young's formula, from the spectrum"] < 1.05 * optimum
    assert optimum < used["inverse-gap, sees the shift"] < used["Tsallis-INF"] < used["omega = 1"]
    assert optimum < fixed < used["Tsallis-INF"]
    assert late["inverse-gap, sees the shift"] < late["best fixed omega in hindsight"], "it does not use the shift"
    assert late["Tsallis-INF"] < used["Tsallis-INF"] / 400, "it does not learn"


def test_the_table_and_the_plot(tmp_path: Path) -> None:
    plot = tmp_path / "out.svg"
    command = [sys.executable, str(FOLDER / "stream.py"), "--systems", "30", "--size", "6", "--plot", str(plot)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout
    assert "Tsallis-INF" in out and "per system" in out
    svg = plot.read_text()
    assert svg.startswith("<svg") and svg.count("<polyline") == 6 and "nan" not in svg
    few = subprocess.run([*command[:2], "--systems", "2"], capture_output=True, text=True, check=False, timeout=100)
    assert few.returncode == 2 and "at least 10 systems" in few.stderr


# The problem.


def test_the_policy_follows_the_shift(evaluate: Any) -> None:
    flat = {"level": 1.5, "slope": 0.0, "bend": 0.0}
    assert evaluate.omega(flat, 0.05) == evaluate.omega(flat, 2.0) == 1.5
    tilted = {"level": 1.4, "slope": -0.2, "bend": 0.05}
    assert evaluate.omega(tilted, 0.05) == pytest.approx(1.65) and evaluate.omega(tilted, 2.0) == pytest.approx(1.25)
    assert evaluate.omega({"level": 1.9, "slope": -0.5, "bend": 0.25}, 0.05) == 1.95
    assert evaluate.omega({"level": 1.0, "slope": -0.5, "bend": 0.0}, 2.0) == 1.0
    row = {"shift": 0.06, "seed": 1}
    assert evaluate.measure(tilted, row)["iterations"] < evaluate.measure(flat, row)["iterations"] <= evaluate.LIMIT


def test_a_run_proves_the_gain_on_systems_that_nobody_searched_on(tmp_path: Path) -> None:
    options = ("--proposer", "coordinate", "--seed", 0, "--evaluations", 1300, "--set", "gate.report=false")
    result = ran("relax", tmp_path, *options)
    assert result["status"] == "proven" and result["best"]["slope"] < 0
