"""The scorer's side: it packs the items by the priorities that a program gave, and counts the bins."""

from functools import lru_cache
from pathlib import Path

from instances import excess, library, weibull


class Task:
    """Bins beyond the least possible (L1), in percent."""

    entry = "harness:table"
    schema = {  # noqa: RUF012
        "type": "object",
        "additionalProperties": {"type": "array", "items": {"type": "number"}},
    }
    bounds = {"excess": (0.0, None)}  # noqa: RUF012

    def files(self, candidate):
        """What calls the program."""
        return {"harness.py": (Path(__file__).parent / "harness.py").read_text(encoding="utf-8")}

    def inputs(self, seed, stage, row):
        """A row names an instance."""
        return [{"row": {"weibull": "smoke", "items": 20}}] if stage == "smoke" else [{"row": row}]

    def question(self, given):
        """The sizes that there may be, and not the items: what comes next is not known online."""
        capacity = instance(given["row"])["capacity"]
        return {"capacity": capacity, "sizes": list(range(1, min(capacity, 100) + 1))}

    def score(self, given, output):
        """Pack the instance."""
        chosen = instance(given["row"])
        rows = {int(size): row for size, row in output.items()}
        wanted = {size: chosen["capacity"] + 1 - size for size in self.question(given)["sizes"]}
        if {size: len(row) for size, row in rows.items()} != wanted:
            raise ValueError("a priority is missing")
        return {"excess": excess(chosen, rows)}


def instance(row):
    """The instance that a row names: {"weibull": seed, "items": count}, or {"library": file, "index": number}."""
    return _generated(row["weibull"], row["items"]) if "weibull" in row else _library(row["library"])[row["index"]]


@lru_cache(maxsize=512)
def _generated(seed, count):
    return weibull(seed, count)


@lru_cache(maxsize=8)
def _library(name):
    return library(name)
