"""The scorer's side: what a row asks, and what an answer is worth. The answers never leave this process."""

import json
from pathlib import Path

SLOTS = ("people", "time", "date")


class Task:
    """Micro F1 over slot and exact text; a slot that is not in the row and was found counts against."""

    entry = "extract:extract"
    schema = {  # noqa: RUF012
        "type": "object",
        "properties": {slot: {"type": "string"} for slot in SLOTS},
        "additionalProperties": False,
    }

    def files(self, candidate):
        """Put the program together: the patterns are all that changes."""
        program = (Path(__file__).parent / "extract.py").read_text(encoding="utf-8")
        return {"extract.py": program, "patterns.json": json.dumps({slot: candidate[slot] for slot in SLOTS})}

    def inputs(self, seed, stage, row):
        """A row is an input; two long lines come first, on which a hopeless pattern shows cheaply."""
        if stage == "smoke":
            return [{"input": text, "slots": {}} for text in ("a table for 7 " + "and 7 " * 50, "a" * 40 + "!")]
        return [row]

    def question(self, given):
        """A program is never shown the answer."""
        return given["input"]

    def score(self, given, output):
        """Count what was found, missed and made up."""
        wanted, found = given["slots"].items(), output.items()
        tp = len(wanted & found)
        fp, fn = len(found) - tp, len(wanted) - tp
        f1 = 2 * tp / (2 * tp + fp + fn) if wanted or found else 1.0
        words = "" if f1 == 1 else f"{given['input']!r}: wanted {dict(wanted)}, found {dict(found)}"
        return {"f1": f1, "tp": tp, "fp": fp, "fn": fn, "feedback": words}
