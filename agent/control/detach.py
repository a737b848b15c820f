"""Starts a command again in the background, and hears whether it came as far as running.

The child is a session of its own, so that no terminal's end reaches it. It keeps the caller's stdout and stderr until
its run is about to be driven: what stops it before that is said there, as always. Then it tells its launch record
over a pipe, and writes to its log alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

LOG = "log.jsonl"
VARIABLE = "TRUEGAIN_LAUNCH"
"""Tells the child that it is one, and which descriptor is the pipe."""


def launch(arguments: Sequence[str]) -> tuple[dict[str, Any] | None, int]:
    """Start `truegain ARGUMENTS` in the background and wait until it runs or has failed.

    Args:
        arguments: Of this command; the child is given the same.

    Returns:
        The launch record, and 0; or None, and the exit code of a child that has said itself why it failed.
    """
    ours, theirs = os.pipe()
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "agent", *arguments],
            stdin=subprocess.DEVNULL,
            env={**os.environ, VARIABLE: str(theirs)},
            pass_fds=(theirs,),
            start_new_session=True,
        )
    finally:
        os.close(theirs)
    with open(ours, encoding="utf-8") as pipe:
        try:
            record = pipe.read()
        except KeyboardInterrupt:  # the terminal's Ctrl-C does not reach it
            child.terminate()
            child.wait()
            raise
    if record:
        child.returncode = 0  # it lives on, and nobody here will wait for it
        return json.loads(record), 0
    return None, child.wait()


def inherited() -> int | None:
    """In such a child: the descriptor to tell the launch record on. None in any other process, and the second time."""
    given = os.environ.pop(VARIABLE, "")
    if not given.isdecimal():
        return None
    descriptor = int(given)
    os.set_inheritable(descriptor, False)
    return descriptor


def announce(descriptor: int, record: Mapping[str, Any]) -> None:
    """Tell the launch record. Who waited for it may be gone."""
    with contextlib.suppress(OSError), open(descriptor, "w", encoding="utf-8") as pipe:
        pipe.write(json.dumps(record))
