"""What `test_accounts` runs in processes of its own: exams on one gate set, one line for each step that is on the disk.

python account_worker.py FOLDER RUN COUNT [full | readonly]
"""

from __future__ import annotations

import os
import random
import resource
import sys
from pathlib import Path

from agent.errors import StoreError
from agent.gate.accounts import Accounts
from agent.problem import Example

WORDS = ["".join(random.Random(number).choices("abcdefghijklmnop", k=6)) for number in range(3000)]


def rows(count: int, start: int = 0, words: int = 20) -> list[Example]:
    """Rows that have nothing in common: the same ones in every process."""
    return [
        Example(f"row-{number}", {"question": " ".join(random.Random(f"row {number}").choices(WORDS, k=words))})
        for number in range(start, start + count)
    ]


def edited(example: Example) -> Example:
    """The row with one word changed, under another id."""
    words = example.row["question"].split()
    words[-1] = "changed"
    return Example(f"edited-{example.id}", {"question": " ".join(words)})


def main(folder: str, run: str, count: str, how: str = "") -> None:
    accounts, gate = Accounts(Path(folder)), rows(20)
    if how == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (170_000, 170_000))
        gate = rows(40, words=60)
    if how == "readonly" and os.geteuid() == 0:
        os.setuid(65534)  # root may write anywhere
    try:
        for exam in range(int(count)):
            if how == "full":
                gate = rows(40, 40 * exam, words=60)
            begun = accounts.begin(run=run, exam=exam, rows=gate, alpha=0.05, last=False, planned=20)
            print("begun", exam, begun.tests, begun.level.hex(), flush=True)
            accounts.end(run=run, exam=exam, accepted=exam % 3 == 0, note={})
            print("ended", exam, flush=True)
    except StoreError as error:
        print("error", error.message, "|", error.hint, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
