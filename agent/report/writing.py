"""Finding the run of a report, and writing its file."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from agent.errors import ConfigError


def located(run: str, runs: str | None) -> Path:
    """The folder of a run.

    Raises:
        ConfigError: There is no such run, or it is a study by order alone, which has no report.
    """
    from agent.folders import find, runs_folder

    try:
        return find(runs_folder(None, runs), run)
    except ConfigError:
        from agent.ordering.study import FILE

        place = runs_folder(None, runs)
        studies = [path.parent for path in (Path(run) / FILE, *place.glob(f"*/{FILE}")) if path.is_file()]
        if any(run == "last" or path == Path(run) or path.name.startswith(run) for path in studies):
            raise ConfigError(
                f"{run} is a study of `truegain rank`, which has orders and no scores: there is no report of it",
                hint="truegain rank PROBLEM --resume RUN --rounds 0 shows its result",
            ) from None
        raise


def write(path: Path, page: str) -> Path:
    """Write a page, whole or not at all; gives its absolute path.

    Raises:
        ConfigError: It cannot be written; what was there before is as it was.
    """
    path = path.expanduser().absolute()
    young = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        young.write_text(page, encoding="utf-8")
        os.replace(young, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            young.unlink()
        raise ConfigError(
            f"cannot write {path}: {error.strerror}", hint="free some space, or name another place: --to FILE.html"
        ) from None
    return path
