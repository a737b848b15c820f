"""`truegain view`"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agent.cli.common import emit, json_option, locate, runs_option


@click.command(
    "view",
    help="A page that follows runs as they go, and browses those that have ended. RUN is the one to open first, or a"
    " folder of runs. Read-only, to this machine alone, until Ctrl-C.",
)
@click.argument("run", default="", metavar="[RUN]")
@runs_option
@click.option("--port", default=0, metavar="N", type=click.IntRange(0, 65535), help="The port (a free one).")
@click.option("--no-open", is_flag=True, help="Print the address, and open no browser.")
@json_option
def command(run: str, runs: str | None, port: int, no_open: bool, as_json: bool) -> None:
    """With --json the address is printed as one document, {"url", "runs_folder"}, and no browser is opened."""
    from agent.folders import folders
    from agent.view.server import Server

    folder, first = _place(run, runs)
    next(folders(folder), None)  # one that may not be read is refused here, and not at each look of the page
    with Server(folder, port, first) as server:
        if as_json:
            emit({"url": server.url, "runs_folder": str(folder)})
        else:
            click.echo(
                f"{server.url}\nLive view of {folder}. Whoever has this address can read the runs. Ctrl-C ends it."
            )
        sys.stdout.flush()
        _last_in_line()
        if not (no_open or as_json) and sys.stdout.isatty():
            import webbrowser

            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def _place(run: str, runs: str | None) -> tuple[Path, str]:
    """The folder of runs, and the run to open first or ""."""
    from agent.folders import runs_folder
    from agent.journal import FILE

    if not run:
        return runs_folder(None, runs), ""
    direct = Path(run).expanduser()
    if direct.is_dir() and not (direct / FILE).exists() and not runs:
        return direct.resolve(), ""
    found = locate(run, runs)
    return found.parent, found.name


def _last_in_line() -> None:
    """Let the runs go first: whoever looks on must not slow them."""
    import contextlib
    import os

    with contextlib.suppress(OSError):
        os.nice(10)
