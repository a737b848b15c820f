"""Programs that are run apart from what judges them."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.evaluation import Output
from agent.evaluators.build import build
from agent.evaluators.code import CodeEvaluator
from agent.evaluators.code_task import Measured
from agent.sandbox.layers import probe
from tests.evaluators.code_helpers import evaluator, produce

TASK = '''
class Task:
    """Squares."""

    schema = {"type": "number"}
    bounds = {"score": (None, 1.0)}

    def inputs(self, seed, stage):
        base = {"smoke": 1, "train": 100, "confirm": 5000}[stage]
        return [base + seed % 50 + step for step in range(2)]

    def score(self, given, output):
        return (1.0, "") if output == given * given else (0.0, f"wrong for {given}")
'''


@pytest.fixture
def squares(tmp_path: Path) -> CodeEvaluator:
    return made(tmp_path, TASK)


def made(folder: Path, task: str, **given: Any) -> CodeEvaluator:
    """An evaluator with a task of its own; several tests of a process have tasks, and Python one module of a name."""
    name = f"task_{folder.name}".replace("-", "_")
    (folder / f"{name}.py").write_text(textwrap.dedent(task))
    return evaluator(folder, f"{name}:Task", **given)


def values(output: Output) -> dict[str, float]:
    assert output.failure is None, output
    return dict(output.value["values"])


def failed(output: Output, kind: str) -> str:
    assert output.failure is not None and output.failure.kind == kind, output
    return f"{output.failure.message}\n{output.failure.detail}\n{output.log}"


def test_a_program_is_scored_by_what_it_answers(squares: CodeEvaluator) -> None:
    assert values(produce(squares, "def solve(x): return x * x", seed=7)) == {"score": 1.0}
    half = produce(squares, "def solve(x): return x * x if x % 2 else 0", seed=7)
    assert values(half) == {"score": 0.5} and half.value["feedback"] == "wrong for 108"
    assert squares.score(half).values == {"score": 0.5}


def test_a_failure_is_never_a_number(squares: CodeEvaluator) -> None:
    assert "ZeroDivisionError" in failed(produce(squares, "def solve(x): return x / 0"), "error")
    assert "number is needed" in failed(produce(squares, "def solve(x): return 'a'"), "invalid")
    assert "not finite" in failed(produce(squares, "def solve(x): return float('nan')"), "invalid")
    assert "ended without" in failed(produce(squares, "import os\ndef solve(x): os._exit(0)"), "error")
    assert "no attribute" in failed(produce(squares, "def f(x): return x"), "error")


def test_the_first_failing_input_is_told_where_it_is_public(squares: CodeEvaluator) -> None:
    output = produce(squares, "def solve(x):\n    print('at', x)\n    return x * x if x < 101 else 1 / 0", seed=1)
    told = failed(output, "error")
    assert "train inputs" in told and "input 0: 101" in told and "at 101" in told
    hidden = failed(
        produce(squares, "def solve(x): return x * x if x < 5000 else 1 / 0", seed=1, stage="confirm"), "error"
    )
    assert hidden.strip() == "crash on the confirm inputs", "hidden inputs were told of"
    wrong = produce(squares, "def solve(x): return 'a' if x > 5000 else x * x", seed=1, stage="confirm")
    assert failed(wrong, "invalid").strip() == "invalid output on the confirm inputs"


def test_feedback_about_hidden_inputs_is_empty(squares: CodeEvaluator) -> None:
    output = produce(squares, "def solve(x):\n    print(x)\n    return 0", seed=1, stage="confirm")
    assert values(output) == {"score": 0.0} and output.value["feedback"] == "" and output.log == ""


def test_the_purpose_decides_the_stage(squares: CodeEvaluator) -> None:
    assert [squares.stage_for(purpose) for purpose in ("search", "gate", "report")] == ["train", "confirm", "confirm"]
    program = "def solve(x): return x * x if x < 5000 else -1"
    assert values(produce(squares, program, stage="full")) == {"score": 1.0}
    assert values(produce(squares, program, stage="confirm")) == {"score": 0.0}


def test_nothing_expensive_runs_before_the_smoke_inputs(tmp_path: Path) -> None:
    counted = TASK.replace("        base =", "        print('asked', stage)\n        base =")
    task = made(tmp_path, counted)
    program = "def solve(x): return x * x if x > 50 else 1 / 0"
    assert "smoke inputs" in failed(produce(task, program), "error")
    seen: list[str] = []
    inputs = task.load().user.inputs
    task.load().user.inputs = lambda seed, stage: seen.append(stage) or inputs(seed, stage)
    for _ in range(2):
        assert values(produce(task, "def solve(x): return x * x"))
    assert seen == ["smoke", "train", "train"], "smoke inputs are tried once for each candidate"


def test_a_score_beyond_its_bound_is_suspicious(tmp_path: Path) -> None:
    task = made(tmp_path, TASK.replace('(1.0, "")', '(1.0 + 1e-9, "")'))
    output = produce(task, "def solve(x): return x * x")
    assert "score is 1.000000001, beyond" in failed(output, "invalid")
    assert output.failure is not None and output.failure.sign == "bound"


def test_the_answer_stays_with_the_scorer(tmp_path: Path) -> None:
    task = made(
        tmp_path,
        """
        class Task:
            def inputs(self, seed, stage):
                return [{"ask": 3, "answer": 9}]
            def question(self, given):
                return given["ask"]
            def score(self, given, output):
                return float(output == given["answer"])
        """,
    )
    assert values(produce(task, "def solve(x): return x * x")) == {"score": 1.0}
    told = failed(produce(task, "def solve(x): raise ValueError(repr(x))"), "error")
    assert "ValueError: 3" in told and "9" not in told.partition("Traceback")[0]


def test_the_same_question_in_other_words(tmp_path: Path) -> None:
    task = made(
        tmp_path,
        """
        class Task:
            def inputs(self, seed, stage):
                return [[5, 1, 4]]
            def variants(self, given, seed):
                return [given[::-1], sorted(given)]
            def agree(self, given, output, variant, other):
                return output == other
            def score(self, given, output):
                return output
        """,
    )
    assert values(produce(task, "def solve(x): return max(x)")) == {"score": 5.0}
    output = produce(task, "def solve(x): return x[0]")
    assert "in other words" in failed(output, "invalid")
    assert output.failure is not None and output.failure.sign == "variant"


def test_all_inputs_together_and_the_row_of_the_data(tmp_path: Path) -> None:
    task = made(
        tmp_path,
        """
        class Task:
            def inputs(self, seed, stage, row):
                return [] if stage == "smoke" else [row["n"], row["n"] + 1]
            def score(self, given, output):
                return {"hit": output == given, "cost": output}
            def combine(self, scores):
                return {"score": min(one["hit"] for one in scores), "cost": max(one["cost"] for one in scores)}
        """,
        names=["score", "cost"],
    )
    assert values(produce(task, "def solve(x): return x", example="a", row={"n": 4})) == {"score": 1.0, "cost": 5.0}


def test_the_scorer_puts_the_program_together(tmp_path: Path) -> None:
    task = made(
        tmp_path,
        """
        class Task:
            entry = "main:run"
            def inputs(self, seed, stage):
                return [4]
            def files(self, candidate):
                return {"main.py": "import part\\ndef run(x): return part.solve(x) + " + str(candidate["plus"])}
            def score(self, given, output):
                return output
        """,
        programs={"code": {"path": None, "entry": None}},
    )
    tree = {"part.py": "def solve(x): return 10 * x"}
    assert values(produce(task, {"code": tree, "plus": 2})) == {"score": 42.0}
    taken = produce(task, {"code": {**tree, "main.py": "def run(x): return 1e9"}, "plus": 2})
    assert "belongs to the evaluator" in failed(taken, "invalid")


TWO = """
class Task:
    entry = "main:solve"
    def inputs(self, seed, stage):
        return [2]
    def files(self, candidate):
        main = "from {a} import f\\nfrom {b} import g\\ndef solve(x): return f(x) + g(x)\\n"
        return {{"main.py": main, "{a}.py": candidate["a"], "{b}.py": candidate["b"]}}
    def score(self, given, output):
        return float(output)
