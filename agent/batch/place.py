"""Where a batch is, and when its nights end: what needs no more than the bare file."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.tomlread import read_toml

Limits = Mapping[str, float]
"""Limits by kind: evaluations, calls, tokens, usd, seconds. A kind that is absent has no limit."""

_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_OFFSET = re.compile(r"(\d+(?:\.\d+)?)([smh])")
_UNITS = {"s": 1, "m": 60, "h": 3600}


def is_until(text: str) -> bool:
    """Whether this is a local time or a time after the beginning."""
    return bool(_CLOCK.fullmatch(text) or _OFFSET.fullmatch(text))


def deadline(until: str | None, began: float) -> float | None:
    """When a night ends.

    Args:
        until: As in `Plan`.
        began: When it began, in seconds since 1970.

    Returns:
        Seconds since 1970; None without an end. A local time is the next one after `began`.
    """
    if until is None:
        return None
    offset = _OFFSET.fullmatch(until)
    if offset:
        return began + float(offset[1]) * _UNITS[offset[2]]
    clock = _CLOCK.fullmatch(until)
    assert clock is not None, "checked when the plan was read"
    local = time.localtime(began)
    for day in (0, 1):  # mktime knows about the days on which clocks are changed
        end = time.mktime((local.tm_year, local.tm_mon, local.tm_mday + day, int(clock[1]), int(clock[2]), 0, 0, 0, -1))
        if end > began:
            break
    return end


def month_of(now: float) -> str:
    """The calendar month in local time, as "2026-03"."""
    return time.strftime("%Y-%m", time.localtime(now))


def folder_of(runs: Path, name: str) -> Path:
    """Where a batch keeps its ledger and its summaries."""
    return runs / "batches" / name


def read(file: Path) -> dict[str, Any]:
    """The bare content of a batch file.

    Raises:
        ConfigError: There is none, or it is not TOML.
    """
    return read_toml(file, missing="docs/batch.md shows a batch file to start from")


def located(file: Path, raw: Mapping[str, Any], runs: str | Path | None = None) -> tuple[str, Path]:
    """The name of a batch, and its folder of runs: `runs`, or the file's, or where `truegain run` puts them."""
    from agent.folders import runs_folder

    where = file.resolve().parent
    name = raw.get("name") or plain_name(file.resolve().stem, "batch")
    given = raw.get("runs")
    place = runs_folder(where, runs) if runs or not given else (where / str(given)).resolve()
    return str(name), place


def plain_name(text: str, otherwise: str) -> str:
    """A folder's or a file's name as the name of a batch or a problem."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip("._-")[:64] or otherwise
