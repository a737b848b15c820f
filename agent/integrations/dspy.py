"""The door for users of DSPy: their programs, in their own environment, in front of our search and gate.

    from agent.integrations.dspy import optimize

    result = optimize("my_program:program", "my_program:metric", python="…/dspy-env/bin/python", folder=".",
                      trainset=rows, inputs=["question"], model="openai:gpt-5-mini")
    json.dump(result.to_dspy(), open("program.json", "w"))     # program.load("program.json") in DSPy

DSPy runs in a process of its own (`dspy_worker.py`), for it wants other versions of packages. The same file has
`TrueGain`, with which DSPy's side starts this one: `python -m agent.integrations.dspy` on a pair of pipes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.api import DEFAULT
from agent.api import optimize as run
from agent.errors import AgentError, ConfigError, PrerequisiteError
from agent.evaluators.dspy_state import LABEL, part, values
from agent.goals import Objective
from agent.integrations import gepa_arguments
from agent.integrations.dspy_evaluator import PATIENCE, SCORE, DspyEvaluator, Line, Lost, Worker
from agent.integrations.gepa_adapter import identifiers
from agent.ledger import Budget
from agent.results.result import Result
from agent.space import Space
from agent.texts import Demos, Text

WORKER = Path(__file__).with_name("dspy_worker.py")


def optimize(
    program: str,
    metric: str,
    *,
    python: str,
    trainset: Sequence[Mapping[str, Any]],
    inputs: Sequence[str],
    valset: Sequence[Mapping[str, Any]] | None = None,
    testset: Sequence[Mapping[str, Any]] | None = None,
    folder: str | Path = ".",
    workers: int = 8,
    **more: Any,
) -> Result:
    """Improve the instructions and demos of a DSPy program, and say whether the gain was shown.

    Args:
        program: "module:attr" of a `dspy.Module`, or of what makes one; the module also configures DSPy's model.
        metric: "module:attr" of the metric: `(gold, pred, trace)`, or GEPA's with five arguments.
        python: The Python of the DSPy environment.
        trainset: Rows, as mappings of fields, that the search sees; few-shot examples are taken from them.
        inputs: Fields that the program gets.
        valset: Rows that the gate alone reads; without it a part of `trainset` is held back.
        testset: Rows that are opened once, after the end.
        folder: Where the modules are; runs lie there too.
        workers: Rows that are measured at once.
        more: demos (most few-shot examples per predictor, 0 for none), max_metric_calls, model (`provider:model`
            that proposes), score_range, min_effect, proposer, seed, run_dir, options, and what `agent.optimize`
            takes besides.

    Returns:
        The run's result; `to_dspy()` gives the best program's state. What DSPy's own models cost is not in its
        `cost`: they are called and paid in the DSPy environment.

    Raises:
        ConfigError: The program cannot be loaded, or something in the call is wrong; nothing was spent.
        PrerequisiteError: `python` cannot be started, or has no DSPy.
    """
    sets = {"train": trainset, "val": valset or (), "test": testset or ()}
    _check(sets, inputs, more)
    where = Path(folder).resolve()
    command = [python, str(WORKER), program, metric, "--folder", str(where), "--threads", str(workers)]
    worker = Worker(command)
    try:
        try:
            found = worker.line().ask_now({"op": "describe"}, PATIENCE)
        except Lost as error:
            if "No module named 'dspy'" in str(error):
                raise PrerequisiteError(f"{python} has no DSPy", fix=f"{python} -m pip install dspy") from None
            raise ConfigError(
                f"the program {program} cannot be loaded: {error}",
                hint="see its messages above; check program=, metric= and folder=",
            ) from None
        if "error" in found:
            raise ConfigError(
                f"the program {program} cannot be described: {found['error']}",
                hint="see its messages above; the program must be a dspy.Module",
            )
        given = {"name": program.replace(":", "-"), "folder": where, "workers": workers, **more}
        return _search(worker.line, found, sets, inputs, program=program, **given)
    finally:
        worker.close()


def _search(
    line: Callable[[], Line],
    found: Mapping[str, Any],
    sets: Mapping[str, Sequence[Mapping[str, Any]]],
    inputs: Sequence[str],
    *,
    program: str = "",
    demos: int = 0,
    max_metric_calls: int = 1000,
    model: Any = DEFAULT,
    score_range: Sequence[float] | None = (0.0, 1.0),
    min_effect: float = 0.0,
    proposer: str = "reflect",
    workers: int = 8,
    seed: int = 0,
    run_dir: str | None = None,
    options: Mapping[str, Any] | None = None,
    **more: Any,
) -> Result:
    """The run, with a line to the program."""
    data = {
        split: [{**row, LABEL: f"{split}-{number}"} for number, row in enumerate(rows)]
        for split, rows in sets.items()
        if rows
    }
    space, predictors = _space(found, data["train"], demos)
    low, high = score_range if score_range is not None else (None, None)
    return run(
        DspyEvaluator(
            line,
            space,
            state=found["state"],
            predictors=predictors,
            inputs=inputs,
            dspy=str(found["dspy"]),
            program=program,
        ),
        space=space,
        data=data if len(data) > 1 else data["train"],
        objectives=Objective(SCORE, "maximize", low=low, high=high, min_effect=min_effect),
        model=model,
        budget=Budget(evaluations=max_metric_calls),
        seed=seed,
        options={"workers": workers, "proposer": proposer, **(options or {})},
        runs=run_dir,
        **{"name": "dspy", **more},
    )


def _check(sets: Mapping[str, Sequence[Mapping[str, Any]]], inputs: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Refuse what is wrong whatever the program is, before it is started."""
    named = gepa_arguments.own(optimize, _search, without=("line", "found", "sets"))
    gepa_arguments.check(settings, named, "DSPy")
    if not sets.get("train"):
        raise ConfigError("trainset has no rows", hint="give rows that the search may see")
    if not inputs:
        raise ConfigError("inputs: no field is named", hint='name those that the program gets, such as ["question"]')
    if LABEL in inputs:
        raise ConfigError(f"inputs: the field {LABEL} is our own name of a row", hint="rename the program's field")
    fields = list(dict.fromkeys(name for rows in sets.values() for row in rows for name in row if name != LABEL))
    for name in inputs:
        if name not in fields:
            raise ConfigError(
                f"inputs: no row has the field {name}; they have {', '.join(map(str, fields))}",
                hint="name the fields that the program gets, as a list",
            )


