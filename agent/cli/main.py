"""The command line. Commands are imported when they are used, so that `--help` and `list` load little."""

from __future__ import annotations

import importlib
import io
import itertools
import os
import sys
from typing import Any

import click

from agent.cli.common import emit
from agent.errors import AgentError
from agent.telling.text import plain

COMMANDS: dict[str, str] = {
    "init": "write a working problem folder to start from",
    "doctor": "check this machine; every failing row prints its fix",
    "estimate": "what the budget buys, before anything is spent",
    "run": "optimize a problem",
    "batch": "many problems, night after night, under shared caps",
    "rank": "optimize by order alone: you or a program put candidates in order",
    "serve-eval": "let another program propose the candidates, over HTTP on this machine",
    "mcp": "let agents start and follow runs, over the Model Context Protocol",
    "session": "work on a problem together with a model, at the terminal or headless",
    "resume": "go on with a run that is paused, was cut off or interrupted, or ended at a limit",
    "list": "the runs, newest last",
    "status": "where a run is, and what to do next",
    "watch": "follow a run until it ends or rests",
    "pause": "let nothing new start in a run until resume",
    "stop": "end the process of a run; resume goes on",
    "logs": "the log of a run in the background",
    "show": "a run, one of its candidates, its verdict, or all that its gate found",
    "trace": "what the program did when a candidate was measured",
    "diff": "what differs between two candidates of a run",
    "events": "the journal of a run",
    "export": "the best candidate as files or JSON, with its status",
    "apply": "what a run has released, into the problem's own files: a patch, a branch, or in place",
    "report": "a run as one HTML file for people",
    "eval": "measure one candidate on the train rows, or on a share of them",
    "merge": "join the shards of an evaluation into one report",
    "compare": "several runs beside each other",
    "view": "a page that follows runs as they go, and browses those that have ended",
    "replay": "decide a run again from its recorded replies and outputs, and compare",
    "gate": "what may still be claimed, a new gate, opening its rows, and self-tests",
    "prune": "remove old runs",
}
"""Each lives in a module of its name and is an attribute `command` there."""


class Commands(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"agent.cli.{cmd_name.replace('-', '_')}")
        found: click.Command = module.command
        return found

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader of a pipe went away, as `head` does: no error. Python would complain again when it flushes
            # stdout at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"truegain {version('truegain')}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def cli() -> None:
    """TrueGain makes something measurable better with an LLM, and claims only gains that were shown.

    Start with:  truegain init --example sqlite && truegain run sqlite
    """


def fail(error: dict[str, Any], as_json: bool, lines: bool = False) -> None:
    """Print an error: one JSON document on stdout, or two lines for people on stderr, or one JSON line there."""
    from agent.redact import redact

    error = redact(error)
    if as_json:
        emit({"error": error})
        return
    if lines:
        from agent.cli.jsonlines import JsonLines

        more = {name: value for name, value in error.items() if name != "message"}
        JsonLines(sys.stderr).say("error", "error", error["message"], **more)
        return
    click.echo(plain(f"truegain: {error['message']}"), err=True)
    if error.get("hint"):
        click.echo(plain(f"  fix: {error['hint']}"), err=True)


def _forbidden(place: Any) -> dict[str, Any]:
    """What is said of a file or folder that this user may not use, whichever command it was that needed it."""
    where = os.fsdecode(place) if isinstance(place, bytes) else str(place)
    hint = f"look whose it is (ls -ld {where}), and give yourself the right (chmod), or work as its owner"
    return {"kind": "config", "message": f"{where}: this user may not use it (permission denied)", "hint": hint}


def _said(error: click.ClickException) -> str:
    """A mistake in click's words, without those that lead astray."""
    if isinstance(error, click.NoSuchOption):
        known = [name for name in error.possibilities or () if name != "--help"]
        error = click.NoSuchOption(error.option_name, possibilities=known)
    return error.format_message().replace("is not a valid integer range", "is not a valid integer")


def main(argv: list[str] | None = None) -> None:
    """Entry point of `truegain`; ends the process with the exit codes of docs/cli.md."""
    arguments = sys.argv[1:] if argv is None else argv
    asked = itertools.pairwise(arguments)
    as_json = "--json" in arguments or "--output=json" in arguments or ("--output", "json") in asked
    lines = arguments[:1] == ["batch"] and not sys.stderr.isatty()  # a schedule's log holds nothing else
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal of another encoding shows what it can
    try:
        code = cli.main(arguments, prog_name="truegain", standalone_mode=False, obj=("truegain", *arguments))
        sys.exit(code if isinstance(code, int) else 0)
    except AgentError as error:
        fail(error.to_json(), as_json, lines)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.Abort as error:
        fail({"kind": "interrupted", "message": "interrupted", "hint": str(error)}, as_json, lines)
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        path = f"truegain {arguments[0]}" if arguments and arguments[0] in COMMANDS else "truegain"
        if isinstance(error, click.UsageError) and error.ctx is not None:
            path = error.ctx.command_path
        fail({"kind": "config", "message": _said(error), "hint": f"{path} --help"}, as_json, lines)
        sys.exit(2)
    except Exception as error:
        if isinstance(error, PermissionError) and error.filename is not None:
            fail(_forbidden(error.filename), as_json, lines)
            sys.exit(2)
        if not as_json:
            raise
        import traceback

        traceback.print_exc()
        hint = "this is a defect; please report it with what is on stderr"
        fail({"kind": "internal", "message": f"{type(error).__name__}: {error}", "hint": hint}, as_json, lines)
        sys.exit(1)
