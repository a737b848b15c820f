"""`truegain estimate`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agent.cli.common import emit, json_option, table
from agent.cli.run import overrides, problem_options, session_of


@click.command(
    "estimate", help="What the budget buys, before anything is spent. --measure measures the initial candidate once."
)
@click.argument("problem", type=click.Path(path_type=Path))
@click.option("--measure", is_flag=True, help="Measure the initial candidate once, to tell the time.")
@problem_options
@json_option
def command(problem: Path, measure: bool, as_json: bool, **given: Any) -> None:
    import asyncio

    from agent.config import load
    from agent.forecast import forecast

    session = session_of(load(problem, overrides(given)))
    session.check()
    found = asyncio.run(forecast(session, measure))
    if as_json:
        emit(found.to_json())
        return
    click.echo(
        f"{session.problem.name}: {len(session.problem.space)} parameters, proposer {session.settings.proposer}\n"
    )
    table(found.rows(), ("WHAT", "AMOUNT", "NOTE"))
    for note in found.notes:
        click.echo(f"\nNote: {note}")
    click.echo(f"\nNext: truegain run {problem}")
