"""[evaluator.prompt] in a problem file, and what the command line says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent import ConfigError
from agent.config import load
from agent.evaluators.prompt import PromptEvaluator
from tests.cli_helpers import call
from tests.prompt_support import rows

FILE = """
name = "doubling"
data = "rows.jsonl"

[evaluator.prompt]
template = "{instruction}\\n\\n{question}"
metric = "exact_match"
max_output_tokens = 16

[space]
instruction = { type = "text", default = "Double it." }

[models]
propose = "none"
task = "openai:some-model"

[proposer]
name = "tests.prompt_support:Careful"

[budget]
evaluations = 300

[prices."openai:some-model"]
input = 1.0
output = 10.0
"""


def written(folder: Path, text: str = FILE, count: int = 40) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "problem.toml").write_text(text)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(count)))
    return folder


def test_a_prompt_in_the_problem_file(tmp_path: Path) -> None:
    setup = load(written(tmp_path))
    made = setup.problem.evaluator
    assert isinstance(made, PromptEvaluator)
    assert made.prompt.max_output_tokens == 16 and made.uses == ("task",)
    goal = setup.problem.objective
    assert (goal.name, goal.direction, goal.low, goal.high) == ("exact_match", "maximize", 0.0, 1.0)


def test_the_prompt_behind_outputs_that_are_compared_is_known_to_whoever_runs_it(tmp_path: Path) -> None:
    """A batch as much as `truegain run`: the run's result can say the messages then."""
    metric = '"preference"\nmetric_options = { requirements = "Short." }'
    judged = FILE.replace('"exact_match"', metric).replace("[models]", '[models]\njudge = "openai:some-model"')
    setup = load(written(tmp_path, judged))
    assert setup.origin["prompt"]["prompt"]["template"] == "{instruction}\n\n{question}"
    assert "prompt" not in load(written(tmp_path)).origin, "the evaluator's own specification has it"


def test_a_function_with_a_metric_may_return_an_answer(tmp_path: Path) -> None:
    text = FILE.replace("[evaluator.prompt]", "[evaluator]").replace('template = "{instruction}\\n\\n{question}"', "")
    text = text.replace("max_output_tokens = 16", 'function = "answers:answer"')
    folder = written(tmp_path, text)
    (folder / "answers.py").write_text("async def answer(candidate, row, ask):\n    return await ask('x')\n")
    setup = load(folder)
    assert setup.problem.evaluator.uses == ("task",)  # type: ignore[attr-defined]
    assert setup.problem.objective.name == "exact_match"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('metric = "exact_match"', "", "metric"),
        ('metric = "exact_match"', 'metric = "exact"', "exact_match"),
        ("max_output_tokens = 16", "max_output_tokens = 0", "max_output_tokens"),
        ("max_output_tokens = 16", "max_tokens = 10", "max_tokens"),
        ("{question}", "{answer}", "right answer"),
        ("{instruction}", "Go.", "nothing shows"),
        ("[evaluator.prompt]", '[evaluator]\nmetric = "exact_match"\n[evaluator.prompt]', "prompt"),
    ],
)
def test_a_mistake_names_its_key(tmp_path: Path, before: str, after: str, words: str) -> None:
    assert before in FILE
    with pytest.raises(ConfigError) as error:
        load(written(tmp_path, FILE.replace(before, after)))
    assert words in f"{error.value.message} {error.value.hint}"


def test_an_estimate_tells_the_calls_and_dollars_of_each_role(tmp_path: Path) -> None:
    done = call("estimate", written(tmp_path / "p"), "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    (asked,) = json.loads(done.out)["evaluator_asks"]
    assert (asked["role"], asked["model"], asked["calls"]) == ("task", "openai:some-model", 300)
    assert 300 * 16 < asked["tokens"] < 300 * 300
    assert asked["usd"] == pytest.approx(((asked["tokens"] - 4800) * 1.0 + 4800 * 10.0) / 1e6, rel=0.01)
    table = call("estimate", tmp_path / "p", cwd=tmp_path).out
    assert "task calls" in table and "openai:some-model" in table
    refused = call("estimate", tmp_path / "p", "--measure", cwd=tmp_path)
    assert refused.code == 69 and "export OPENAI_API_KEY" in refused.err, "it would ask the model, and has no key"


def test_a_run_without_a_task_model_is_refused_with_what_to_set(tmp_path: Path) -> None:
    folder = written(tmp_path / "p", FILE.replace('task = "openai:some-model"', ""))
    done: Any = call("run", folder, cwd=tmp_path)
    assert done.code == 2 and "role task" in done.err and "models.task" in done.err
