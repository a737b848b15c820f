"""`truegain doctor`"""

from __future__ import annotations

import importlib.util
import os
import platform
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from agent.cli.common import emit, json_option, runs_option

KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


@dataclass(frozen=True, slots=True)
class Row:
    """One check: good, or not and then how to mend it; `needed` ones decide the exit code."""

    name: str
    good: bool
    found: str
    fix: str = ""
    needed: bool = True

    def to_json(self) -> dict[str, object]:
        return {"check": self.name, "ok": self.good, "found": self.found, "fix": self.fix, "needed": self.needed}


@click.command(
    "doctor", help="Check this machine and, when given, a PROBLEM's folder. Every failing row prints its fix."
)
@click.argument("problem", required=False, type=click.Path(path_type=Path))
@click.option("--fetch", is_flag=True, help="Fetch the embedded model's weights now, to prepare an image.")
@click.option("--sandbox", is_flag=True, help="Attack the sandbox for candidate code, and see what stops it.")
@click.option("--without", multiple=True, metavar="LAYER", help="With --sandbox: switch a layer off. Repeatable.")
@runs_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    problem: Path | None,
    fetch: bool,
    sandbox: bool,
    without: tuple[str, ...],
    runs: str | None,
    as_json: bool,
) -> None:
    if sandbox or without:
        from agent.cli.doctor_sandbox import check

        ctx.exit(check(without, as_json))
    rows = list(_rows(problem, fetch, runs))
    bad = [row for row in rows if row.needed and not row.good]
    if as_json:
        emit({"ok": not bad, "checks": [row.to_json() for row in rows]})
    else:
        width = max(len(row.name) for row in rows)
        for row in rows:
            mark = "ok  " if row.good else "FAIL" if row.needed else "-   "
            click.echo(f"{mark} {row.name.ljust(width)}  {row.found}")
            if not row.good and row.fix:
                click.echo(f"     {' ' * width}  fix: {row.fix}")
        if not bad:
            start = f"truegain run {problem}" if problem else "truegain init --example sqlite && truegain run sqlite"
            click.echo(f"\nNext: {start}")
    ctx.exit(69 if bad else 0)


def _rows(problem: Path | None, fetch: bool, runs: str | None) -> Iterator[Row]:
    new = sys.version_info >= (3, 11)
    yield Row("python", new, platform.python_version(), "install Python 3.11 or later")
    wal = sqlite3.sqlite_version_info >= (3, 35)
    yield Row("sqlite", wal, sqlite3.sqlite_version, "install a Python with SQLite 3.35 or later")
    for package in ("openai", "anthropic", "pydantic", "numpy"):
        there = importlib.util.find_spec(package) is not None
        yield Row(package, there, "installed" if there else "missing", "pip install -U truegain")
    yield _folder(problem, runs)
    wanted = _model(problem)
    yield from _local(wanted, fetch)
    for provider, variable in KEYS.items():
        there = bool(os.environ.get(variable) or os.environ.get(f"{provider.upper()}_BASE_URL"))
        needed = wanted.startswith(provider)
        yield Row(f"{provider} key", there, "set" if there else "not set", f"export {variable}=…", needed)
    yield _certificates(wanted)
    if problem is not None:
        yield from _problem(problem)


def _folder(problem: Path | None, runs: str | None) -> Row:
    from agent.folders import runs_folder
    from agent.lock import NETWORK, filesystem

    where = runs_folder(problem, runs)
    present = next(place for place in (where, *where.parents) if place.exists())
    kind = filesystem(present)
    if kind in NETWORK:
        return Row(
            "runs folder",
            False,
            f"{where} is on a network mount ({kind})",
            "--runs FOLDER or TRUEGAIN_RUNS on a local disk",
        )
    good = os.access(present, os.W_OK | os.X_OK)
    return Row(
        "runs folder", good, str(where) + ("" if good else " cannot be written"), "--runs FOLDER, or set TRUEGAIN_RUNS"
    )


def _model(problem: Path | None) -> str:
    from agent.errors import AgentError
    from agent.settings import DEFAULT_MODEL

    if problem is None:
        return DEFAULT_MODEL
    from agent.config import load

    try:
        return load(problem).settings.models.get("propose", "none")
    except AgentError:
        return DEFAULT_MODEL  # the problem's own row says what is wrong with it


def _local(wanted: str, fetch: bool) -> Iterator[Row]:
    from agent.errors import AgentError
    from agent.llm import weights

    needed = wanted.startswith("local:")
    there = importlib.util.find_spec("xllamacpp") is not None
    yield Row("xllamacpp", there, "installed" if there else "missing", "pip install 'truegain[local]'", needed)
    name = wanted.partition(":")[2] if needed else weights.NAME
    try:
        path = weights.locate(name, fetch=fetch, progress=_progress() if fetch else None)
        yield Row("model weights", True, str(path))
    except AgentError as error:
        # Without --fetch this is no fault: the first run fetches them.
        yield Row("model weights", False, error.message, error.hint, needed=fetch)


def _progress() -> Callable[[int, int, str], None]:
    said = [-1]

    def report(done: int, total: int, what: str) -> None:
        step = 10 * done // total if total else 0
        if step > said[0]:
            said[0] = step
            click.echo(f"{what} {done / 1e6:.0f} MB", err=True)

    return report


def _certificates(wanted: str) -> Row:
    import ssl

    paths = ssl.get_default_verify_paths()
    good = bool(os.environ.get("SSL_CERT_FILE") or (paths.cafile and Path(paths.cafile).exists()) or paths.capath)
    found = os.environ.get("SSL_CERT_FILE") or paths.cafile or paths.capath or "none"
    return Row(
        "CA certificates",
        good,
        str(found),
        "install ca-certificates, or set SSL_CERT_FILE",
        not wanted.startswith("local:"),
    )


def _problem(problem: Path) -> Iterator[Row]:
    import asyncio

    from agent.cli.run import session_of
    from agent.config import load
    from agent.errors import AgentError
    from agent.forecast import measured

    try:
        session = session_of(load(problem))
        session.check()
        yield Row("problem", True, f"{session.problem.name}: {len(session.problem.space)} parameters")
        seconds = asyncio.run(measured(session))
        yield Row("evaluator", True, f"scores the initial candidate in {seconds:.2g} s")
    except AgentError as error:
        yield Row("problem", False, error.message, error.hint)
