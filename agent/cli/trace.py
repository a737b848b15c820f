"""`truegain trace`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.common import emit, json_option, locate, run_argument, runs_option
from agent.telling.text import plain

if TYPE_CHECKING:
    from agent.events import EvaluationEnded, EvaluationStarted


@click.command(
    "trace",
    help="What the program did in the newest search measurement of a CANDIDATE (best) of a RUN: its ops, what went"
    " through them, and where it failed. For programs that use agent.op, agent.param or agent.note.",
)
@run_argument
@click.argument("candidate", default="best")
@runs_option
@click.option("--example", metavar="ID", help="The measurement on this row of train.")
@click.option("--span", type=int, metavar="N", help="Span N in detail.")
@click.option("--search", metavar="TEXT", help="Only spans in whose name, values, notes or error the text occurs.")
@json_option
def command(
    run: str,
    candidate: str,
    runs: str | None,
    example: str | None,
    span: int | None,
    search: str | None,
    as_json: bool,
) -> None:
    from agent.cli.show import pick
    from agent.errors import ConfigError
    from agent.results.result import load_result
    from agent.tracing.spans import Trace

    if span is not None and search is not None:
        raise click.UsageError("--span shows one span and --search looks for some; give one of them")
    folder = locate(run, runs)
    trial = pick(load_result(folder), candidate)
    asked, ended = measured(folder, trial.id, example)
    trace = Trace.from_json(ended.output["trace"])
    found = trace.spans
    if span is not None:
        found = tuple(item for item in trace.spans if item.id == span)
        if not found:
            last = trace.spans[-1].id if trace.spans else 0
            raise ConfigError(f"there is no span {span} in this trace", hint=f"give a number from 0 to {last}")
    elif search is not None:
        found = trace.search(search)
    failure = ended.output.get("failure")
    if as_json:
        shown = trace.to_json()
        keys = {key for item in found for key in (*item.inputs.values(), item.output)}
        shown["spans"] = [item.to_json() for item in found]
        shown["values"] = {key: value for key, value in shown["values"].items() if key in keys}
        head = {"run": folder.name, "candidate": trial.id, "evaluation": asked.id, "example": asked.example}
        emit({**head, "seconds": ended.output.get("seconds"), "score": ended.score, "failure": failure, "trace": shown})
        return
    row = f" on row {asked.example}" if asked.example is not None else ""
    said = f"failed ({failure['kind']}): {failure['message']}" if failure else _values(ended)
    click.echo(plain(f"candidate {trial.number} ({trial.id[:8]}) of {folder.name}, evaluation {asked.id}{row}: {said}"))
    if span is not None:
        click.echo(trace.show(span))
    elif search is not None:
        click.echo("\n".join(map(trace.line, found)) or f"no span with {plain(search)!r} among {len(trace.spans)}")
    else:
        click.echo(trace.show())


def measured(folder: Path, candidate: str, example: str | None) -> tuple[EvaluationStarted, EvaluationEnded]:
    """The newest search measurement of a candidate that has a trace; on one row, where that is given.

    Raises:
        ConfigError: There is none.
    """
    from agent.errors import ConfigError
    from agent.events import EvaluationEnded, EvaluationStarted
    from agent.journal import read

    asked: dict[int, EvaluationStarted] = {}
    newest: tuple[EvaluationStarted, EvaluationEnded] | None = None
    rows: set[str] = set()
    seen = False
    for entry in read(folder):  # the search's own events: what the gate measured is not among them
        event = entry.event
        if isinstance(event, EvaluationStarted) and event.candidate == candidate and event.purpose == "search":
            asked[event.id] = event
        elif isinstance(event, EvaluationEnded) and event.id in asked:
            started, seen = asked[event.id], True
            if event.output.get("trace"):
                rows |= {started.example} if started.example is not None else set()
                if example is None or started.example == example:
                    newest = started, event
    if newest is not None:
        return newest
    if not seen:
        raise ConfigError(f"candidate {candidate[:8]} has not been measured by the search", hint="try another one")
    if example is not None and rows:
        known = ", ".join(sorted(rows)[:5]) + (", …" if len(rows) > 5 else "")
        raise ConfigError(f"the search has no trace of this candidate on row {example!r}", hint=f"it has {known}")
    raise ConfigError(
        f"there is no trace of candidate {candidate[:8]}",
        hint="decorate the program's functions with @agent.op; an evaluation that was killed has no trace",
    )


def _values(ended: EvaluationEnded) -> str:
    values = (ended.score or {}).get("values", {})
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
