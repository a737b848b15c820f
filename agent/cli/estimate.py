"""`truegain estimate`"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import emit, json_option, runs_option
from agent.cli.run import begun, overrides, problem_options, session_of, start_options
from agent.telling.text import plain, table

if TYPE_CHECKING:
    from agent.problem import Problem


def _found(problem: Problem) -> list[str]:
    """What makes rows count less than their number: copies, near-copies and clusters."""
    from agent.datasets.splits import divide
    from agent.gate.outlook import clusters

    if not problem.by_rows or any(row.split != "train" for row in problem.data):
        return []  # rows that came divided were compared when they were read
    together = divide(problem.data, {"val": 0, "test": 0}, problem.labels)
    out = []
    if together.exact:
        out.append(f"{together.exact} rows copy another row under another id")
    if together.near:
        out.append(f"{together.near} rows nearly repeat another row")
    units = clusters(together.examples)
    if units < len(together.examples):
        out.append(f"the rows count as {units} independent examples: a cluster, and copies of one row, count once")
    return out


@click.command(
    "estimate",
    help="What the budget buys and what it could prove, before anything is spent. --measure measures the initial "
    "candidate against itself a few times (2 to 20 evaluations).",
)
@click.argument("problem", type=click.Path(path_type=Path))
@click.option("--measure", is_flag=True, help="Measure the initial candidate a few times, to tell time and noise.")
@problem_options
@start_options
@runs_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, problem: Path, measure: bool, runs: str | None, as_json: bool, **given: Any) -> None:
    import asyncio

    from agent.config import load
    from agent.folders import runs_folder
    from agent.forecast import forecast
    from agent.ledger import plural

    setup = begun(load(problem, overrides(given)), given)
    session = session_of(setup)
    found = asyncio.run(forecast(session, measure, runs_folder(setup.problem.folder, runs)))
    found.notes[:0] = [note.rstrip(".") for note in (*setup.notes, *_found(setup.problem))]
    if as_json:
        emit(found.to_json())
        return
    size = plural(len(session.problem.space), "parameter")
    click.echo(f"{session.problem.name}: {size}, proposer {session.settings.proposer}\n")
    table(found.rows(), ("WHAT", "AMOUNT", "NOTE"))
    click.echo(plain(f"\nProof: {found.proof}."))
    for note in found.notes:
        click.echo(plain(f"\nNote: {note}"))
    gone = any(note.startswith("the gate is exhausted") for note in found.notes)
    if gone:
        click.echo(f"\nNext: truegain gate new {problem}")
        return
    words = tuple(ctx.obj or ())[2:]  # after "truegain estimate"
    again = [word for word in words if word != "--measure"] or [str(problem)]
    click.echo(plain(f"\nNext: truegain run {shlex.join(again)}"))
