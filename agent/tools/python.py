"""A tool that runs the model's own Python over the history, in the sandbox.

What it gets is a copy of the search view as plain data. It has no way to the run's folder or the problem's, and no
network, and whatever it starts is gone when the answer is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.errors import PrerequisiteError
from agent.tools.base import Desk, ToolError
from agent.tools.shared import marked, ranked

LONGEST = 20_000
"""Characters of a program."""
TRIALS = 2000
"""Candidates that are handed in: the best half of so many, and the latest."""
TEXTS = 20_000_000
"""Characters of all texts and programs that are handed in; each gets its share."""
SHORTEST = 500
SECONDS = 10.0
MEMORY_MB = 512
PRINTED = 4000
"""Characters of what it prints that the model sees: head and tail."""

PROGRAM = b"""
import ast, linecache, sys, traceback

def run(given):
    source = given["code"]
    linecache.cache["code"] = (len(source), None, source.splitlines(True), "code")
    space = {"__name__": "__main__", "history": given["history"]}
    try:
        tree = ast.parse(source, "code")
        last = ast.Expression(tree.body.pop().value) if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "code", "exec"), space)
        value = eval(compile(last, "code", "eval"), space) if last is not None else None
        if value is not None:
            print(repr(value))
    except SystemExit:
        return True
    except Exception as error:
        sys.stdout.flush()
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != "code":
            trace = trace.tb_next
        traceback.print_exception(type(error), error, trace)
        return False
    return True
"""


async def python(desk: Desk, code: str) -> str:
    """Run Python over the history and see what it prints, and the value of a last expression. numpy is there.

    The variable `history` has: objective, direction, parameters, champion, trials. Each trial has: number, id, state,
    source, values (parameters by name), result (objectives and constraints by name, or None), feasible, failure,
    parents, rows (result by row, where rows are measured). Very long texts are cut.
    No files, no network, no other processes; 10 seconds.

    Args:
        code: The program; each call begins anew.
    """
    from agent.sandbox.pool import Sandbox
    from agent.sandbox.types import Caps, Job

    if len(code) > LONGEST:
        raise ToolError(f"the program has {len(code)} characters, {LONGEST} are allowed", hint="write a shorter one")
    job = Job(
        files={"main.py": PROGRAM},
        entry="main:run",
        inputs=[{"code": code, "history": exported(desk)}],
        caps=Caps(seconds=SECONDS, memory_mb=MEMORY_MB, disk_mb=16, output_bytes=1000, log_chars=PRINTED),
        imports=("numpy",),
    )
    try:
        # One of its own for each call: nothing of it, not even a warm process, is there when the answer is.
        async with Sandbox(imports=("numpy",), workers=1) as sandbox:
            result = await sandbox.run(job)
    except PrerequisiteError as error:  # the run goes on without this tool
        raise ToolError(f"Python cannot be run here: {error.message}", hint="go on without it") from None
    printed = marked(desk, result.log.strip()) if result.log.strip() else "it printed nothing"
    if result.status == "ok" and result.outputs == (True,):
        return printed
    why = WHY.get(result.status, "it was ended")
    if result.status == "ok":
        why = "it raised an exception; correct the program"
    raise ToolError(f"{why}\n{printed}")


WHY: Mapping[str, str] = {
    "timeout": f"it was ended after {SECONDS:g} seconds; look at less of the history, or compute less",
    "memory": f"it needed more than {MEMORY_MB} MB; keep less at once",
    "forbidden": "it was ended: it did what is not allowed here, or printed more than 16 MB. There are no files, no"
    " network and no other processes; print less",
    "crash": "its process died; there are no other processes and no exits here",
    "lost": "the sandbox failed; go on without it",
}


def exported(desk: Desk) -> dict[str, Any]:
    """The search view of the history as plain JSON; of many candidates the best and the latest."""
    context = desk.context
    problem, trials = context.problem, context.history.trials
    kept = {trial.number for trial in ranked(desk)[: TRIALS // 2]} if len(trials) > TRIALS else set()
    start = len(trials) - TRIALS // 2 if kept else 0
    share = max(SHORTEST, TEXTS // (len(problem.space) * min(len(trials), TRIALS)))
    shown = [trial for trial in trials if trial.number >= start or trial.number in kept]
    context.showing(*shown)
    return {
        "objective": problem.objective.name,
        "direction": problem.objective.direction,
        "parameters": problem.space.spec(),
        "champion": context.history.champion,
        "trials": [
            {
                "number": trial.number,
                "id": trial.id,
                "state": trial.state,
                "source": trial.source,
                "values": _cut(trial.candidate.values_json, share),
                "result": trial.values,
                "feasible": trial.feasible,
                "failure": context.failure(trial)[:SHORTEST],
                "parents": list(trial.parents),
                "rows": {name: score for name, (score, _) in trial.rows.items()},
            }
            for trial in shown
        ],
    }


def _cut(value: Any, share: int) -> Any:
    """A value with texts of at most so many characters."""
    if isinstance(value, Mapping):
        return {name: _cut(item, share) for name, item in value.items()}
    return f"{value[:share]}…" if isinstance(value, str) and len(value) > share else value
