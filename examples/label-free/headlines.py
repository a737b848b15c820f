"""Which of two headlines of a notice is better, by rules that a program can check. No right headline is known."""

import re

WORDS = 10
"""Most words of a headline."""
OPENINGS = ("subject", "headline", "notice", "this ", "the notice", "here ", "sure", "i'm ", "i am ", "dear ")
"""How a headline does not begin."""


def faults(row, output):
    """The rules that a headline of row["notice"] breaks, in words; an empty list when it keeps them all."""
    text, notice = output.strip(), row["notice"].lower()
    words = re.findall(r"[\w'’-]+", text.lower())
    known = set(re.findall(r"[\w'’-]+", notice))
    rules = {
        "it is empty": not words,
        "it is more than one line": "\n" in text,
        f"it has more than {WORDS} words": len(words) > WORDS,
        "it has quotation marks or other marks of a text format": bool(re.search(r'["“”*#_]', text)),
        "it says what it is before it says anything": text.lower().startswith(OPENINGS),
        "it names nothing that the notice is about": row["about"].lower() not in text.lower(),
        "it does not say when": row["when"].lower() not in text.lower(),
        "it has a number that the notice does not have": any(word.isdigit() and word not in known for word in words),
    }
    return [words for words, broken in rules.items() if broken]


def better(row, a, b):
    """The preference for `a`: 1 when it breaks fewer rules than `b`, 0 when it breaks more, else 0.5."""
    left, right = len(faults(row, a)), len(faults(row, b))
    return 0.5 if left == right else float(left < right)
