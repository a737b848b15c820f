"""The scorer's side: whether each query gives the rows that answer its question, whatever it looks like."""

import json
import math
import sqlite3
from functools import lru_cache
from pathlib import Path

from shop import QUESTIONS, given, script

NUMBERS = ("lines", "price", "dear", "rank", "shown")
SHOPS = ("a", "b", "c", "d")


class Task:
    """The share of the questions that are answered, on databases with other rows."""

    entry = "harness:answers"
    schema = {"type": "object", "additionalProperties": {"type": "object"}}  # noqa: RUF012
    bounds = {"right": (0.0, 1.0)}  # noqa: RUF012

    def files(self, candidate):
        """What runs the queries, and the numbers that may stand in them."""
        harness = (Path(__file__).parent / "harness.py").read_text(encoding="utf-8")
        return {"harness.py": harness, "numbers.json": json.dumps({name: candidate[name] for name in NUMBERS})}

    def inputs(self, seed, stage):
        """Four shops of the same kind, so that a query is not right by accident; other ones for `confirm`."""
        if stage == "smoke":
            return []
        if given():
            return ["given"]
        return list(SHOPS) if stage == "train" else [f"{stage} {seed} {shop}" for shop in SHOPS]

    def question(self, shop):
        """The database, as a script; no question's answer is in it."""
        return given()[0] if shop == "given" else script(shop)

    def score(self, shop, output):
        """Compare results: as sets with counts, and in order where the question asks for one."""
        wanted = expected(shop)
        words = []
        for name, (results, ordered) in wanted.items():
            found = output.get(name, {"failed": "there is no such query"})
            if "rows" not in found or not any(same(found["rows"], one, ordered) for one in results):
                words.append(name + (f" ({str(found['failed'])[:80]})" if "failed" in found else ""))
        share = 1.0 - len(words) / len(wanted)
        return {"right": share, "feedback": "wrong: " + ", ".join(words) if words else ""}


@lru_cache(maxsize=64)
def expected(shop):
    """By name of the query: the results that are accepted, and whether their order counts."""
    if shop == "given":
        rows = given()[1]
        return {name: (row["gold_results"], "order by" in row["gold_sql"][0].lower()) for name, row in rows.items()}
    base = sqlite3.connect(":memory:")
    base.executescript(script(shop))
    return {
        name: ([base.execute(query).fetchall()], "order by" in query.lower()) for name, (_, query) in QUESTIONS.items()
    }


def same(found, wanted, ordered):
    """Whether two results are equal, numbers to a millionth; what is no table equals nothing."""
    if not isinstance(found, list) or not all(isinstance(row, (list, tuple)) for row in found):
        return False
    if not ordered:
        found, wanted = sorted(found, key=_key), sorted(wanted, key=_key)
    return len(found) == len(wanted) and all(
        len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
        for a, b in zip(found, wanted, strict=True)
    )


def _equal(x, y):
    if isinstance(x, (int, float)) and isinstance(y, (int, float)) and max(abs(x), abs(y)) < 1e300:
        return math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-6)
    return x == y


def _key(row):
    """For an order of rows, whatever is in them: nothing, numbers, texts, and what no database gives."""
    return [_place(value) for value in row]


def _place(value):
    if value is None:
        return (0, 0)
    if isinstance(value, (int, float)):
        return (1, round(value, 4) if isinstance(value, float) else value)
    return (2, value) if isinstance(value, str) else (3, repr(value))
