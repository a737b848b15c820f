"""problem.toml: what is read from it, and that each error names file, key, what was found and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.config import Setup, load
from agent.errors import ConfigError
from agent.parameters import Categorical, Float, Int
from agent.texts import Text

GOOD = """
name = "bowl"
description = "A bowl."
data = "rows.jsonl"

[evaluator]
function = "evaluate:measure"
exclusive = true
deterministic = true
executor = "subprocess"
isolate = true
timeout = 3
memory_mb = 200
env = { MODE = "fast" }

[space.x]
type = "float"
low = 0
high = 1.5

[space.n]
type = "int"
low = 1
high = 9

[space.kind]
type = "categorical"
choices = ["a", 1, true]

[space.prompt]
type = "text"
file = "prompt.txt"

[[objectives]]
name = "time"
unit = "ms"
min_effect_relative = 0.01

[[objectives]]
name = "share"
direction = "maximize"
floor = 0

[[constraints]]
name = "size"
max = 3

[budget]
evaluations = 50
usd = 1

[models]
propose = "openai:small"
judge = "local:tiny"
base_url = "http://localhost:1"

[proposer]
name = "evollm"
options = { population = 3 }

[gate]
level = 0.1
exam_pairs = 8

[run]
seed = 7
workers = 2

[prices."openai:small"]
input = 1
output = 2.5
cache_written = 1.25
"""

MINIMAL = """
[evaluator]
function = "evaluate:measure"
[space.x]
type = "float"
low = 0
high = 1
[[objectives]]
name = "value"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prompt.txt").write_text("Be kind.")
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "q": 1}\n{"id": "b", "q": 2}\n')
    return tmp_path


