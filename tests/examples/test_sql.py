"""SQL as code: what is a right result, and what a query may not do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from agent.config import load
from agent.evaluation import Output, Request
from agent.space import Candidate
from tests.examples.support import EXAMPLES, modules, outputs


def candidate(**queries: str) -> Candidate:
    initial = load(EXAMPLES / "sql").problem.initial()
    tree = {**initial["queries"], **{f"queries/{name}.sql": text for name, text in queries.items()}}
    return Candidate({**initial, "queries": tree})


def right(output: Output) -> float:
    assert output.failure is None, output.failure
    return float(output.value["values"]["right"])


async def test_queries_are_right_by_their_results_and_the_numbers_count() -> None:
    with modules("sql", "shop") as (shop,):
        answers = {name: query for name, (_, query) in shop.QUESTIONS.items()}
    initial = candidate()
    names = ("lines", "rank", "shown")
    found = await outputs(
        "sql",
        Request(initial),
        Request(candidate(**answers)),
        Request(candidate(**answers), stage="confirm", seed=5),
        Request(Candidate({**initial, **dict(zip(names, (3, 1, 3), strict=True))})),
    )
    first, all_right, elsewhere, tuned = map(right, found)
    assert first < 0.25 and all_right == elsewhere == 1.0
    assert tuned == pytest.approx(first + 3 / 12, abs=0.07)
    assert "wrong: abroad, average, big," in found[0].value["feedback"]
    assert not found[1].value["feedback"].startswith("wrong")


HOSTILE = {
    "write": "DELETE FROM customers",
    "pragma": "PRAGMA query_only = OFF",
    "attach": "ATTACH 'x.db' AS other",
    "two": "SELECT 1; SELECT 2",
    "load": "SELECT load_extension('x')",
    "endless": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
    "many": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT n FROM t",
    "none": "",
    "unknown": "SELECT :nobody",
    "binary": "SELECT x'00ff'",
}


def test_a_query_can_only_read_and_has_little_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "queries").mkdir()
    (tmp_path / "numbers.json").write_text("{}")
    (tmp_path / "harness.py").write_text((EXAMPLES / "sql" / "harness.py").read_text())
    for name, text in {**HOSTILE, "plain": "SELECT count(*) FROM customers"}.items():
        (tmp_path / "queries" / f"{name}.sql").write_text(text)
    with modules("sql", "shop") as (shop,):
        script = shop.script("test")
    space: dict[str, Any] = {"__file__": str(tmp_path / "harness.py"), "__name__": "harness"}
    exec((tmp_path / "harness.py").read_text(), space)
    found = space["answers"](script)
    assert found["plain"] == {"rows": [[10]]}
    assert found["binary"] == {"rows": [["b'\\x00\\xff'"]]} and found["none"] == {"rows": []}
    for name, why in {
        "write": "not authorized",
        "pragma": "not authorized",
        "attach": "not authorized",
        "two": "one statement",
        "load": "not authorized",
        "endless": "interrupted",
        "many": "more than 200 rows",
        "unknown": "nobody",
    }.items():
        assert why in found[name].get("failed", ""), (name, found[name])


def test_results_are_compared_as_sets_with_counts_or_in_order() -> None:
    with modules("sql", "task") as (task,):
        same = task.same
        assert same([[1, None], ["a", 2.0]], [("a", 2), (1, None)], False)
        assert not same([[1], [2]], [[2], [1]], True) and same([[1], [2]], [[2], [1]], False)
        assert not same([[1]], [[1], [1]], False) and not same([[1, 1]], [[1]], False)
        assert same([[0.1 + 0.2]], [[0.3]], True) and not same([[0.301]], [[0.3]], True)
        assert not same([["1"]], [[1]], False)


@pytest.mark.parametrize(
    "answer",
    [
        {"rows": [[""], ["Ada"]]},
        {"rows": [[None], ["a"], [1], [""]]},
        {"rows": [[[1]], [{"a": 1}], [True], [0.5]]},
        {"rows": [[float("nan")], [2**70], [1.5]]},
        {"rows": 5},
        {"rows": [5]},
        {"rows": ["ab", None]},
        {"rows": None},
        {"failed": 5},
        {"failed": None},
        {},
    ],
    ids=str,
)
def test_a_wrong_answer_of_any_form_is_wrong_and_no_failure_of_the_scorer(answer: dict[str, Any]) -> None:
    with modules("sql", "task") as (task,):
        right = {name: {"rows": [list(row) for row in wanted[0][0]]} for name, wanted in task.expected("a").items()}
        for name in right:
            score = task.Task().score("a", {**right, name: answer})
            assert score["right"] == pytest.approx(1 - 1 / len(right))
            assert name in score["feedback"]


def test_rows_of_any_values_have_one_order() -> None:
    values = [None, "", "0", 0, 0.0, 1e-9, True, "a", 2, 2.5]
    with modules("sql", "task") as (task,):
        rows = [[value, other] for value in values for other in values]
        assert task.same(rows, rows[::-1], False)


def test_shops_differ_and_no_question_is_trivial() -> None:
    with modules("sql", "task", "shop") as (task, shop):
        assert len({shop.script(name) for name in task.SHOPS}) == len(task.SHOPS)
        for name in task.SHOPS:
            assert all(results[0] for results, _ in task.expected(name).values()), "a result has rows"


def test_the_queries_of_the_data_set_are_right_where_it_is_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.environ.get("TRUEGAIN_DATA")
    if not data or not (Path(data) / "sql" / "questions.jsonl").is_file():
        pytest.skip("the shared data is not here: TRUEGAIN_DATA names no folder with it")
    import sqlite3

    monkeypatch.setenv("SQL_DB", "restaurants")
    with modules("sql", "task", "shop") as (task, shop):
        script, questions = shop.given()
        base = sqlite3.connect(":memory:")
        base.executescript(script)
        wanted = task.expected("given")
        assert len(wanted) == len(questions) > 5
        output = {name: {"rows": base.execute(row["gold_sql"][0]).fetchall()} for name, row in questions.items()}
        assert task.Task().score("given", output)["right"] == 1.0
        output[next(iter(output))] = {"rows": [["nothing"]]}
        assert task.Task().score("given", output)["right"] == pytest.approx(1 - 1 / len(wanted))
        assert task.Task().inputs(0, "train") == ["given"]


def test_a_problem_folder_is_written_for_a_real_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.environ.get("TRUEGAIN_DATA")
    if not data or not (Path(data) / "sql" / "questions.jsonl").is_file():
        pytest.skip("the shared data is not here: TRUEGAIN_DATA names no folder with it")
    monkeypatch.setenv("SQL_DB", "broker")
    with modules("sql", "real", "shop") as (real, shop):
        real.write("broker", tmp_path / "broker")
        queries = load(tmp_path / "broker").problem.initial()["queries"]
        assert len(queries) == len(shop.given()[1]) > 5
    assert all(text.startswith("-- ") and "\nSELECT * FROM sb" in text for text in queries.values())
