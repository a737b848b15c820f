"""The checks of `truegain doctor`: this machine, and a problem."""

from __future__ import annotations

import importlib.util
import os
import platform
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from agent.setup import Setup

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


def machine(where: Path, models: Iterable[str], *, fetch: bool = False) -> Iterator[Row]:
    """What every run needs.

    Args:
        where: The folder of runs.
        models: Those that will be asked, as provider:model.
        fetch: Get the embedded model's weights now.
    """
    wanted = tuple(models)
    new = sys.version_info >= (3, 11)
    yield Row("python", new, platform.python_version(), "install Python 3.11 or later")
    wal = sqlite3.sqlite_version_info >= (3, 35)
    yield Row("sqlite", wal, sqlite3.sqlite_version, "install a Python with SQLite 3.35 or later")
    for package in ("openai", "anthropic", "pydantic", "numpy"):
        there = importlib.util.find_spec(package) is not None
        yield Row(package, there, "installed" if there else "missing", "pip install -U truegain")
    yield _folder(where)
    yield from _local(wanted, fetch)
    for provider, variable in KEYS.items():
        there = bool(os.environ.get(variable) or os.environ.get(f"{provider.upper()}_BASE_URL"))
        needed = any(name.startswith(f"{provider}:") for name in wanted)
        yield Row(f"{provider} key", there, "set" if there else "not set", f"export {variable}=…", needed)
    yield _certificates(wanted)


def _folder(where: Path) -> Row:
    from agent.lock import NETWORK, filesystem

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


def asked(problem: Path | None, overrides: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """The models that a problem names; without one, the default."""
    from agent.errors import AgentError
    from agent.settings import DEFAULT_MODEL

    if problem is None:
        return (DEFAULT_MODEL,)
    from agent.config import load

    try:
        return tuple(load(problem, overrides).settings.models.values())
    except AgentError:
        return (DEFAULT_MODEL,)  # the problem's own row says what is wrong with it


def _local(wanted: tuple[str, ...], fetch: bool) -> Iterator[Row]:
    from agent.errors import AgentError
    from agent.llm import weights

    own = [name.partition(":")[2] for name in wanted if name.startswith("local:")]
    needed = bool(own)
    there = importlib.util.find_spec("xllamacpp") is not None
    yield Row("xllamacpp", there, "installed" if there else "missing", "pip install 'truegain[local]'", needed)
    name = own[0] if own else weights.NAME
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


def _certificates(wanted: tuple[str, ...]) -> Row:
    import ssl

    paths = ssl.get_default_verify_paths()
    good = bool(os.environ.get("SSL_CERT_FILE") or (paths.cafile and Path(paths.cafile).exists()) or paths.capath)
    found = os.environ.get("SSL_CERT_FILE") or paths.cafile or paths.capath or "none"
    return Row(
        "CA certificates",
        good,
        str(found),
        "install ca-certificates, or set SSL_CERT_FILE",
        any(not name.startswith("local:") for name in wanted),
    )


def problem(load: Callable[[], Setup], name: str = "") -> Iterator[Row]:
    """Whether a problem can be read and measured.

    Args:
        load: Reads it.
        name: What to call it beside others.
    """
    import asyncio

    from agent.beforehand import measured
    from agent.cli.run import session_of
    from agent.errors import AgentError
    from agent.ledger import lasting, plural

    mark = f" {name}" if name else ""
    try:
        session = session_of(load())
        session.check()
        yield Row(f"problem{mark}", True, f"{session.problem.name}: {plural(len(session.problem.space), 'parameter')}")
        if session.sandbox:
            lacking = session.sandbox.get("not_stopped", [])
            found = f"does not keep candidate code from {', or '.join(lacking)}" if lacking else "strong enough"
            layers = ", ".join(session.sandbox["layers"])
            yield Row(f"sandbox{mark}", not lacking, f"{found}: {layers}", "truegain doctor --sandbox", needed=False)
        before = asyncio.run(measured(session))
        paid = f" ({before.paid})" if before.paid else ""
        yield Row(f"evaluator{mark}", True, f"scores the initial candidate in {lasting(before.seconds)}{paid}")
    except AgentError as error:
        yield Row(f"problem{mark}", False, error.message, error.hint)
