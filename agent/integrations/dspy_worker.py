"""The side that has DSPy: runs a program row by row, and DSPy's own face of the optimizer.

DSPy wants other versions of packages than we do, so the two never share a process. This file needs nothing but the
standard library and DSPy, and runs in the user's DSPy environment in one of two ways.

Started by us (`agent.integrations.dspy.optimize`), it loads a program and a metric and answers on its pipes:

    python dspy_worker.py module:program module:metric

Imported by the user, it starts us:

    optimizer = TrueGain(metric=metric, python="…/bin/python", model="openai:gpt-5-mini")
    better = optimizer.compile(student, trainset=train, valset=val)

Each line is one JSON message. {"op": "evaluate", "id", "values", "example", "row", "inputs"} asks for a row;
{"id", "score", "feedback", "text", "trace"} or {"id", "error", "kind"} answers. {"op": "describe"} asks what there is.
`values` are by predictor: {"instructions": text, "demos": [row, …] or null}.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

FIELD = 1500
"""Characters of one field of a trace."""
ENDED = "the optimizer ended without a result"


class Program:
    """A DSPy program whose predictors take instructions and demos from outside.

    Args:
        student: A `dspy.Module`.
        metric: `(gold, pred, trace)`, or GEPA's with five arguments; gives a number, a truth value, or something with
            `score` and `feedback`.
        examples: Rows by id that are at hand here; others are made of what is sent.
    """

    def __init__(self, student: Any, metric: Callable[..., Any], examples: Mapping[str, Any] | None = None) -> None:
        self.dspy: Any = importlib.import_module("dspy")
        self.student, self.metric, self.examples = student, metric, dict(examples or {})
        self._takes = _positional(metric)

    def describe(self) -> dict[str, Any]:
        """The version of DSPy, the state as `dump_state` gives it, and the predictors with their instructions."""
        predictors = {name: {"instructions": p.signature.instructions} for name, p in self._predictors(self.student)}
        state = json.loads(json.dumps(self.student.dump_state(), default=str))
        return {"dspy": self.dspy.__version__, "state": state, "predictors": predictors}

    def filled(self, values: Mapping[str, Mapping[str, Any]]) -> Any:
        """A copy of the student with these instructions and demos."""
        copy = self.student.deepcopy()
        for name, predictor in self._predictors(copy):
            given = values.get(name, {})
            if given.get("instructions") is not None:
                predictor.signature = predictor.signature.with_instructions(given["instructions"])
            if given.get("demos") is not None:
                predictor.demos = [self.dspy.Example(**row) for row in given["demos"]]
        return copy

    def evaluate(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Run one row and score it."""
        gold = self.examples.get(message.get("example") or "")
        if gold is None:
            gold = self.dspy.Example(**message["row"]).with_inputs(*message["inputs"])
        program = self.filled(message["values"])
        with self.dspy.context(trace=[]):
            prediction = program(**gold.inputs())
            trace = list(self.dspy.settings.trace or [])
            found = self.metric(*(gold, prediction, trace, None, None)[: self._takes])
        score, feedback = _judged(found)
        names = {id(predictor): name for name, predictor in self._predictors(program)}
        steps = [
            {
                "predictor": names.get(id(predictor), ""),
                "inputs": _short(inputs),
                "outputs": _short(dict(outputs.items())),
            }
            for predictor, inputs, outputs in trace
        ]
        return {"score": score, "feedback": feedback, "trace": steps, "text": json.dumps(_short(prediction.toDict()))}

    def handle(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a message; an error is an answer too."""
        try:
            found = self.describe() if message["op"] == "describe" else self.evaluate(message)
        except (Exception, SystemExit) as error:
            detail = "".join(traceback.format_exception(error))[-2000:]
            found = {"error": f"{type(error).__name__}: {error}", "kind": "error", "detail": detail}
        return {"id": message.get("id"), **found}

    def _predictors(self, module: Any) -> list[tuple[str, Any]]:
        return list(module.named_predictors())


def _positional(function: Callable[..., Any]) -> int:
    """How many of (gold, pred, trace, pred_name, pred_trace) a metric takes."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        return 3
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 5
    return min(5, sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters))


def _judged(found: Any) -> tuple[float, str]:
    if isinstance(found, Mapping):
        return float(found["score"]), str(found.get("feedback", "") or "")
    if hasattr(found, "score"):
        return float(found.score), str(getattr(found, "feedback", "") or "")
    return float(found), ""


def _short(fields: Mapping[str, Any]) -> dict[str, str]:
    texts = {str(name): value if isinstance(value, str) else repr(value) for name, value in fields.items()}
    return {name: text if len(text) <= FIELD else text[:FIELD] + "…" for name, text in texts.items()}


def plain(example: Any) -> dict[str, Any]:
    """A `dspy.Example` as JSON; what is no JSON is shown as text."""
    shown: dict[str, Any] = json.loads(json.dumps(example.toDict(), default=str))
    return shown


