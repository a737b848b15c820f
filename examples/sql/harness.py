"""The candidate's side: runs the queries, each one statement that only reads, with limits on time and rows."""

import json
import sqlite3
import time
from pathlib import Path

FOLDER = Path(__file__).parent
NUMBERS = json.loads((FOLDER / "numbers.json").read_text(encoding="utf-8"))
READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
SECONDS, ROWS = 0.5, 200


def answers(script):
    """Make the database, and return for each query its rows, or why it has none."""
    base = sqlite3.connect(":memory:")
    base.executescript(script)
    base.execute("PRAGMA query_only = ON")
    base.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in READING else sqlite3.SQLITE_DENY)
    queries = sorted((FOLDER / "queries").glob("*.sql"))
    return {path.stem: answer(base, path.read_text(encoding="utf-8")) for path in queries}


def answer(base, query):
    """The rows of one query, or its failure; `:name` in it stands for a number of the candidate."""
    end = time.monotonic() + SECONDS
    base.set_progress_handler(lambda: time.monotonic() > end, 1000)
    try:
        rows = base.execute(query, NUMBERS).fetchmany(ROWS + 1)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
        return {"failed": f"{error}"[:200]}
    if len(rows) > ROWS:
        return {"failed": f"more than {ROWS} rows"}
    return {"rows": [[str(v) if isinstance(v, bytes) else v for v in row] for row in rows]}
