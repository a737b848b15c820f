"""`truegain apply`"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import emit, json_option, locate, run_argument, runs_option
from agent.telling.text import plain

if TYPE_CHECKING:
    from agent.applying.apply import Patch
    from agent.applying.gitbranch import Branch, Repository


@click.command(
    "apply",
    help="Bring what a RUN has released into the problem's own files. Without an option it only shows the change.",
)
@run_argument
@click.option("--patch", "to", metavar="FILE", help="Write the change as a patch that git apply takes; - is stdout.")
@click.option("--branch", metavar="NAME", help="Commit it on a new branch; working tree and index stay as they are.")
@click.option("--write", "in_place", is_flag=True, help="Write it into the files themselves.")
@click.option("--unproven", is_flag=True, help="Take the best candidate although no exam has shown that it is better.")
@click.option("--problem", type=click.Path(path_type=Path), help="The problem's folder, if it moved.")
@runs_option
@json_option
def command(
    run: str,
    to: str | None,
    branch: str | None,
    in_place: bool,
    unproven: bool,
    problem: Path | None,
    runs: str | None,
    as_json: bool,
) -> None:
    from agent.applying.apply import patch, write
    from agent.results.result import load_result

    if to == "-" and as_json:
        raise click.UsageError("--patch - and --json both write to stdout; the JSON document holds the patch")
    change = patch(load_result(locate(run, runs)), unproven=unproven, problem=problem)
    repository = _repository(change, needed=branch is not None)
    text = change.text(repository.prefix if repository is not None else "")
    made: Branch | None = None
    if change.files:
        if branch is not None and repository is not None:
            made = repository.commit(change, branch)
        if to is not None and to != "-":
            _save(Path(to), text)
        if in_place:
            write(change)
    if as_json:
        emit(_document(change, text, to, made, in_place))
        return
    if to == "-" and change.files:
        _raw(text)
    elif change.files and not (to or branch or in_place):
        click.echo(plain(text.decode("utf-8", "replace")), nl=False)
    for line in _said(change, to, made, in_place, change.run if run == "last" else run):
        click.echo(plain(line), err=to == "-")


def _repository(change: Patch, needed: bool) -> Repository | None:
    """The problem's repository; without one a patch's paths begin at the problem's folder."""
    from agent.applying.gitbranch import Repository
    from agent.errors import AgentError

    try:
        return Repository(change.folder)
    except AgentError:
        if needed and change.files:
            raise
        return None


def _save(place: Path, text: bytes) -> None:
    from agent.errors import StoreError

    try:
        place.write_bytes(text)
    except OSError as error:
        raise StoreError(f"cannot write {place}: {error.strerror}", hint="name another file") from None


def _raw(text: bytes) -> None:
    """A patch byte for byte; on a terminal its control characters are shown."""
    if sys.stdout.isatty() or not hasattr(sys.stdout, "buffer"):
        click.echo(plain(text.decode("utf-8", "replace")), nl=False)
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def _document(change: Patch, text: bytes, to: str | None, made: Branch | None, wrote: bool) -> dict[str, Any]:
    return {
        "run": change.run,
        "status": change.status,
        "done": _done(change, to, made, wrote),
        "files": [str(change.folder / item.path) for item in change.files],
        "patch": text.decode("utf-8", "surrogateescape"),
        "message": change.message,
        "branch": made.name if made else None,
        "commit": made.commit if made else None,
        "notes": list(change.notes),
    }


def _done(change: Patch, to: str | None, made: Branch | None, wrote: bool) -> str:
    """What happened, in one word."""
    if not change.files:
        return "nothing" if change.status == "initial" else "already"
    if wrote:
        return "written"
    if made is not None:
        return "committed" if made.new else "already"
    return "saved" if to else "shown"


def _said(change: Patch, to: str | None, made: Branch | None, wrote: bool, run: str) -> list[str]:
    """The last lines for people."""
    out = list(change.notes)
    names = ", ".join(os.path.join(change.folder.name, item.path) for item in change.files)
    if not change.files:
        if change.status != "initial":
            out.append(f"{change.folder} holds the candidate of {change.run} already; nothing to do")
        return out
    if made is not None:
        how = "committed on the new branch" if made.new else "already there: the branch"
        out.append(f"{how} {made.name} ({made.commit[:10]}): {names}")
        out.append(f"Next: git show {made.name}   git merge {made.name}")
    if to and to != "-":
        out.append(f"wrote {to}: {names}\nNext: git apply {to}, at the top of the repository")
    if wrote:
        out.append(f"wrote {names}")
    if not (to or made or wrote):
        out.append(f"\nThis would change {names} ({change.status}); nothing was written.")
        out.append(
            f"Next: truegain apply {run} --branch NAME (a commit, your working tree stays)   --write   --patch FILE"
        )
    return out