"""
PARTS = {"a": {"path": "a.py", "entry": "f"}, "b": {"path": "b.py", "entry": "g"}}


def test_what_files_puts_together_has_the_numbers_of_holes_in_their_place(tmp_path: Path) -> None:
    task = made(tmp_path, TWO.format(a="pa", b="pb"), programs=PARTS)
    parts = {"a": "def f(x):\n    return x * tune(1.5, 0, 3)\n", "b": "def g(x):\n    return tune(10, 0, 20)\n"}
    assert values(produce(task, parts)) == {"score": 13.0}


def test_a_file_of_the_task_where_a_parameter_is_laid_out_is_said_to_be_that(tmp_path: Path) -> None:
    task = made(tmp_path, TWO.format(a="a", b="pb"), programs=PARTS)
    parts = {"a": "def f(x):\n    return x\n", "b": "def g(x):\n    return 0\n"}
    told = failed(produce(task, parts), "invalid")
    assert "a.py belongs to the evaluator: files() writes it, and parameter a is there" in told


def test_a_program_in_any_language_is_a_command(tmp_path: Path) -> None:
    task = made(
        tmp_path,
        """
        class Task:
            entry = ["sh", "{files}/program.sh"]
            def inputs(self, seed, stage):
                return ["3 4"]
            def score(self, given, output):
                return float(output["stdout"]) if output["exit"] == 0 else 0.0
        """,
        programs={"program": {"path": "program.sh", "entry": None}},
    )
    assert values(produce(task, "read a b; echo $((a * b))")) == {"score": 12.0}


def test_a_mistake_of_the_authors_is_not_the_candidates(tmp_path: Path) -> None:
    broken = made(tmp_path, TASK.replace("output == given * given", "output['x']"))
    assert "score() raised TypeError" in failed(produce(broken, "def solve(x): return x * x"), "invalid")


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("class Task:\n    def score(self, a, b): ...", "no method inputs"),
        ("class Task:\n    def inputs(self, seed, stage): ...", "no method score"),
        (TASK + "    def variants(self, given, seed): ...\n", "agree belong"),
        (TASK.replace('{"type": "number"}', '{"typ": "number"}'), "schema"),
        (TASK.replace("return [base", "return [] and [base"), "nothing for the stage 'train'"),
        (TASK.replace("return [base", "return 3 or [base"), "inputs() returned int"),
    ],
)
def test_a_task_that_is_none_says_what_is_missing(tmp_path: Path, task: str, words: str) -> None:
    assert words in failed(produce(made(tmp_path, task), "def solve(x): return x * x"), "error")


def test_the_fingerprint_follows_what_is_measured(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK)
    first = evaluator(tmp_path).fingerprint
    assert evaluator(tmp_path).fingerprint == first
    assert evaluator(tmp_path, sandbox={"caps": {"seconds": 1}}).fingerprint != first
    (tmp_path / "task.py").write_text(TASK + "\n# changed")
    assert evaluator(tmp_path).fingerprint != first


def test_it_is_built_again_from_its_spec(squares: CodeEvaluator) -> None:
    again = build(json.loads(json.dumps(squares.spec)))
    assert isinstance(again, CodeEvaluator) and again.spec == squares.spec
    assert values(produce(again, "def solve(x): return x * x")) == {"score": 1.0}


def test_a_smoke_request_tells_programs_apart_by_what_they_do(squares: CodeEvaluator) -> None:
    one, two, three = (
        produce(squares, f"def solve(x): return {how}", stage="smoke").value["behaviour"]
        for how in ("x * x", "x ** 2", "x + x")
    )
    assert one == two != three
    assert "ZeroDivision" in failed(produce(squares, "def solve(x): return x / 0", stage="smoke"), "error")


def test_what_was_not_measured_cannot_be_compared() -> None:
    assert Measured(2.0, reference=8.0).speedup == 4.0 and Measured(2.0, instructions=5.0).cost == 5.0
    with pytest.raises(ValueError, match="against"):
        _ = Measured(2.0).speedup


# In the real sandbox.

FORGED = """
import os
import agent.sandbox.candidate as ours

