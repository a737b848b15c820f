"""`truegain merge`"""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import json_option


@click.command(
    "merge",
    help="Join the result files of all shards of truegain eval into one report, with the same numbers as one "
    "evaluation of all rows. Shards that are missing, twice there, unfinished, or of something else are refused.",
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@json_option
def command(files: tuple[Path, ...], as_json: bool) -> int:
    from agent.cli.eval import told
    from agent.shardfiles import merge

    return told(merge(files).report(), as_json)
