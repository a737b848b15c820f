"""No prompt shows a row that is held out, however the pool writes it; and rows of train may be shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import ConfigError, Demos, Text, optimize
from agent.datasets.data import load
from agent.datasets.pools import overlap
from agent.journal import read_all
from agent.proposers import demosets
from agent.results.result import Result
from tests.prompt_support import TEMPLATE, Task, rows

SPACE = {"instruction": Text("Double it.")}


def run(runs: Path, **given: Any) -> Result:
    more = {"budget": 300, "model": {"task": Task()}, **given}
    return optimize(TEMPLATE + "{demos}", runs=runs, options={"proposer": "tests.prompt_support:Careful"}, **more)


def test_copies_and_near_copies_of_rows_are_found_in_a_pool() -> None:
    held = rows(5, 200)
    near = {**held[1], "question": held[1]["question"].replace(":", " :").upper()}
    assert overlap([rows(1)[0], held[0], near], held) == [1, 2]
    assert overlap(rows(20), held) == [] and overlap([], held) == [] and overlap(held, []) == []


def test_a_candidate_never_shows_a_row_that_is_held_out(tmp_path: Path) -> None:
    everything = rows(150)
    space = {**SPACE, "demos": Demos(everything, k=2)}
    given = {"space": space, "data": everything, "metric": "exact_match", "model": {"task": Task()}, "budget": 400}
    result = run(tmp_path, **given, starts=[{"demos": [place]} for place in range(0, 150, 15)])
    begun = [trial for trial in result.trials if trial.source == "start"]
    assert 1 < len(begun) < 9, "about half of the rows are held out"
    refused = [entry.event for entry in read_all(result.folder) if entry.event.type == "candidate.rejected"]
    assert sum("held-out rows, which no prompt may show" in event.reason for event in refused) == 10 - len(begun)


def test_a_pool_of_held_out_rows_alone_is_refused_before_anything_is_paid(tmp_path: Path) -> None:
    train, val, task = rows(40), rows(100, 200), Task()
    for pool, default, hint in ((val, (), "add rows of train"), (train + val, (60,), "begin with no examples")):
        space = {**SPACE, "demos": Demos(pool, k=2, default=default)}
        with pytest.raises(ConfigError, match="held out") as found:
            run(tmp_path, space=space, data={"train": train, "val": val}, metric="exact_match", model={"task": task})
        assert hint in found.value.hint and not task.requests


HELD = rows(50, 200)


@pytest.mark.parametrize(
    ("pool", "held"),
    [
        ([{**row, "rationale": " ".join(f"so{n}" for n in range(20))} for row in HELD], HELD),
        (HELD, [{**row, "context": f"{n} " + " ".join(f"c{n}{m}" for m in range(40))} for n, row in enumerate(HELD)]),
        ([{"text": row["answer"], "a": row["question"]} for row in HELD], HELD),
        ([f"{row['question']} -> {row['answer']}" for row in HELD], HELD),
        ([{"q": w, "a": "b", "level": "low"} for w in ("oak", "elm")], [{"q": w, "a": "b"} for w in ("oak", "elm")]),
    ],
    ids=["rationale", "without context", "renamed", "plain text", "short"],
)
def test_a_row_that_a_pool_writes_anew_is_found(pool: list[Any], held: list[Any]) -> None:
    assert overlap(pool, held) == list(range(len(pool)))
    assert overlap(pool, rows(50, 400)) == []


def test_a_long_field_that_all_rows_share_makes_no_example_a_copy() -> None:
    task = " ".join(f"word{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(80))
    given = [{"task": task, "question": f"city {a}{b}", "answer": "x"} for a in "bcdfghj" for b in ("al", "er", "os")]
    assert overlap(given[:10], given[10:]) == []


def test_a_row_of_a_held_out_cluster_is_not_shown(tmp_path: Path) -> None:
    data = [{**row, "who": f"w{n}", "part": "train"} for n, row in enumerate(rows(40))]
    data += [{**row, "who": f"w{n + 30}", "part": "val"} for n, row in enumerate(rows(40, 200))]
    examples = load(data, split="part", cluster="who")
    space = {**SPACE, "demos": Demos(data[:40], k=2)}
    result = run(tmp_path, space=space, data=examples, metric="exact_match", starts=[{"demos": [1]}, {"demos": [35]}])
    refused = [entry.event for entry in read_all(result.folder) if entry.event.type == "candidate.rejected"]
    assert sum("held-out rows" in event.reason for event in refused) == 1


def test_only_the_chosen_examples_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.proposers.test_bootstrap import known

    problem = replace(known().problem)
    asked: list[Any] = []
    monkeypatch.setattr(demosets, "row_id", lambda item: asked.append(item) or "r1")
    assert demosets.shown(problem, {"demos": [1]}) == ("r1",) and len(asked) == 1


def test_a_pool_without_a_row_of_train_is_pointed_out() -> None:
    from agent.datasets.pools import note
    from tests.proposers.test_bootstrap import known

    problem = known().problem
    problem = replace(problem, data=tuple(replace(row, split="train") for row in problem.data))
    held = replace(problem, data=(*problem.data[:-1], replace(problem.data[-1], split="val")))
    assert note(problem, {}, ["demos"]) == [], "nothing is held out"
    assert "demos: no example of the pool is a row of train" in note(held, {}, ["demos"])[0]