def solve(x):
    send = ours._send
    def twice(channel, nonce, kind, data):
        send(channel, nonce, kind, data)
        send(channel, nonce, kind, data)
    ours._send = twice
    return x * x
"""


def test_hostile_programs_in_the_sandbox(tmp_path: Path) -> None:
    task = made(tmp_path, TASK, sandbox={"caps": {"seconds": 1.0, "memory_mb": 200}, "unsafe": True})
    try:
        honest = "def solve(x): return x * x"
        first = produce(task, honest, seed=3)
        assert values(first) == {"score": 1.0} and list(first.layers) == task.guard()["layers"]
        assert task.score(first).values == {"score": 1.0}
        assert "took longer" in failed(produce(task, "def solve(x):\n    while True: pass"), "timeout")
        failed(produce(task, "def solve(x): return len(bytearray(10**10))"), "memory")
        failed(produce(task, "import os\ndef solve(x): os._exit(0)"), "error")
        failed(produce(task, "def solve(x): return float('nan')"), "invalid")
        denied = produce(task, "def solve(x): raise PermissionError(1, 'no')")
        assert "PermissionError" in failed(denied, "forbidden") and denied.layers == first.layers
        failed(produce(task, FORGED), "forged")
        peek = "import sys\ndef solve(x): return [name for name in sys.modules if name.startswith('task_')] or 'none'"
        assert 'found "none"' in failed(produce(task, peek), "invalid"), "the scorer is in the candidate's process"
        told = failed(produce(task, "def solve(x):\n    y = 0\n    return x / y"), "error")
        assert "program.py:3 solve" in told and "input 0: 1" in told
        assert values(produce(task, honest, seed=3)) == {"score": 1.0}, (
            "an honest candidate beside them scores as before"
        )
    finally:
        task.runner.close()


def test_an_unknown_isolation_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be started"):
        made(tmp_path, TASK, sandbox={"kind": "nowhere:Box"}).load()


def test_hidden_inputs_run_in_the_strictest_sandbox_whatever_the_problem_asks_for(tmp_path: Path) -> None:
    """A claim, and a suspect's second look, are made there."""
    weak = made(tmp_path, TASK, sandbox={"layers": ["rlimits"], "unsafe": True, "caps": {"seconds": 60}})
    usual = produce(weak, "def solve(x): return x * x")
    strict = produce(weak, "def solve(x): return x * x", stage="confirm")
    everything = tuple(layer.name for layer in probe() if layer.on)
    assert values(usual) == values(strict) == {"score": 1.0}
    assert usual.layers == ("process", "rlimits") and strict.layers == everything


