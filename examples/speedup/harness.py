"""The candidate's side: runs a program that reads standard input and prints, as a function of its input."""

import builtins
import contextlib
import io
import sys
from pathlib import Path

CODE = compile((Path(__file__).parent / "program.py").read_text(encoding="utf-8"), "program.py", "exec")


def run(text):
    """Return what the program prints, by lines and without spaces at their ends."""
    sys.stdin, out = io.StringIO(text), io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(CODE, {"__name__": "__main__", "__builtins__": builtins})
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())
