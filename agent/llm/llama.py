"""llama.cpp in a process of its own, serving one model over the OpenAI chat protocol on this machine.

Inside of our process it would do the same, but its shutdown hangs or crashes when a request is under
way, a fork inherits threads that are not there, and a broken file takes the whole run along.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import suppress
from typing import IO, ClassVar

from agent.errors import ProviderError
from agent.llm import weights
from agent.llm.hub import Progress

THREADS = 1
"""The evaluator needs the other cores; and for a model this small, more threads cost more than they give."""

PROGRAM = r"""
import json, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which closes our input when it is done
want = json.loads(sys.stdin.readline())
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path = want["path"]
params.model_alias = {want["name"]}
params.api_keys = [want["token"]]
params.n_ctx = want["context"]
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = want["threads"]
params.n_parallel = 1
if want["embed"]:  # a text is read at once then, and its vector is the mean over its tokens
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
# Below 64 tokens at a time, attention adds up in the same order however much of a prompt was cached, so that
# equal requests get equal replies. New parts of a prompt take 1.4 times as long as with the default of 512;
# reading all of it again each time, the other way to the same end, takes up to 8 times as long.
# A call that was cancelled is noticed between two batches.
params.n_batch = params.n_ubatch = want["context"] if want["embed"] else 48
params.cache_ram_mib = 512
params.n_gpu_layers = 0
params.warmup = params.ui = params.endpoint_slots = False
params.verbosity = 1
server = xllamacpp.Server(params)
compact = xllamacpp.json_schema_to_grammar({"type": "object"}).startswith("%llguidance")
print(json.dumps({"address": server.listening_address, "compact": compact}), flush=True)
sys.stdin.read()
os._exit(0)  # destroying the server could hang
"""


class LlamaProcess:
    """The process that holds one model, alive as long as somebody refers to this object."""

    _running: ClassVar[weakref.WeakValueDictionary[tuple[object, ...], LlamaProcess]] = weakref.WeakValueDictionary()
    _guard: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def shared(cls, name: str, context: int, progress: Progress | None, embed: bool = False) -> LlamaProcess:
        """The server of a model in this process: the one that runs, or a new one. Blocks while it loads.

        Args:
            name: Of the model.
            context: Tokens that fit.
            progress: Told about a download of the weights.
            embed: Whether it is to give embeddings, which the server of a chat cannot.
        """
        with cls._guard:
            path = str(weights.locate(name, progress=progress).resolve())
            key = (os.getpid(), name, path, context, embed)  # a fork must not end what belongs to its parent
            server = cls._running.get(key)
            if server is None or not server.alive:
                server = cls._running[key] = cls(name, path, context, embed)
            return server

    def __init__(self, name: str, path: str, context: int, embed: bool = False) -> None:
        self.name = name
        self.token = secrets.token_urlsafe(24)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        # Spinning threads would take the cores from the evaluator; set for this process alone, not for ours.
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(THREADS)}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment,
            start_new_session=True,
        )
        weakref.finalize(self, _stop, self._process, self._said, os.getpid())  # also at exit
        assert self._process.stdin is not None and self._process.stdout is not None
        want = {"path": path, "name": name, "token": self.token, "context": context, "threads": THREADS, "embed": embed}
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(want).encode() + b"\n")
            self._process.stdin.flush()
        try:
            ready = json.loads(self._process.stdout.readline())
        except ValueError:
            self._process.wait()
            raise ProviderError(
                f"local:{name} cannot be loaded from {path}: {self.obituary()}",
                fatal=True,
                hint="fetch the file anew, or name another model",
            ) from None
        self.address: str = ready["address"]
        self.compact: bool = ready["compact"]

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    async def ended(self) -> bool:
        """Whether the process is at its end; its connections break a moment before the system says so."""
        for _ in range(20):
            if not self.alive:
                return True
            await asyncio.sleep(0.05)
        return False

    def obituary(self) -> str:
        """Why the process ended, in its own words if it left some."""
        code = self._process.returncode or 0
        if code < 0:
            reason = "for lack of memory, perhaps" if -code == signal.SIGKILL else "a fault in llama.cpp"
            return f"its process was ended by signal {-code} ({reason})"
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").split("\n")
        causes = (line.partition("error loading model: ")[2] for line in lines)
        last = next(filter(None, reversed(lines)), f"its process ended with code {code}")
        return next(filter(None, causes), last)


def _stop(process: subprocess.Popen[bytes], said: IO[bytes], owner: int) -> None:
    if os.getpid() != owner:
        return
    assert process.stdin is not None and process.stdout is not None
    with suppress(OSError):
        process.stdin.close()
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:  # it was still loading
        process.kill()
        process.wait()
    process.stdout.close()
    said.close()
