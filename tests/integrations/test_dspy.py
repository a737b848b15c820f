"""DSPy programs: the protocol with a stand-in for the package everywhere, and the real package where it is.

TRUEGAIN_DSPY names a Python that has dspy; the tests that need it are skipped without.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError, PrerequisiteError
from agent.evaluation import Request
from agent.evaluators.build import build
from agent.evaluators.dspy_state import state
from agent.integrations.dspy import WORKER, optimize
from agent.integrations.dspy_evaluator import Line, Lost, Worker
from agent.results.result import load_result

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PYTHON = os.environ.get("TRUEGAIN_DSPY", "")
real = pytest.mark.skipif(not PYTHON, reason="TRUEGAIN_DSPY names no Python with dspy")

STAND_IN = '''
"""As much of dspy as the worker uses."""
import contextlib, copy
from types import SimpleNamespace
__version__ = "0.0"
settings = SimpleNamespace(trace=None)

@contextlib.contextmanager
def context(trace):
    settings.trace = trace
    yield

class Example:
    def __init__(self, **fields): self.fields, self.names = fields, ()
    def with_inputs(self, *names): self.names = names; return self
    def inputs(self): return {name: self.fields[name] for name in self.names}
    def toDict(self): return dict(self.fields)
    def items(self): return self.fields.items()
    def __getattr__(self, name): return self.__dict__["fields"][name]
Prediction = Example

class Signature:
    def __init__(self, instructions): self.instructions = instructions
    def with_instructions(self, text): return Signature(text)

class Module:
    def deepcopy(self): return copy.deepcopy(self)
'''

PROGRAM = '''
"""Adds two numbers when it is told to be careful, or when it has been shown how; otherwise gives the first."""
import os, time
import dspy

print("a program may print")

class Solve(dspy.Module):
    def __init__(self, demos=()):
        self.signature, self.demos = dspy.Signature("Answer."), list(demos)
    def named_predictors(self): return [("solve.predict", self)]
    def dump_state(self):
        part = {"demos": [d.toDict() if hasattr(d, "toDict") else d for d in self.demos],
                "signature": {"instructions": self.signature.instructions, "fields": []}}
        return {"solve.predict": part, "metadata": {"x": 1}}
    def __call__(self, question):
        if "die" in question: os._exit(3)
        if "raise" in question: raise ValueError("no such luck")
        a, b = [int(part) for part in question.split(":")[1].split(" and ")]
        good = "carefully" in self.signature.instructions or self.demos
        made = dspy.Prediction(answer=str(a + b if good else a))
        dspy.settings.trace.append((self, {"question": question}, made))
        return made

shown = Solve([dspy.Example(question="x: 1 and 1", answer="2")])

def metric(gold, pred, trace=None):
    return pred.answer == gold.answer

def telling(gold, pred, trace, pred_name, pred_trace):
    return {"score": float(pred.answer == gold.answer), "feedback": f"right: {gold.answer}"}

not_a_program = 7
'''


def rows(first: int, count: int) -> list[dict[str, str]]:
    numbers = [(n * 31 % 97, n * 17 % 89 + 1, n * 7919 % 1000) for n in range(first, first + count)]
    return [{"question": f"Case {c}: {a} and {b}", "answer": str(a + b)} for a, b, c in numbers]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dspy.py").write_text(STAND_IN)
    (tmp_path / "mine.py").write_text(PROGRAM)
    return tmp_path


def run(folder: Path, program: str = "mine:Solve", metric: str = "mine:metric", **more: Any) -> Any:
    given: dict[str, Any] = {"python": sys.executable, "trainset": rows(0, 60), "valset": rows(60, 60)}
    given |= {"proposer": "tests.integrations.scripted:Words", "model": None, "max_metric_calls": 300}
    given |= {"run_dir": str(folder / "runs")}
    return optimize(program, metric, inputs=["question"], folder=folder, **{**given, **more})


def test_a_program_in_another_process_is_improved_and_its_state_comes_back(folder: Path) -> None:
    result = run(folder)
    assert result.status == "proven"
    found = result.to_dspy()
    assert found["solve.predict"]["signature"]["instructions"] == "Answer carefully."
    assert found["metadata"] == {"x": 1}, "what is not ours stays as it was"
    assert load_result(result.folder).to_dspy() == found


def test_demos_come_from_rows_of_train_and_begin_with_those_that_are_there(folder: Path) -> None:
    result = run(folder, program="mine:shown", demos=2, max_metric_calls=60)
    assert result.initial["solve_predict_demos"] == [0]
    (demo,) = result.to_dspy()["solve.predict"]["demos"]
    assert demo == {"question": "x: 1 and 1", "answer": "2"}
    pool = result.problem.space["solve_predict_demos"].pool
    assert len(pool) == 61
    spec: Any = result.problem.evaluator.spec
    chosen = state(spec, {**result.initial, "solve_predict_demos": [3, 0]}, result.problem.space)
    assert chosen["solve.predict"]["demos"] == [rows(0, 60)[2], demo], "without our names of rows"


def test_feedback_and_steps_reach_the_proposer(folder: Path) -> None:
    result = run(folder, metric="mine:telling", max_metric_calls=60)
    words = next(feedback for _, feedback in result.trials[0].rows.values())
    assert words.startswith("right: ")
    assert 'solve.predict: {"question": "Case' in words


def test_a_row_that_raises_and_one_that_kills_the_worker_cost_themselves(folder: Path) -> None:
    train = [{"question": "raise: 1 and 1", "answer": "2"}, {"question": "die: 1 and 1", "answer": "2"}, *rows(0, 58)]
    result = run(folder, trainset=train, workers=1)
    scores = {row: score for row, (score, _) in result.trials[0].rows.items()}
    assert all(scores[row] is None or scores[row] == 0 for row in ("train-0", "train-1") if row in scores)
    assert result.status == "proven"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"program": "nowhere:program"}, "No module named 'nowhere'"),
        ({"program": "mine:nothing"}, "nothing"),
        ({"program": "mine:not_a_program"}, "not callable"),
        ({"metric": "mine:nothing"}, "nothing"),
        ({"demos": 61}, "demos"),
        ({"trainset": []}, "trainset"),
    ],
)
def test_what_cannot_be_loaded_is_said_before_anything_is_spent(
    folder: Path, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        run(folder, **given)
    assert not (folder / "runs").exists()


def test_a_wrong_call_is_told_before_dspy_is_started(folder: Path) -> None:
    def call(**more: Any) -> ConfigError:
        given: dict[str, Any] = {"python": "/no/such/python", "trainset": rows(0, 9), "inputs": ["question"]}
        with pytest.raises(ConfigError) as raised:
            optimize("mine:Solve", "mine:metric", folder=folder, **{**given, **more})
        return raised.value

    assert call(inputs=["q"]).message == "inputs: no row has the field q; they have question, answer"
    wrong = call(auto="light")
    assert "auto is no argument of this door: not all that DSPy has" in wrong.message
    assert "docs/dspy.md" in wrong.hint
    for name in ("python", "max_metric_calls", "demos", "target"):
        assert name in wrong.hint
    assert "sets" not in wrong.hint
    assert "trainset" in call(trainset=[]).message
    assert "own name" in call(inputs=["id"]).message


def test_a_missing_environment_is_said(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="cannot be started"):
        run(tmp_path, python=str(tmp_path / "python"))
    (tmp_path / "mine.py").write_text("def program(): pass\ndef metric(): pass")
    with pytest.raises(PrerequisiteError, match="has no DSPy"):
        run(tmp_path, program="mine:program")


def test_other_runs_have_no_dspy_state(tmp_path: Path) -> None:
    from agent import Float
    from agent import optimize as plain

    result = plain(lambda c: c["x"], space={"x": Float(0, 1)}, budget=5, deterministic=True, model=None, runs=tmp_path)
    with pytest.raises(ConfigError, match="no state"):
        result.to_dspy()


def test_a_journalled_program_is_rebuilt_and_measures_nothing(folder: Path) -> None:
    result = run(folder, max_metric_calls=60)
    spec: Any = result.problem.evaluator.spec
    again: Any = build(spec)
    assert again.spec == spec
    with pytest.raises(ConfigError, match="cannot be measured"):
        asyncio.run(again.produce(Request(result.best), lambda value: None))


def test_the_worker_speaks_json_lines_whatever_the_program_prints(folder: Path) -> None:
    command = [sys.executable, str(WORKER), "mine:Solve", "mine:metric", "--folder", str(folder)]
    row, told = rows(0, 1)[0], {"instructions": "carefully", "demos": None}
    messages = [
        {"op": "describe", "id": 1},
        {"op": "evaluate", "id": 2, "values": {"solve.predict": told}, "row": row, "inputs": ["question"]},
        {"op": "evaluate", "id": 3, "values": {}, "row": {"question": "raise"}, "inputs": ["question"]},
    ]
    done = subprocess.run(command, input="\n".join(map(json.dumps, messages)), capture_output=True, text=True)
    answers = {item["id"]: item for item in map(json.loads, done.stdout.splitlines())}
    assert answers[1]["predictors"] == {"solve.predict": {"instructions": "Answer."}}
    assert answers[2]["score"] == 1.0
    assert answers[2]["trace"][0]["predictor"] == "solve.predict"
    assert "no such luck" in answers[3]["error"]
    assert "a program may print" in done.stderr


def test_a_line_that_is_no_json_ends_the_line() -> None:
    line = Line(iter(["hello\n"]), lambda text: None)
    with pytest.raises(Lost, match="JSON"):
        line.ask_now({"op": "describe"}, 30)


def test_no_worker_is_left_behind(folder: Path) -> None:
    worker = Worker([sys.executable, str(WORKER), "mine:Solve", "mine:metric", "--folder", str(folder)])
    worker.line().ask_now({"op": "describe"}, 60)
    process = worker._process
    assert process is not None
    worker.close()
    assert process.poll() is not None


def compiled(python: str, folder: Path, place: Path) -> dict[str, Any]:
    command = [python, str(HERE / "dspy_compile.py"), str(WORKER), sys.executable, str(ROOT), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=place)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


COMPILE = """
import importlib.util, json, sys
sys.path.insert(0, sys.argv[4])
import dspy, mine
spec = importlib.util.spec_from_file_location("truegain_dspy", sys.argv[1])
door = importlib.util.module_from_spec(spec)
spec.loader.exec_module(door)
examples = [dspy.Example(**row).with_inputs("question") for row in json.load(open(sys.argv[4] + "/rows.json"))]
for example in examples:
    example.inputs = lambda e=example: {"question": e.question}
