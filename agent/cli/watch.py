"""`truegain watch`"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.common import locate, run_argument, runs_option
from agent.telling.text import plain
from agent.telling.words import Words

if TYPE_CHECKING:
    from agent.journal import Entry

EVERY = 0.2
"""Seconds between two looks at the journal."""


@click.command(
    "watch",
    help="Follow a RUN until it ends or rests; Ctrl-C leaves it alone. On a terminal a live table, otherwise lines.",
)
@run_argument
@click.option("--after", default=0, metavar="N", help="Only events behind number N.")
@click.option("--no-follow", is_flag=True, help="Show what is there, and do not wait for more.")
@click.option("--json", "as_json", is_flag=True, help="Print the search's events, one JSON document a line.")
@runs_option
def command(run: str, after: int, no_follow: bool, as_json: bool, runs: str | None) -> None:
    from agent.telling.display import may_draw

    folder = locate(run, runs)
    try:
        if as_json:
            for entry in follow(folder, after, not no_follow):
                if entry is not None:
                    click.echo(json.dumps(entry.to_json()))
        elif may_draw(sys.stdout) and not no_follow and not after:
            from agent.cli.table import draw

            draw(folder, follow(folder, 0, True))
        else:
            _lines(folder, after, not no_follow)
    except KeyboardInterrupt:
        return


def follow(folder: Path, after: int, wait: bool) -> Iterator[Entry | None]:
    """The search's events behind a place, and more as they come, until the run ends or rests; None: nothing new.

    Args:
        folder: Of the run.
        after: A place in the journal.
        wait: Whether to wait for more at all.

    Raises:
        StoreError: The journal cannot be read.
    """
    from agent.folders import listing
    from agent.journal import read

    while True:
        state = listing(folder).state  # asked first: what is written before the process goes is read below
        for entry in read(folder, after=after):
            after = entry.seq
            yield entry
        if not wait or state not in ("running", "paused", "stopping"):
            return
        yield None
        time.sleep(EVERY)


def _lines(folder: Path, after: int, wait: bool) -> None:
    from agent.state import folded

    state, words = None, Words(elsewhere=True)
    for entry in follow(folder, 0, wait):
        if entry is None:
            continue
        state = folded(state, entry)
        if state is None:
            continue
        said = words(entry.event, state)
        if said.text and entry.seq > after:
            click.echo(plain(said.text))
    from agent.telling.status import standing

    found = standing(folder)
    if found["state"] in ("stopped", "lost"):
        click.echo(plain(f"{found['run']} is {found['state']}{': ' + found['detail'] if found['detail'] else ''}."))
        click.echo(f"Next: {found['next'][0]}")
