"""`truegain stop`"""

from __future__ import annotations

import click

from agent.cli.common import emit, json_option, locate, run_argument, runs_option
from agent.telling.text import brief


@click.command(
    "stop",
    help="End the process of a RUN and wait until it has gone: what is in flight is finished and saved first. "
    "`truegain resume` goes on with it. A run that has ended or rests stays as it is.",
)
@run_argument
@click.option("--now", is_flag=True, help="End it at once; what is in flight is measured again by a resume.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait so long at most.")
@runs_option
@json_option
def command(run: str, now: bool, timeout: float | None, runs: str | None, as_json: bool) -> None:
    from agent.control.client import stop
    from agent.folders import listing, spoken

    folder = locate(run, runs)
    live = listing(folder).pid is not None
    found = stop(folder, now, timeout)
    if as_json:
        emit(found.to_json())
        return
    name = spoken(folder)
    if found.state == "finished":
        click.echo(f"{folder.name} {'has finished' if live else 'had finished before'}: {found.status}.")
        click.echo(f"Next: truegain show {name}")
        return
    if found.state == "lost":
        click.echo(f"{folder.name} did not obey and was killed; what was measured is safe.")
    else:
        click.echo(f"{folder.name} {'is' if live else 'was already'} stopped ({brief(found.detail, 80)}).")
    click.echo(f"Next: truegain resume {name}")
