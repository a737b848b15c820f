"""What a night and its problems came to, and the exit code that this means."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

WORST = (143, 130, 1, 2, 3, 69, 75, 0)
"""A night ends with the first of these that any of its problems has."""
AGAIN = (75, 130, 143)
"""Codes of a problem whose turn was not over; in a night that goes on they say nothing of tonight's process."""


class Say(Protocol):
    """Tells what happens, for a log."""

    def __call__(self, level: str, event: str, text: str, /, **fields: Any) -> None: ...


def silent(level: str, event: str, text: str, /, **fields: Any) -> None:
    """A `Say` for whoever wants no log."""


@dataclass(frozen=True, slots=True)
class Night:
    """What a night came to.

    Args:
        name: Such as 2026-03-01-1: the local date of its beginning, and its number on that date.
        folder: Where its summary is.
        code: What the command line ends with.
        document: The summary as plain JSON.
    """

    name: str
    folder: Path
    code: int
    document: dict[str, Any]


def judge_drift(report: dict[str, Any]) -> None:
    """What the re-scoring means for a problem: it failed, or no row has a score and no run says more."""
    drift = report.get("drift") or {}
    code, searched = drift.get("exit_code", 0), bool(report.get("run"))
    if code and not report["exit_code"] and ("error" in drift or not searched):
        report["exit_code"] = code
        if not searched:
            report |= {"status": "failed", "detail": drift.get("error") or drift["sentence"]}


def exit_code(reports: Mapping[str, Mapping[str, Any]], touched: Collection[str], measured: bool) -> int:
    """What a night that was not stopped ends with.

    Args:
        reports: What became of each problem.
        touched: Problems that this process worked on, and not only an earlier one of the same night.
        measured: Whether anything was measured in the night.
    """
    codes = {r["exit_code"] for name, r in reports.items() if name in touched or r["exit_code"] not in AGAIN}
    if not measured:
        codes.add(75)
    return next((code for code in WORST if code in codes), 1)


def internal(error: BaseException) -> dict[str, Any]:
    """An error of our own as JSON."""
    return {"kind": "internal", "message": f"{type(error).__name__}: {error}", "hint": ""}