def serve(program: Program, lines: Iterable[str], write: Callable[[str], None], threads: int) -> None:
    """Answer messages until there are no more; several at once, in the order in which they are done."""
    lock = threading.Lock()

    def answer(line: str) -> None:
        text = json.dumps(program.handle(json.loads(line)), default=str)
        with lock:
            write(text)

    with ThreadPoolExecutor(threads) as pool:
        for line in lines:
            if line.strip():
                pool.submit(answer, line)


class TrueGain:
    """An optimizer for DSPy that claims only gains that were shown.

    Args:
        metric: As DSPy has it, or GEPA's with five arguments and feedback.
        python: The Python of the environment that TrueGain is installed in.
        max_metric_calls: Rows measured at most, by search and gate together.
        model: `provider:model` that writes instructions; None for the embedded one.
        demos: Most few-shot examples for each predictor, taken from trainset; 0 for none.
        num_threads: Rows that are measured at once.
        seed: Of the randomness.
        options: What `agent.integrations.dspy.optimize` takes besides, as JSON.
        path: Put in front of the module path of that Python, for a checkout that is not installed.
    """

    def __init__(
        self,
        metric: Callable[..., Any],
        *,
        python: str,
        max_metric_calls: int = 1000,
        model: str | None = None,
        demos: int = 0,
        num_threads: int = 8,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        path: str | None = None,
    ) -> None:
        self.metric, self.python, self.path, self.num_threads = metric, python, path, num_threads
        self.settings: dict[str, Any] = {
            "max_metric_calls": max_metric_calls,
            "demos": demos,
            "workers": num_threads,
            "seed": seed,
        }
        self.settings |= dict(options or {})
        if model is not None:
            self.settings["model"] = model

    def compile(
        self, student: Any, *, trainset: Sequence[Any], teacher: Any = None, valset: Sequence[Any] | None = None
    ) -> Any:
        """The best program, a copy of the student.

        It has `truegain`: status, sentence, interval, the run's folder and more. Where no gain was shown, the best
        one that the search found is returned all the same, with a status that says so.

        Args:
            student: A `dspy.Module`.
            trainset: Examples with inputs set, which the search and the model see.
            teacher: Not used; there for the signature.
            valset: Examples that the gate alone reads; without it a part of trainset is held back.

        Raises:
            RuntimeError: The optimizer failed; has its words.
        """
        if teacher is not None:
            raise ValueError("TrueGain has no use for a teacher; leave it out")
        sets = {"train": list(trainset), "val": list(valset or ())}
        examples = {f"{split}-{n}": item for split, items in sets.items() for n, item in enumerate(items)}
        program = Program(student, self.metric, examples)
        rows = {split: [plain(item) for item in items] for split, items in sets.items() if items}
        inputs = list(trainset[0].inputs().keys()) if trainset else []
        start = {"describe": program.describe(), "rows": rows, "inputs": inputs, "settings": self.settings}
        ended = self._talk(program, json.dumps(start))
        if "error" in ended:
            raise RuntimeError(f"TrueGain: {ended['error']}")
        best = program.filled(ended["values"])
        best._compiled = True
        best.truegain = ended["result"]
        return best

    def _talk(self, program: Program, start: str) -> dict[str, Any]:
        """Start the optimizer, measure what it asks for, and give its last message."""
        paths = [part for part in (self.path,) if part]
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        env |= {"PYTHONPATH": os.pathsep.join(paths)} if paths else {}
        child = subprocess.Popen(
            [self.python, "-P", "-m", "agent.integrations.dspy"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=env,
        )
        assert child.stdin is not None and child.stdout is not None
        to_child, ended = child.stdin, {"error": ENDED}

        def write(text: str) -> None:
            with contextlib.suppress(BrokenPipeError, ValueError):
                to_child.write(text + "\n")
                to_child.flush()

        def asked() -> Iterable[str]:
            for line in child.stdout or ():
                message = json.loads(line)
                if message.get("op") == "ended":
                    ended.clear()
                    ended.update(message)
                    return
                yield line

        try:
            write(start)
            serve(program, asked(), write, self.num_threads)
        finally:
            with contextlib.suppress(OSError):
                to_child.close()
            if ended.get("op") != "ended":
                child.terminate()
            child.wait()
            child.stdout.close()
        return ended


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    found = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def main() -> None:
    """Answer on the pipes; what the program prints goes to standard error."""
    parser = argparse.ArgumentParser(description="Runs a DSPy program for TrueGain.")
    parser.add_argument("program")
    parser.add_argument("metric")
    parser.add_argument("--folder")
    parser.add_argument("--threads", type=int, default=8)
    given = parser.parse_args()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        here = os.path.dirname(os.path.abspath(__file__))
        sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]  # our dspy.py is not DSPy
        if given.folder:
            sys.path.insert(0, given.folder)

        def write(text: str) -> None:
            out.write(text + "\n")
            out.flush()

        try:
            student = _load(given.program)
            module = importlib.import_module("dspy").Module
            if not isinstance(student, module):
                student = student()  # a class, or a function that makes the program
            program = Program(student, _load(given.metric))
        except (Exception, SystemExit) as error:
            write(json.dumps({"id": None, "error": f"{type(error).__name__}: {error}", "kind": "load"}))
            return
        serve(program, sys.stdin, write, given.threads)


if __name__ == "__main__":
    main()
