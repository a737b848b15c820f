"""`truegain pause`"""

from __future__ import annotations

import click

from agent.cli.common import emit, json_option, locate, run_argument, runs_option


@click.command(
    "pause",
    help="Let nothing new start in a RUN, and wait until nothing is in flight. `truegain resume` lets it go on.",
)
@run_argument
@click.option("--no-wait", is_flag=True, help="Return at once; what is in flight is finished meanwhile.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait so long at most.")
@runs_option
@json_option
def command(run: str, no_wait: bool, timeout: float | None, runs: str | None, as_json: bool) -> None:
    from agent.control.client import pause
    from agent.folders import spoken

    folder = locate(run, runs)
    found = pause(folder, wait=not no_wait, timeout=timeout)
    if as_json:
        emit({**found, "folder": str(folder)})
        return
    rest = "; what is in flight is being finished" if found["busy"] else ""
    click.echo(f"{folder.name} is paused{rest}.\nNext: truegain resume {spoken(folder)}")