options = {"model": None, "proposer": "tests.integrations.scripted:Words", "run_dir": sys.argv[4] + "/runs"}
options |= json.loads(sys.argv[5])
python, path = sys.argv[2:4]
optimizer = door.TrueGain(metric=mine.metric, python=python, path=path, max_metric_calls=300, options=options)
student = mine.Solve()
best = optimizer.compile(student, trainset=examples[:60], valset=examples[60:])
print(json.dumps([best.truegain["status"], best.signature.instructions, student.signature.instructions]))
"""


def compile_here(folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    (folder / "rows.json").write_text(json.dumps(rows(0, 120)))
    arguments = [str(WORKER), sys.executable, str(ROOT), str(folder), json.dumps(options)]
    return subprocess.run([sys.executable, "-c", COMPILE, *arguments], capture_output=True, text=True, cwd=folder)


def test_compile_gives_a_better_copy_and_leaves_the_student_alone(folder: Path) -> None:
    done = compile_here(folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["proven", "Answer carefully.", "Answer."]


def test_compile_says_what_the_optimizer_said(folder: Path) -> None:
    done = compile_here(folder, proposer="nothing")
    assert "RuntimeError: TrueGain: there is no proposer 'nothing'" in done.stderr
    done = compile_here(folder, auto="light")
    assert "RuntimeError: TrueGain: auto is no argument of this door" in done.stderr


@real
def test_a_real_program_from_outside(tmp_path: Path) -> None:
    result = run(
        ROOT,
        "tests.integrations.dspy_world:program",
        "tests.integrations.dspy_world:metric",
        python=PYTHON,
        run_dir=str(tmp_path),
    )
    assert result.status == "proven"
    assert result.to_dspy()["signature"]["instructions"] == "Answer carefully."
    again = (
        "import json, sys, dspy; p = dspy.Predict('question -> answer'); p.load_state(json.load(sys.stdin));"
        "print(p.signature.instructions)"
    )
    done = subprocess.run([PYTHON, "-c", again], input=json.dumps(result.to_dspy()), capture_output=True, text=True)
    assert done.stdout.strip() == "Answer carefully."


@real
def test_a_real_program_from_inside(tmp_path: Path) -> None:
    found = compiled(PYTHON, tmp_path, tmp_path)
    assert found["status"] == "proven"
    assert found["before"] == "Answer."
    assert found["after"] == found["loaded"] == "Answer carefully."
    assert found["answer"] == "42"