def _space(
    found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], demos: int
) -> tuple[Space, dict[str, dict[str, str]]]:
    """Parameters for each predictor, and their names by predictor. Demos that it has already are where it begins."""
    described: Mapping[str, Mapping[str, str]] = found["predictors"]
    if not described:
        raise ConfigError(
            "the DSPy program has no predictors, so there is nothing to improve",
            hint="name a program with a dspy.Predict in it",
        )
    if demos < 0 or demos > len(rows):
        raise ConfigError(f"demos: found {demos}, allowed is a whole number from 0 to {len(rows)}")
    names = identifiers([f"{name}.{part}" for name in described for part in ("instructions", "demos")])
    space: dict[str, Any] = {}
    predictors: dict[str, dict[str, str]] = {}
    for name, item in described.items():
        predictors[name] = {"instructions": names[f"{name}.instructions"]}
        space[predictors[name]["instructions"]] = Text(item["instructions"])
        if demos:
            predictors[name]["demos"] = names[f"{name}.demos"]
            own = tuple(part(found["state"], name).get("demos") or ())
            space[predictors[name]["demos"]] = Demos(
                (*own, *rows), k=max(demos, len(own)), default=tuple(range(len(own)))
            )
    return Space(space), predictors


def main() -> int:
    """Optimize what the process at the other end of our pipes has, for `TrueGain.compile`."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a program or a library prints is no message
    source = os.fdopen(0, encoding="utf-8", closefd=False)

    def write(text: str) -> None:
        out.write(text + "\n")
        out.flush()

    start = json.loads(source.readline())
    line = Line(source, write)
    try:
        settings = {"folder": Path.cwd(), **start["settings"]}
        _check(start["rows"], start["inputs"], settings)
        result = _search(lambda: line, start["describe"], start["rows"], start["inputs"], **settings)
        spec: Any = result.problem.evaluator.spec
        best = values(result.best, result.problem.space, spec["predictors"])
        told = {key: value for key, value in result.to_json().items() if key not in ("best", "released", "initial")}
        told |= {"interval": (result.verdict or {}).get("interval"), "cost": result.cost}
        write(json.dumps({"op": "ended", "values": best, "result": told}, ensure_ascii=False))
    except AgentError as error:
        hint = f" ({error.hint})" if error.hint else ""
        write(json.dumps({"op": "ended", "error": error.message + hint}))
    except Exception as error:
        write(json.dumps({"op": "ended", "error": f"{type(error).__name__}: {error}"}))
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
