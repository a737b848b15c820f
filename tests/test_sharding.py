"""`truegain eval` and `merge`: one candidate on the train rows, on one machine or on several."""

from __future__ import annotations

import fcntl
import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.events import RunStarted
from agent.journal import read
from agent.problem import Example
from agent.shardfiles import Shard, load
from tests.cli_helpers import Ran, begin, call, kill

ROOT = str(Path(__file__).parents[1])
EVALUATE = """
import pathlib, time
HERE = pathlib.Path(__file__).parent

def measure(candidate, example):
    with open(HERE / "begun", "a") as file:
        file.write(example["q"] + "\\n")
    while example["q"] == "hold" and not (HERE / "go").exists():
        time.sleep(0.02)
    if example["n"] % 7 == 3:
        raise ValueError(f"row {example['n']} is odd")
    return {"share": 1 / (1 + abs(candidate["x"] - example["n"] / 10)), "size": example["n"] / 3}
"""
TOML = """
[evaluator]
function = "evaluate:measure"
deterministic = true
timeout = 20

[space.x]
type = "float"
low = -10
high = 10
default = 1.0

[[objectives]]
name = "share"
direction = "maximize"
floor = 0.0

[[constraints]]
name = "size"
max = 100

[budget]
evaluations = 100

[proposer]
name = "random"
"""
SUITE = '\n[data]\nfile = "rows.jsonl"\ntarget = "suite"\n'
SPLIT = '\n[data]\ntrain = "train.jsonl"\nval = "val.jsonl"\ntest = "test.jsonl"\n'


def rows(count: int, word: str = "question", **more: Any) -> str:
    return "".join(json.dumps({"id": f"{word}-{n}", "q": f"{word} {n}", "n": n, **more}) + "\n" for n in range(count))


@pytest.fixture
def problem(tmp_path: Path) -> Path:
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / "problem.toml").write_text(TOML + SUITE)
    (folder / "evaluate.py").write_text(EVALUATE)
    (folder / "rows.jsonl").write_text(rows(30))
    return folder


def evaluated(problem: Path, *more: object) -> Ran:
    return call("eval", problem, *more, "--json", cwd=problem.parent)


def measured(problem: Path) -> int:
    file = problem / "begun"
    return len(file.read_text().splitlines()) if file.exists() else 0


def error(ran: Ran) -> str:
    assert ran.code != 0
    found = ran.json["error"]
    return f"{found['message']} — {found['hint']}"


@pytest.mark.parametrize("of", [1, 2, 7, 30])
def test_shards_are_disjoint_complete_and_even(of: int) -> None:
    examples = [Example(f"row {n}", n) for n in range(30)]
    parts = [[row.id for row in Shard(k + 1, of).rows(examples)] for k in range(of)]
    assert sorted(name for part in parts for name in part) == sorted(row.id for row in examples)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert parts == [[row.id for row in Shard(k + 1, of).rows(examples[::-1])] for k in range(of)]


@pytest.mark.parametrize("text", ["0/8", "9/8", "2", "2/", "/8", "-1/8", "a/b", "1/0", "²/8"])
def test_there_is_no_such_shard(problem: Path, text: str) -> None:
    assert "allowed is K/N" in error(evaluated(problem, "--shard", text))
    assert not measured(problem)


def test_merged_shards_give_the_numbers_of_one_evaluation(problem: Path) -> None:
    whole = evaluated(problem)
    assert whole.code == 0 and whole.json["rows"] == 30 and whole.json["failed"] == 4
    for k in (3, 1, 2):
        part = evaluated(problem, "--shard", f"{k}/3", "--out", f"{k}.jsonl").json
        assert (part["rows"], part["of"], part["shard"]) == (10, 30, f"{k}/3")
    merged = call("merge", "2.jsonl", "3.jsonl", "1.jsonl", "--json", cwd=problem.parent).json
    for report in (merged, one := whole.json):
        for passing in ("seconds", "usd"):
            report["spent"].pop(passing)
        report.pop("file")
    assert merged == one
    # A failed row counts with the objective's floor; a constraint has none, so it has no mean.
    expected = math.fsum(1 / (1 + abs(1 - n / 10)) for n in range(30) if n % 7 != 3) / 30
    assert merged["means"] == {"share": pytest.approx(expected, rel=1e-15), "size": None}
    assert measured(problem) == 60 == 2 * merged["spent"]["evaluations"]