def test_nothing_of_hidden_inputs_is_ever_quoted(tmp_path: Path) -> None:
    """By no way: not by a crash, a wrong answer, a second run that is timed, or what the scorer trips over."""
    tell = "def solve(x):\n    raise ValueError(f'HIDDEN {x}')"
    later = "def solve(x):\n    if x == 5001: raise ValueError(f'HIDDEN {x}')\n    return x"
    judged = TASK.replace(
        "return (1.0", "raise ValueError(f'HIDDEN {given}') if given >= 5000 else None\n        return (1.0"
    )
    for number, (task, program) in enumerate([(TASK, tell), (TASK, later), (judged, "def solve(x): return x * x")]):
        (place := tmp_path / str(number)).mkdir()
        for timing in ({}, {"cost": "seconds"}):
            output = produce(made(place, task, timing=timing), program, stage="confirm")
            assert output.failure is not None and "HIDDEN" not in json.dumps(output.to_json()), output


def test_a_program_that_rolls_dice_has_no_score_where_the_problem_is_deterministic(tmp_path: Path) -> None:
    dice = "import os\ndef solve(x): return x * x + os.urandom(1)[0] / 256"
    task = made(tmp_path, TASK, repeat=True)
    assert "differently each time" in failed(produce(task, dice), "invalid")
    once = made(tmp_path, TASK, repeat=True, timing={"cost": "seconds", "repeats": 1})
    assert "differently each time" in failed(produce(once, dice), "invalid")
    assert values(produce(task, "def solve(x): return x * x")) == {"score": 1.0}


def test_a_command_among_the_files_is_found(tmp_path: Path) -> None:
    task = """
class Task:
    entry = ["sh", "./run.sh"]

    def inputs(self, seed, stage):
        return ["7"] if stage != "smoke" else []

    def files(self, candidate):
        return {"run.sh": "sh $(dirname $0)/program.py"}

    def score(self, given, output):
        return float(output["exit"])
"""
    one = made(tmp_path, task, sandbox={"caps": {"seconds": 20, "processes": 8}})
    output = produce(one, "echo gone wrong >&2; exit 3")
    assert values(output) == {"score": 3.0} and "exit code 3: gone wrong" in output.value["feedback"]
