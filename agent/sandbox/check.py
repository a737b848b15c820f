"""Try the layers that need nothing but the kernel, each in a process of its own. Runs as a script:

    python -P -s -B check.py UID PATH...

It prints one JSON object, layer → why it does not work, or "". PATHs are what UID must be able to reach.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable


def main() -> None:
    """Try all layers, and print what came of it."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    sys.path.insert(0, root)
    from agent.sandbox import landlock, native, reach, seccomp

    uid, paths = int(sys.argv[1]), sys.argv[2:]

    def try_landlock() -> None:
        native.prctl(native.PR_SET_NO_NEW_PRIVS, 1)
        landlock.restrict(landlock.ruleset([], [], landlock.abi()))
        refused(lambda: open(__file__).close())

    def try_seccomp() -> None:
        import socket

        native.prctl(native.PR_SET_NO_NEW_PRIVS, 1)
        seccomp.restrict(seccomp.template(single=True))
        refused(lambda: socket.socket().close())
        refused(lambda: os.fork() or os._exit(0))
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

    def try_uid() -> None:
        if os.geteuid() != 0:
            raise OSError("not started as root")
        closed = reach.unreachable(paths)
        try:
            if closed:
                reach.leave()
                reach.open_up(paths)
        except OSError as error:
            raise OSError(f"other users cannot reach {closed[0]}, and it cannot be opened to them: {error}") from None
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        refused(lambda: os.setuid(0))
        for path in paths:
            if not os.access(path, os.R_OK):
                raise OSError(f"the other user cannot read {path}")

    tries = {"landlock": try_landlock, "seccomp": try_seccomp, "uid": try_uid}
    print(json.dumps({name: outcome(call) for name, call in tries.items()}))


def refused(call: Callable[[], object]) -> None:
    """Do what a layer should forbid; raises OSError where it does not."""
    try:
        call()
    except PermissionError:
        return
    raise OSError("it has no effect")


def outcome(call: Callable[[], None]) -> str:
    """Call it in a fork; what it raised, as text."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            call()
        except KeyError as error:
            os.write(write, f"no table for the processor {error}".encode())
        except BaseException as error:
            os.write(write, (getattr(error, "strerror", None) or str(error) or type(error).__name__).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        text = file.read().decode()
    _, status = os.waitpid(child, 0)
    return text or ("" if status == 0 else f"its test ended with status {status}")


if __name__ == "__main__":
    main()