def test_for_people(problem: Path) -> None:
    first = call("eval", problem, "--shard", "1/2", "--out", "1.jsonl", cwd=problem.parent)
    assert "15 of 30 train rows, shard 1/2" in first.out and "Next: truegain merge 1.jsonl" in first.out
    call("eval", problem, "--shard", "2/2", "--out", "2.jsonl", cwd=problem.parent)
    both = call("merge", "1.jsonl", "2.jsonl", cwd=problem.parent)
    assert both.code == 0
    assert "30 of 30 train rows" in both.out and "Nothing is claimed" in both.out and "4 failed: error: " in both.out


def test_merge_refuses_what_does_not_go_together(problem: Path) -> None:
    home = problem.parent
    for k in (1, 2, 3):
        evaluated(problem, "--shard", f"{k}/3", "--out", f"{k}.jsonl")
    evaluated(problem, "--shard", "3/4", "--out", "other-number.jsonl")
    (home / "x.json").write_text('{"x": 2.0}')
    evaluated(problem, "--shard", "3/3", "--values", "x.json", "--out", "other-candidate.jsonl")
    evaluated(problem, "--shard", "3/3", "--seed", 9, "--out", "other-seed.jsonl")
    (problem / "evaluate.py").write_text(EVALUATE + "\nCHANGED = True\n")
    evaluated(problem, "--shard", "3/3", "--out", "other-evaluator.jsonl")
    lines = (home / "3.jsonl").read_text().splitlines()
    (home / "cut.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    (home / "stray.jsonl").write_text("\n".join(lines).replace("question-", "answer-") + "\n")
    (home / "text.jsonl").write_text("hello\n")
    (home / "list.jsonl").write_text("[1]\n")
    (home / "empty.jsonl").write_text("")
    (home / "newer.jsonl").write_text('{"format": 99}\n')
    for third, words in (
        (None, "shard 3/3 is missing"),
        ("2.jsonl", "both shard 2/3"),
        ("other-number.jsonl", "another number of shards"),
        ("other-candidate.jsonl", "another candidate"),
        ("other-seed.jsonl", "another seed"),
        ("other-evaluator.jsonl", "the evaluator, the data or the problem is another one"),
        ("cut.jsonl", "has 9 of its 10 rows — run it again with --shard 3/3 --out cut.jsonl"),
        ("stray.jsonl", "do not hold the rows of their shards"),
        ("text.jsonl", "text.jsonl is no result file: its line 1 is no JSON — name files"),
        ("list.jsonl", "is no result file"),
        ("empty.jsonl", "is empty"),
        ("newer.jsonl", "another version"),
        ("nowhere.jsonl", "No such file"),
    ):
        files = ["1.jsonl", "2.jsonl", *([third] if third else [])]
        refused = call("merge", *files, "--json", cwd=home)
        assert words in error(refused) and refused.code == 2, third


def test_a_killed_evaluation_goes_on_and_pays_for_no_row_twice(problem: Path) -> None:
    (problem / "rows.jsonl").write_text(rows(12) + json.dumps({"id": "last", "q": "hold", "n": 1}) + "\n")
    process = begin("eval", problem, "--out", "out.jsonl", cwd=problem.parent, PYTHONPATH=ROOT)
    file = problem.parent / "out.jsonl"
    end = time.monotonic() + 60
    while "hold" not in ((problem / "begun").read_text() if (problem / "begun").exists() else ""):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    kill(process)
    before, there = measured(problem), len(load(file).rows)
    with file.open("ab") as torn:
        torn.write(b'{"row": "question-3", "val')  # and the disk was full
    (problem / "go").touch()
    ran = evaluated(problem, "--out", "out.jsonl")
    assert ran.code == 0 and ran.json["rows"] == 13
    assert f"{there} rows are in out.jsonl already" in ran.err or there == 0
    assert measured(problem) == before + 13 - there
    assert ran.json["spent"] == {**ran.json["spent"], "evaluations": 13, "possibly": before - there} and before > there
    again = evaluated(problem, "--out", "out.jsonl")  # nothing is left to do
    assert again.json == ran.json and measured(problem) == before + 13 - there


def test_val_and_test_rows_are_not_touched(problem: Path) -> None:
    (problem / "problem.toml").write_text(TOML + SPLIT)
    for n, name in enumerate(("train", "val", "test")):
        (problem / f"{name}.jsonl").write_text(rows(20 + n, f"of-{name}"))
    ran = call("eval", problem, cwd=problem.parent)
    assert ran.code == 0 and "20 of 20 train rows" in ran.out
    seen = (problem / "begun").read_text()
    (file,) = problem.parent.glob("eval-*.jsonl")
    for text in (seen, ran.out, file.read_text()):
        assert "of-val" not in text and "of-test" not in text
    assert seen.count("of-train") == 20


def test_rows_without_splits_are_divided_as_a_run_divides_them(problem: Path) -> None:
    (problem / "problem.toml").write_text(TOML.replace("100", "900") + SUITE.replace("suite", "population"))
    (problem / "rows.jsonl").write_text(
        "".join(json.dumps({"id": f"{n}", "q": f"{n * 7919 % 1009} {n * n}", "n": n}) + "\n" for n in range(120))
    )
    assert call("run", problem, "--evaluations", 700, "--runs", "runs", cwd=problem.parent).code in (0, 3)
    (run,) = (problem.parent / "runs").glob("p-*")
    started = next(iter(read(run))).event
    assert isinstance(started, RunStarted)
    (problem / "begun").unlink()
    ran = evaluated(problem, "--runs", "runs")
    assert ran.code == 0 and 0 < ran.json["rows"] < 120
    assert measured(problem) == ran.json["rows"] == len(started.problem["examples"])


def test_limits_hold(problem: Path) -> None:
    words = error(evaluated(problem, "--evaluations", 29))
    assert "takes 30 evaluations, and 29 are allowed — --evaluations 30" in words and not measured(problem)
    words = error(evaluated(problem, "--seconds", "1e-9"))
    assert "limit of 1e-09 seconds" in words and "goes on" in words and not measured(problem)
    assert evaluated(problem, "--evaluations", 30).json["rows"] == 30


def test_another_candidate(problem: Path) -> None:
    home = problem.parent
    (home / "plain.json").write_text('{"x": 2.5}')
    (home / "exported.json").write_text('{"run": "r", "status": "proven", "candidate": {"x": 2.5}, "released": {}}')
    found = [evaluated(problem, "--values", name, "--out", f"{name}l").json for name in ("plain.json", "exported.json")]
    assert found[0]["values"] == {"x": 2.5} and found[0]["means"] == found[1]["means"]
    assert found[0]["candidate"] == found[1]["candidate"] != evaluated(problem).json["candidate"]
    for text, words in (
        ('{"y": 1}', "y: there is no such parameter"),
        ('{"x": 99}', "--values bad.json: x"),
        ('{"x": "much"}', "--values bad.json: x"),
        ("[1]", "no JSON object"),
        ("{", "--values bad.json is not JSON: line 1, column 2: "),
    ):
        (home / "bad.json").write_text(text)
        assert words in error(evaluated(problem, "--values", "bad.json")), text
    assert "--values gone.json cannot be read: No such file" in error(evaluated(problem, "--values", "gone.json"))


def test_a_file_of_something_else_is_not_overwritten(problem: Path) -> None:
    evaluated(problem, "--out", "out.jsonl")
    before = (problem.parent / "out.jsonl").read_bytes()
    assert "holds another evaluation" in error(evaluated(problem, "--shard", "1/2", "--out", "out.jsonl"))
    (problem.parent / "notes.txt").write_text("do not lose me\n")
    assert "is no result file" in error(evaluated(problem, "--out", "notes.txt"))
    assert (problem.parent / "out.jsonl").read_bytes() == before
    assert (problem.parent / "notes.txt").read_text() == "do not lose me\n"
    (problem.parent / "values.json").write_text('{"x": 2.0}')  # without the end of a line it is no record cut off
    assert "is no result file" in error(evaluated(problem, "--out", "values.json"))
    assert (problem.parent / "values.json").read_text() == '{"x": 2.0}'
    with (problem.parent / "out.jsonl").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "another process writes out.jsonl" in error(evaluated(problem, "--out", "out.jsonl"))


def test_a_broken_evaluator_is_no_success(problem: Path) -> None:
    (problem / "evaluate.py").write_text("def measure(candidate, example):\n    raise OSError('no disk')")
    ran = evaluated(problem)
    assert ran.code == 3 and ran.json["failed"] == 30 and ran.json["failures"] == ["error: OSError: no disk"]
    assert ran.json["means"] == {"share": 0.0, "size": None}


def test_what_looks_like_a_key_is_not_written(problem: Path) -> None:
    key = "sk-ant-api03-" + "Ab3dEf6h" * 11
    (problem / "evaluate.py").write_text(f"def measure(candidate, example):\n    raise OSError('refused {key}')")
    ran = evaluated(problem, "--out", "out.jsonl")
    assert "refused" in ran.out and key not in ran.out + ran.err + (problem.parent / "out.jsonl").read_text()


def test_a_problem_without_data_is_measured_once(problem: Path) -> None:
    (problem / "problem.toml").write_text(TOML)
    (problem / "evaluate.py").write_text("def measure(candidate):\n    return {'share': candidate['x'], 'size': 1}")
    ran = evaluated(problem)
    assert ran.code == 0 and ran.json["means"] == {"share": 1.0, "size": 1.0} and ran.json["rows"] == 1
    assert "this problem has no rows to share out — leave --shard out" in error(evaluated(problem, "--shard", "1/2"))


def test_a_result_file_cannot_be_read_twice_over(problem: Path) -> None:
    """The same row twice, as a file that was pasted together has it: the first one counts."""
    evaluated(problem, "--out", "out.jsonl")
    file = problem.parent / "out.jsonl"
    before = load(file).report()
    with file.open("a") as more:
        more.write(json.dumps({"id": "question-1", "values": {"share": 1e9, "size": 0}}) + "\n")
    assert load(file).report() == before
    file.write_text('{"format": 1}\n')
    with pytest.raises(ConfigError, match="no result file"):
        load(file)


def test_merge_refuses_a_doctored_file(problem: Path) -> None:
    for k in (1, 2):
        evaluated(problem, "--shard", f"{k}/2", "--out", f"{k}.jsonl")
    first, *lines = (problem.parent / "1.jsonl").read_text().splitlines()
    place = next(n for n, line in enumerate(lines) if '"size":' in line)
    head, row = json.loads(first), json.loads(lines[place])
    good = row["values"]
    for change, words in (
        ({"values": {**good, "share": math.nan}}, "share of row"),
        ({"values": {**good, "share": math.inf}}, "no finite number"),
        ({"values": {**good, "share": "1"}}, "is '1', which is no finite number"),
        ({"values": {**good, "share": True}}, "no finite number"),
        ({"values": {**good, "share": 1.5e308}}, "no measurement is beyond"),
        ({"values": {**good, "more": math.nan}}, "more of row"),
        ({"values": {"share": 0.5}}, "has no size"),
        ({"values": {}}, "has no share"),
        ({"values": [1]}, "has no share"),
        ({"values": 7}, "is no result file"),
        ({"values": {**good, "share": 10**400}}, "is no result file"),
        ({"id": 7}, "a row without a name"),
        ({"failure": ["words"]}, "a row without a name"),
        ({"usd": math.nan}, "usd of row"),
        ({"seconds": -1.0}, "seconds of row"),
        ({"more": 1}, "is no result file"),
        ({"id": "question-99"}, "has ended and was never begun"),
    ):
        text = "\n".join([first, *lines[:place], json.dumps({**row, **change}), *lines[place + 1 :]])
        (problem.parent / "x.jsonl").write_text(text + "\n")
        assert words in error(call("merge", "x.jsonl", "2.jsonl", "--json", cwd=problem.parent)), change
    for change, words in (
        ({"goals": {**head["goals"], "share": 5.0}}, "other goals, or other scores for failed rows"),
        ({"goals": {"share": 0.0}}, "other goals"),
        ({"goals": {**head["goals"], "share": math.nan}}, "share is nan"),
        ({"goals": ["share", "size"]}, "is no result file"),
        ({"values": {"x": 2.0}}, "its values are not those of its candidate"),
        ({"values": {"x": "[redacted]"}}, "other values for the same candidate"),
        ({"shard": 0}, "K from 1 to N"),
        ({"shard": "1"}, "shard, shards and rows are '1', 2 and 30"),
        ({"shards": 31}, "are 1, 31 and 30"),
        ({"rows": 10**12}, "has 15 of its 500000000000 rows"),
    ):
        text = "\n".join([json.dumps({**head, **change}), *lines])
        (problem.parent / "x.jsonl").write_text(text + "\n")
        for files in (("x.jsonl", "2.jsonl"), ("2.jsonl", "x.jsonl")):
            assert words in error(call("merge", *files, "--json", cwd=problem.parent)), change
