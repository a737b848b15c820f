"""What accounts would say, without writing to them."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.gate.accountfile import FILE, AccountFile, explain


@contextlib.contextmanager
def copied(folder: Path) -> Iterator[Path]:
    """A temporary folder with a copy of a runs folder's accounts, to try out what would happen to them.

    Args:
        folder: The runs folder; it need not exist.

    Raises:
        StoreError: The accounts cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="truegain-") as name:
        place = Path(name)
        file = AccountFile(folder)
        with file.reading() as db:
            if db is not None:
                try:
                    with contextlib.closing(sqlite3.connect(place / FILE)) as copy:
                        db.backup(copy)
                except sqlite3.Error as error:
                    raise explain(error, file.path) from None
        yield place
