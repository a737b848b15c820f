"""Each proposer by its name, in a whole run: what a session asks of it beyond `propose` is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import Float, optimize
from agent.proposers.table import TABLE, load

SEVERAL = ("nsga2", "parego")
"""Refuse a problem with one objective."""
NUMERIC = [
    name
    for name in TABLE
    if name not in SEVERAL and not load(name).needs_model and not getattr(load(name), "texts", False)
]


@pytest.mark.parametrize("name", NUMERIC)
def test_a_run_with_it_gets_better_than_its_start(name: str, tmp_path: Path) -> None:
    space = {"x": Float(0, 1, default=1.0), "y": Float(0, 1, default=0.0)}
    result = optimize(
        lambda values: (values["x"] - 0.3) ** 2 + (values["y"] - 0.6) ** 2,
        space=space,
        model=None,
        budget=12,
        options={"proposer": name},
        deterministic=True,
        runs=tmp_path,
    )
    assert result.status == "exact", result.sentence
    assert result.spent["evaluations"] <= 12


def test_the_list_has_the_usual_ones() -> None:
    assert {"cmaes", "catcma", "gp", "tpe", "random", "coordinate"} <= set(NUMERIC)
