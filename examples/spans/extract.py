"""The candidate's side: finds spans in a sentence, by the patterns that the scorer put beside this file."""

import json
import re
from pathlib import Path

PATTERNS = {
    slot: re.compile(pattern, re.IGNORECASE)
    for slot, pattern in json.loads((Path(__file__).parent / "patterns.json").read_text(encoding="utf-8")).items()
    if pattern
}


def extract(text):
    """Return the first match of each slot's pattern; its group `span` where it has one."""
    out = {}
    for slot, pattern in PATTERNS.items():
        found = pattern.search(text)
        if found:
            out[slot] = found["span"] if "span" in pattern.groupindex else found[0]
    return out