def write(folder: Path, text: str | bytes) -> Path:
    (folder / "problem.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def refused(folder: Path, text: str | bytes, overrides: dict[str, Any] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(write(folder, text), overrides)
    assert str(folder) in caught.value.message, "the file is not named"
    assert caught.value.exit_code == 2
    return caught.value


def test_every_section_is_read(folder: Path) -> None:
    setup = load(write(folder, GOOD))
    problem, settings = setup.problem, setup.settings
    assert (problem.name, problem.description, problem.deterministic) == ("bowl", "A bowl.", True)
    assert dict(problem.space) == {
        "x": Float(0, 1.5),
        "n": Int(1, 9),
        "kind": Categorical(("a", 1, True)),
        "prompt": Text("Be kind."),
    }
    assert [(goal.name, goal.direction, goal.floor) for goal in problem.objectives] == [
        ("time", "minimize", None),
        ("share", "maximize", 0),
    ]
    assert problem.names == ("time", "share", "size") and problem.constraints[0].max == 3
    assert [(example.id, example.row["q"]) for example in problem.data] == [("a", 1), ("b", 2)]
    assert (problem.limits.seconds, problem.limits.memory_mb) == (3, 200)
    assert problem.evaluator.exclusive
    assert problem.prices == {"openai:small": {"input": 1, "output": 2.5, "cache_written": 1.25}}
    assert setup.budget.to_json() == {"evaluations": 50, "usd": 1}
    assert (settings.proposer, settings.options) == ("evollm", {"population": 3})
    assert settings.models == {"propose": "openai:small", "judge": "local:tiny"}
    assert (settings.workers, settings.executor, settings.isolate) == (2, "subprocess", True)
    assert (settings.level, settings.exam_pairs) == (0.1, 8)
    assert (setup.seed, settings.base_url, setup.env) == (7, "http://localhost:1", {"MODE": "fast"})


def test_a_short_file_gets_defaults_and_the_name_of_its_folder(folder: Path) -> None:
    setup = load(write(folder, MINIMAL) / "problem.toml")
    assert setup.problem.name == folder.name
    assert setup.settings.models == {"propose": "local:smollm2-135m"}
    assert setup.budget.to_json() == {} and setup.seed == 0 and setup.settings.base_url is None


def test_a_command_can_measure(folder: Path) -> None:
    text = MINIMAL.replace('function = "evaluate:measure"', 'command = ["python", "measure.py"]\nenv = { A = "b" }')
    assert load(write(folder, text)).problem.evaluator.keeps_limits


def test_the_shipped_examples_are_valid() -> None:
    found = list((Path(__file__).parent.parent / "examples").glob("**/problem.toml"))
    assert found
    for path in found:
        assert isinstance(load(path), Setup)


def test_values_of_the_command_line_replace_the_files(folder: Path) -> None:
    setup = load(write(folder, MINIMAL), {"run.workers": 4, "budget.evaluations": 9, "models.propose": "local:x"})
    assert (setup.settings.workers, setup.budget.evaluations) == (4, 9)
    assert setup.settings.models == {"propose": "local:x"}
    error = refused(folder, MINIMAL, {"run.wrokers": 4})
    assert "run.wrokers: unknown key" in error.message and error.hint == "allowed [run]: seed, workers, warm_from"
    error = refused(folder, MINIMAL, {"run.workers": "4"})
    assert "run.workers: found '4'" in error.message
    assert "objectives" in refused(folder, MINIMAL, {"objectives.name": "x"}).message


@pytest.mark.parametrize(
    ("key", "level", "allowed"),
    [
        ("nmae", None, "at the top level: name, description, evaluator, space"),
        ("cmd", "evaluator", "[evaluator]: function, command, ensemble, exclusive"),
        ("goal", "objectives", "[objectives.0]: name, direction, unit"),
        ("most", "constraints", "[constraints.0]: name, max, min, unit"),
        ("money", "budget", "[budget]: evaluations, calls, tokens, usd, seconds"),
        ("proposer", "models", "[models]: propose, task, judge, critic, embed, base_url"),
        ("nmae", "proposer", "[proposer]: name, options"),
        ("alpha", "gate", "[gate]: baseline, race_shortest, race_longest, exam_pairs, level"),
        ("threads", "run", "[run]: seed, workers"),
        ("in", 'prices."openai:small"', "[prices.openai:small]: input, output, cached, cache_written"),
    ],
)
def test_an_unknown_key_names_what_is_allowed_there(folder: Path, key: str, level: str | None, allowed: str) -> None:
    if level is None:
        text = f"{key} = 3\n{GOOD}"
    else:
        mark = f"[[{level}]]" if level in ("objectives", "constraints") else f"[{level}]"
        text = GOOD.replace(mark, f"{mark}\n{key} = 3\n", 1)
    error = refused(folder, text)
    assert f"{key}: unknown key" in error.message and allowed in error.hint


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("evaluations = 50", 'evaluations = "50"', ["budget.evaluations", "'50'", "integer"]),
        ("evaluations = 50", "evaluations = 5.5", ["budget.evaluations", "5.5", "integer"]),
        ("evaluations = 50", "evaluations = -1", ["budget.evaluations", "-1", "greater than or equal to 0"]),
        ("usd = 1", "usd = inf", ["budget.usd", "inf", "finite"]),
        ("timeout = 3", "timeout = 0", ["evaluator.timeout", "found 0", "greater than 0"]),
        ("timeout = 3", "timeout = nan", ["evaluator.timeout", "nan", "finite"]),
        ("exclusive = true", 'exclusive = "yes"', ["evaluator.exclusive", "'yes'", "boolean"]),
        (
            'executor = "subprocess"',
            'executor = "thread"',
            ["evaluator.executor", "'thread'", "'inline', 'subprocess' or 'dask'"],
        ),
        ('env = { MODE = "fast" }', "env = { MODE = 1 }", ["evaluator.env.MODE", "found 1", "string"]),
        (
            'direction = "maximize"',
            'direction = "max"',
            ["objectives.1.direction", "'max'", "'minimize' or 'maximize'"],
        ),
        ("floor = 0", "floor = inf", ["objectives.1.floor", "inf", "finite"]),
        ("floor = 0", "floor = 1e200", ["objectives.1.floor", "1e+200", "1e+150"]),
        ('name = "time"\n', "", ["objectives.0.name", "missing"]),
        ("max = 3\n", "", ["constraint size", "bound is missing"]),
        ("max = 3", "max = 3\nmin = 4", ["constraint size", "min (4", "max (3"]),
        ('name = "size"', 'name = "time"', ["declared twice", "time"]),
        ("level = 0.1", "level = 1", ["gate.level", "found 1", "less than 1"]),
        ("exam_pairs = 8", "exam_pairs = 3", ["gate.exam_pairs", "found 3", "at least 5"]),
        ("workers = 2", "workers = 0", ["run.workers", "found 0", "greater than or equal to 1"]),
        ('judge = "local:tiny"', "judge = 3", ["models.judge", "found 3", "string"]),
        ("input = 1", "input = -1", ["prices.openai:small.input", "found -1"]),
        ("output = 2.5\n", "", ["prices.openai:small.output", "missing"]),
        ("population = 3", "population = nan", ["proposer.options", "nan", "JSON"]),
        ("population = 3", "population = 1979-05-27", ["proposer.options", "1979", "JSON"]),
        ('propose = "openai:small"', 'propose = "anthropic:x"', ["models.base_url", "anthropic:x"]),
        ("low = 0\n", "", ["space.x", "low, high", "found high"]),
        ('type = "float"', 'type = "flot"', ["space.x", "'flot'", "float, int, categorical"]),
        ("[space.n]", '[space."n m"]', ["space", "'n m'", "name"]),
        ('file = "prompt.txt"', 'file = "absent.txt"', ["absent.txt"]),
        ('data = "rows.jsonl"', 'data = "absent.jsonl"', ["data", "absent.jsonl"]),
        ('function = "evaluate:measure"', 'function = "evaluate"', ["evaluat", "'evaluate'", "module"]),
        ('function = "evaluate:measure"', "", ["evaluator", "exactly one of function, command and ensemble"]),
        ("isolate = true", 'command = ["x"]', ["evaluator", "exactly one of function, command and ensemble"]),
        ("isolate = true", 'command = "x"', ["evaluator.command", "'x'", "list"]),
    ],
)
def test_a_wrong_value_names_its_key_and_what_is_allowed(folder: Path, old: str, new: str, words: list[str]) -> None:
    assert old in GOOD
    error = refused(folder, GOOD.replace(old, new, 1))
    for word in words:
        assert word in f"{error.message}\n{error.hint}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["evaluator", "missing"]),
        ("[evaluator]\n" + GOOD, ["evaluator"]),
        ("name = 1\nseed = = 2", ["problem.toml: line 2, column 8: Invalid value: seed = = 2", "mend that line"]),
        ('name = "one\nseed = 2', ["line 1", ': name = "one']),
        ("seed = [2, 3", ["end of document", "must be closed"]),
        (b"name = '\xff\xfe'", ["utf-8", "UTF-8"]),
        ("objectives = []\n" + GOOD.replace("[[objectives]]", "[[constraints]]"), ["objectives"]),
        ("space = 3\n[evaluator]\n[[objectives]]\nname = 'x'", ["space", "found 3"]),
        ("[space]\n[evaluator]\nfunction = 'a:b'\n[[objectives]]\nname = 'x'", ["space is empty"]),
    ],
)
def test_a_file_that_is_not_a_problem_says_so(folder: Path, text: str | bytes, words: list[str]) -> None:
    error = refused(folder, text)
    for word in words:
        assert word in f"{error.message}\n{error.hint}"


