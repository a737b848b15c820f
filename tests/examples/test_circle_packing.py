"""26 circles in a square: what is exactly valid counts, and what is nearly valid does not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from agent.evaluation import Output, Request
from agent.space import Candidate
from tests.examples.support import EXAMPLES, modules, outputs, ran

FOLDER = EXAMPLES / "circle-packing"
pytest.importorskip("scipy")


def touching(slack: float = 0.0) -> list[list[float]]:
    """Rows of 5, 5, 5, 5 and 6; those of 6 are a sixth wide, and all are enlarged by the slack."""
    rows = [(5, 0.1, 0.1 + 0.2 * k) for k in range(4)] + [(6, 1 / 12, 1 - 1 / 12)]
    return [[(2 * k + 1) * half, y, half + slack] for count, half, y in rows for k in range(count)]


EXACT = [[(2 * k + 1) / 16, (2 * j + 1) / 16, 1 / 16] for j in range(4) for k in range(8)][:26]
"""Circles that touch, at places that floats hold exactly."""


def test_circles_that_touch_are_valid_and_the_least_overlap_is_not() -> None:
    with modules("circle-packing", "exact") as (exact,):
        fault, total = exact.fault, exact.total
    assert fault(EXACT) == "" and total(EXACT) == 26 / 16
    for number, (place, by) in enumerate(((0, -(2.0**-56)), (2, 2.0**-56))):  # a rounding error's worth
        nearly = [list(circle) for circle in EXACT]
        nearly[0][place] += by
        assert nearly != EXACT, number
        assert "leaves the square" in fault(nearly) or "overlap" in fault(nearly)
    inside = [list(circle) for circle in EXACT]
    inside[9][2] += 2.0**-55
    assert "overlap" in fault(inside)
    negative = [list(circle) for circle in EXACT]
    negative[5][2] = -1.0
    assert "negative" in fault(negative)


async def given(*programs: str) -> list[Output]:
    return await outputs("circle-packing", *(Request(Candidate({"program": program})) for program in programs))


def returning(circles: Any) -> str:
    return f"from math import nan, inf\n\n\ndef pack(count):\n    return {circles!r}\n"


async def test_a_scripted_improvement_passes_and_what_is_nearly_valid_or_no_number_does_not() -> None:
    small = [[x, y, r * (1 - 1e-12)] for x, y, r in touching()]
    nan = [[math.nan, 0.5, 0.5], *small[1:]]
    within = touching(1e-6)  # a check with a tolerance of 1e-6 would let it pass
    found = await given(
        returning(EXACT),
        returning(small),
        returning(nan),
        returning(within),
        returning(small[:25]),
        returning([1] * 26),
    )
    plain, better, *bad = found
    assert plain.failure is None and plain.value["values"]["radii"] == 26 / 16
    assert better.failure is None and better.value["values"]["radii"] == pytest.approx(2.5, abs=1e-9)
    for output, why in zip(bad, ("NaN", "leaves the square", "26", "array"), strict=True):
        assert output.failure is not None and output.failure.kind == "invalid"
        assert why in output.failure.message, output.failure.message


async def test_the_initial_program_and_any_of_its_versions_are_exactly_valid() -> None:
    text = (FOLDER / "pack.py").read_text(encoding="utf-8")
    versions = [text.replace("seed = tune(0,", f"seed = tune({seed},") for seed in (0, 6, 77)]
    for output in await given(*versions):
        assert output.failure is None, output.failure
        assert output.value["values"]["radii"] < 2.64


def test_tuning_without_a_model_reaches_2_62(tmp_path: Path) -> None:
    options = ("--model", "none", "--proposer", "tune", "--evaluations", 10, "--seed", 1)
    result = ran("circle-packing", tmp_path, *options, "--set", "evaluator.sandbox.unsafe=true")
    assert result["status"] == "exact"
    assert result["verdict"]["after"] >= 2.62
