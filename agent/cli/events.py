"""`truegain events`"""

from __future__ import annotations

import json

import click

from agent.cli.common import emit, json_option, locate, run_argument, runs_option
from agent.telling.text import plain


@click.command(
    "events",
    help="The journal of a RUN, oldest first. The gate's events are there after the end, its rows with `gate open`.",
)
@run_argument
@runs_option
@click.option("--after", default=0, metavar="N", help="Only events behind number N.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only events of this type, such as race.decided.")
@json_option
def command(run: str, runs: str | None, after: int, types: tuple[str, ...], as_json: bool) -> None:
    from agent.wall import visible

    folder = locate(run, runs)
    entries = [entry.to_json() for entry in visible(folder, after=after) if not types or entry.event.type in types]
    if as_json:
        emit({"run": folder.name, "events": entries})
        return
    for entry in entries:
        head = {name: entry.pop(name) for name in ("seq", "time", "type", "audience")}
        text = json.dumps({k: v for k, v in entry.items() if k != "request"}, ensure_ascii=False)
        click.echo(f"{head['seq']:5} {head['type']:20} {plain(text) if len(text) <= 160 else plain(text[:157]) + '…'}")
