"""Run a command as another user, who can reach this Python wherever it lies: as_user.py UID PATH... -- COMMAND..."""

import os
import sys

from agent.sandbox import reach
from agent.sandbox.layers import python_paths

uid, *rest = sys.argv[1:]
split = rest.index("--")
paths = [*python_paths(), *rest[:split]]
if reach.unreachable(paths):
    reach.leave()
    reach.open_up(paths)
os.setgroups([])
os.setresgid(int(uid), int(uid), int(uid))
os.setresuid(int(uid), int(uid), int(uid))
os.environ["HOME"] = "/"
os.execv(rest[split + 1], rest[split + 1 :])
