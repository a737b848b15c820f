"""`truegain report`"""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import OutFile, emit, json_option, run_argument, runs_option
from agent.telling.text import plain


@click.command("report", help="A RUN as one HTML file for people: opens from disk, loads nothing, runs no script.")
@run_argument
@runs_option
@click.option("--to", "to", type=OutFile(), help="The file (report.html in the run's folder).")
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
@click.option("--full", is_flag=True, help="Keep every output and text whole, whatever the size.")
@json_option
def command(run: str, runs: str | None, to: Path | None, show: bool, full: bool, as_json: bool) -> None:
    """With --json the same facts are printed, and a file is written only where --to or --open asks for one."""
    from agent.report.view import load_view
    from agent.report.writing import located, write

    folder = located(run, runs)
    view = load_view(folder, full)
    file: Path | None = None
    if not as_json or to is not None or show:
        from agent.report.page import report

        file = write(to or folder / "report.html", report(view))
    if as_json:
        emit({"file": str(file) if file else None, **view.to_json()})
    elif file is not None:
        click.echo(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)")
        click.echo(f"{view.status}: {plain(view.sentence)}")
        for line in view.left_out:
            click.echo(f"left out: {line}; --full keeps everything")
    if show and file is not None:
        import webbrowser

        if not webbrowser.open(file.as_uri()):
            click.echo(f"no browser could be started here; open {file}", err=True)
