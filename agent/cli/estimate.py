"""`truegain estimate`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agent.cli.common import emit, json_option, plain, runs_option, table
from agent.cli.run import overrides, problem_options, session_of


@click.command(
    "estimate",
    help="What the budget buys and what it could prove, before anything is spent. --measure measures the initial "
    "candidate against itself a few times (2 to 20 evaluations).",
)
@click.argument("problem", type=click.Path(path_type=Path))
@click.option("--measure", is_flag=True, help="Measure the initial candidate a few times, to tell time and noise.")
@problem_options
@runs_option
@json_option
def command(problem: Path, measure: bool, runs: str | None, as_json: bool, **given: Any) -> None:
    import asyncio

    from agent.config import load
    from agent.folders import runs_folder
    from agent.forecast import forecast

    setup = load(problem, overrides(given))
    session = session_of(setup)
    found = asyncio.run(forecast(session, measure, runs_folder(setup.problem.folder, runs)))
    found.notes[:0] = [note.rstrip(".") for note in setup.notes]
    if as_json:
        emit(found.to_json())
        return
    click.echo(
        f"{session.problem.name}: {len(session.problem.space)} parameters, proposer {session.settings.proposer}\n"
    )
    table(found.rows(), ("WHAT", "AMOUNT", "NOTE"))
    click.echo(plain(f"\nProof: {found.proof}."))
    for note in found.notes:
        click.echo(plain(f"\nNote: {note}"))
    click.echo(f"\nNext: truegain run {problem}")
