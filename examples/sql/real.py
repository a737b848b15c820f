"""Writes a problem folder for a database of the data set that TRUEGAIN_DATA names: its questions, and no queries yet.

python real.py restaurants FOLDER
SQL_DB=restaurants truegain run FOLDER --proposer evolve --model provider:model
"""

import os
import re
import shutil
import sys
import textwrap
from pathlib import Path

from shop import given

HERE = Path(__file__).parent


def write(name, target):
    """The folder, with a first draft for each question: all of the table whose name is most like a word in it."""
    os.environ["SQL_DB"] = name
    script, questions = given()
    tables = re.findall(r'CREATE TABLE (?:IF NOT EXISTS )?"?(\w+)"?', script, re.IGNORECASE)
    target.mkdir(parents=True)
    for file in ("problem.toml", "task.py", "harness.py", "shop.py"):
        shutil.copy(HERE / file, target)
    (target / "queries").mkdir()
    for key, row in questions.items():
        asked = f"{row['question']} {row['instructions']}"
        words = [f"-- {line}" for line in textwrap.wrap(" ".join(asked.split()), 110)]
        chosen = next((table for table in tables if table.rstrip("s") in asked.lower()), tables[0])
        text = "\n".join([*words, f"SELECT * FROM {chosen}"])
        (target / "queries" / f"{key}.sql").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]))
