"""The candidate's side of the channel: runs in the forked, locked-down process, beside foreign code.

Nothing here is trusted by the other side. A frame is 16 bytes of nonce, a letter, eight bytes of length,
and that much data. Each request carries a fresh nonce that the one answer to it must repeat:

    H  hello, before anything foreign runs          (unasked, with the nonce that the zygote was told)
    L  load: JSON  →  R ready, or E
    I  an input, encoded  →  O an output, encoded, or E: JSON {"status", "message", "detail"}
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import random
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

from agent.sandbox.codec import decode, encode

HEADER = struct.Struct("<16scQ")
MESSAGE_CHARS = 2000


class Failed(Exception):
    """What the candidate did is a failure with a status of its own."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


def serve(channel: int, nonce: bytes, confine: Callable[[], None]) -> None:
    """Answer requests until there are no more; never returns.

    Args:
        channel: A socket.
        nonce: To be repeated by the first answer.
        confine: Called in the fork that becomes a program.
    """
    _send(channel, nonce, b"H", b"")
    run: Callable[[Any], Any] | None = None
    files, finite = "", True
    while True:
        nonce, kind, data = _receive(channel)
        try:
            if kind == b"L":
                job = json.loads(data)
                files, finite = job["files"], job["finite"]
                run = _load(job, confine)
                _send(channel, nonce, b"R", b"")
            elif run is not None:
                output = run(decode(data, finite=False, trusted=True))
                try:
                    data = encode(output, finite)
                except ValueError as error:
                    raise Failed("invalid", str(error)) from None
                _flush()
                _send(channel, nonce, b"O", data)
        except BaseException as error:
            try:
                _flush()
                _send(channel, nonce, b"E", json.dumps(_describe(error, files)).encode())
            finally:  # it may have replaced what we use
                os._exit(1)


def _send(channel: int, nonce: bytes, kind: bytes, data: bytes) -> None:
    rest = memoryview(HEADER.pack(nonce, kind, len(data)) + data)
    while rest:
        rest = rest[os.write(channel, rest) :]


def _flush() -> None:
    """Out with what it printed: it will be killed, not ended."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()


def _receive(channel: int) -> tuple[bytes, bytes, bytes]:
    nonce, kind, size = HEADER.unpack(_exactly(channel, HEADER.size))
    return nonce, kind, _exactly(channel, size)


def _exactly(channel: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(channel, min(size, 2**20))
        if not part:
            os._exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _load(job: Mapping[str, Any], confine: Callable[[], None]) -> Callable[[Any], Any]:
    os.environ.update(job["env"])  # the zygote has no others than it may have
    if not isinstance(job["entry"], str):
        return lambda value: _program(job, value, confine)
    os.register_at_fork(after_in_child=random._inst.seed)  # see zygote.main
    random.seed(0)  # a fork shares its parent's state: make it the same in every zygote as well
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(0)
    module, _, name = job["entry"].partition(":")
    own = {path.split("/")[0].removesuffix(".py") for path in job["names"]}
    # Asked by name: to go through all modules would write to the memory of each name, and so copy it.
    if any(name in sys.modules for name in own):  # the candidate's own file is meant
        for loaded in [name for name in sys.modules if name.partition(".")[0] in own]:
            del sys.modules[loaded]
    sys.path.insert(0, job["files"])
    if module.partition(".")[0] not in own:
        raise Failed("invalid", f"there is no file for the module {module!r}")
    plain = f"{module}.py" in job["names"] and f"{module}/__init__.py" not in job["names"]
    if plain and module not in sys.stdlib_module_names:
        found = _import(module, f"{job['files']}/{module}.py")
    else:
        found = importlib.import_module(module)
    function = getattr(found, name, None)
    if not callable(function):
        raise Failed("invalid", f"{module} has no function {name!r}")
    return function  # type: ignore[no-any-return]


def _import(name: str, path: str) -> ModuleType:
    """Import a file that we know, as `import` would find it.

    The search alone, in a fork, copies a hundred pages of memory, which takes longer than to run a small program.
    """
    spec = spec_from_file_location(name, path)
    assert spec is not None
    sys.modules[name] = found = module_from_spec(spec)
    descriptor = os.open(path, os.O_RDONLY)
    source = os.read(descriptor, os.fstat(descriptor).st_size + 1)
    os.close(descriptor)
    exec(compile(source, path, "exec", dont_inherit=True), found.__dict__)
    return sys.modules[name]  # a module may put another one in its place


def _program(job: Mapping[str, Any], value: Any, confine: Callable[[], None]) -> dict[str, Any]:
    """Run the command on one input."""
    # Not above: `threading` comes with it, which makes each fork, a function's too, a third of a millisecond longer.
    import subprocess
    import tempfile

    files, most = job["files"], job["output_bytes"]
    argv = [files + word.removeprefix("{files}") if word.startswith("{files}") else word for word in job["entry"]]
    with tempfile.TemporaryFile(dir=".") as file:
        file.write(value.encode() if isinstance(value, str) else json.dumps(value).encode())
        file.seek(0)
        process = subprocess.Popen(argv, stdin=file, stdout=subprocess.PIPE, start_new_session=True, preexec_fn=confine)
    assert process.stdout is not None
    with process.stdout as stdout:
        text = stdout.read(most + 1)
    if len(text) > most:
        raise Failed("invalid", f"it wrote more than {most} bytes to its standard output")
    code = process.wait()
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    if code < 0:
        raise Failed("crash", f"it died with signal {-code}")
    return {"exit": code, "stdout": text.decode("utf-8", "replace")}


def _describe(error: BaseException, files: str) -> dict[str, str]:
    """Status, message and last own frame of what went wrong."""
    try:
        if isinstance(error, Failed):
            return {"status": error.status, "message": str(error), "detail": ""}
        number = getattr(error, "errno", None) if isinstance(error, OSError) else None
        status = "memory" if isinstance(error, MemoryError) or number == errno.ENOMEM else "crash"
        status = "forbidden" if number in (errno.EPERM, errno.EACCES) else status
        message = f"{type(error).__name__}: {error}"[:MESSAGE_CHARS]
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(files)]
        detail = ""
        if frames:
            last = frames[-1]
            detail = f"{os.path.relpath(last.filename, files)}:{last.lineno} {last.name}"
        elif isinstance(error, SyntaxError) and (error.filename or "").startswith(files):
            detail = f"{os.path.relpath(error.filename or '', files)}:{error.lineno}"
        return {"status": status, "message": message, "detail": detail}
    except BaseException:  # its own class may do anything
        return {"status": "crash", "message": "an exception that cannot be described", "detail": ""}