def test_a_missing_file_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no .*problem\.toml") as caught:
        load(tmp_path)
    assert "truegain init" in caught.value.hint


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("", "has no rows"),
        ('{"q": 1}\n{q}', "1 not JSON (rows.jsonl, line 2)"),
        ('{"id": 1}\n{"id": "1"}', "1 with the id of another row and different content"),
        ('{"q": NaN}', "1 with a number that is NaN or infinite (rows.jsonl, line 1)"),
        ('{"q": 1}\n\n{"q": 2}', "1 empty (rows.jsonl, line 2)"),
    ],
)
def test_wrong_rows_are_named(folder: Path, rows: str, words: str) -> None:
    (folder / "rows.jsonl").write_text(rows)
    assert words in refused(folder, GOOD).message


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            'file = "rows.jsonl"\ntarget = "all"',
            ["data.target: found 'all'", "'population' or 'suite'", "give data.target"],
        ),
        ('file = "rows.jsonl"\nclusters = "user"', ["data.clusters: unknown key", "[data]: file, train, val"]),
        ("file = 3", ["data.file: found 3", "string"]),
        ('file = "prompt.txt"', ["data: found prompt.txt", ".jsonl"]),
        ('file = "rows.jsonl"\ntrain = "rows.jsonl"', ["data: file: names all rows", "keep file"]),
    ],
)
def test_a_mistake_in_the_data_table_is_explained_as_one_in_a_table(folder: Path, table: str, words: list[str]) -> None:
    error = refused(folder, GOOD.replace('data = "rows.jsonl"\n', "") + f"\n[data]\n{table}\n")
    for word in words:
        assert word in f"{error.message}\n{error.hint}"
    assert "str" not in error.message.split(":")[1] and "data: data" not in error.message


def test_a_check_that_is_missing_is_told_apart_from_the_key(folder: Path) -> None:
    error = refused(folder, GOOD.replace("[gate]\n", '[gate]\nchecks = ["absent_checks:one"]\n', 1))
    assert "gate.checks: there is no module 'absent_checks'" in error.message
