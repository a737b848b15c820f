"""`truegain replay`"""

from __future__ import annotations

import json

import click

from agent.cli.common import emit, json_option, locate, run_argument, runs_option
from agent.telling.text import plain


@click.command(
    "replay",
    help="Decide a RUN again from its recorded replies and outputs. Nothing is measured; the events must be equal.",
)
@run_argument
@click.option("--workers", type=click.IntRange(min=1), default=1, help="Outputs and replies carried at once.")
@runs_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, run: str, workers: int, runs: str | None, as_json: bool) -> None:
    import asyncio

    from agent.replay import replay

    folder = locate(run, runs)
    count, difference = asyncio.run(replay(folder, workers))
    if as_json:
        found = difference and {"seq": difference.seq, "recorded": difference.recorded, "replayed": difference.replayed}
        emit({"run": folder.name, "events": count, "equal": difference is None, "difference": found})
    elif difference is None:
        click.echo(f"{folder.name}: all {count} events are equal")
    else:
        click.echo(f"{folder.name}: event {difference.seq} of {count} differs")
        click.echo("recorded: " + plain(json.dumps(difference.recorded, ensure_ascii=False))[:2000])
        click.echo("replayed: " + plain(json.dumps(difference.replayed, ensure_ascii=False))[:2000])
    ctx.exit(0 if difference is None else 1)
