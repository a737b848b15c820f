"""Evaluations on the workers of a dask cluster: one that is there already, or one of this machine.

What a worker does with a request is in `agent.executors.dask_worker`. The package `distributed` is imported when the
first request is submitted, or by `ready`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from typing import Any

from agent.errors import PrerequisiteError
from agent.evaluation import Output, Request
from agent.executors.dask_job import Job, lost
from agent.executors.dask_reach import installed, refused
from agent.executors.measure import Partials
from agent.executors.subprocess import CLOSED
from agent.space import digest

log = logging.getLogger(__name__)
CONNECT_SECONDS = 30.0
"""How long the scheduler may take to answer."""
EMPTY_SECONDS = 120.0
"""How long a request waits for a cluster without any worker; one that grows on demand needs some time."""
EMPTY_TOLD_SECONDS = 5.0
"""After so long it is said that there is none."""
SILENT_SECONDS = 1.0
"""After so long it is said what is waited for."""
CLOSE_SECONDS = 10.0
NO_DASHBOARD = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
"""A server for its health stays, on a free port: with the usual one, two clusters at once would complain."""
ATTEMPTS = 2
"""A request whose worker was lost is begun once more."""


class DaskExecutor:
    """Runs requests on the workers of a dask cluster.

    Requests and outputs travel as JSON, under a key of their own; the first answer to a key counts, and whatever comes
    later for it changes nothing. A worker measures in a process of its own (as `SubprocessExecutor` does here), so time
    limits, memory limits, captured output and cancellation are the same. When a worker is lost the request is begun
    once more, on another one: then the output's `attempts` is 2. When that one is lost too, it failed ("lost").

    Nothing is shipped: the package and the problem's folder must be there, at the same path and in the same version,
    which each worker checks before it measures.

    Args:
        spec: The evaluator's `spec`.
        fingerprint: The evaluator's.
        slots: How many requests are submitted at once; at least 1.
        scheduler: Address of a scheduler, such as "tcp://10.0.0.5:8786"; None for a cluster of `slots` worker
            processes on this machine, which ends with this executor.
        resources: What each evaluation takes of what workers offer, such as {"GPU": 1}.
        isolate: Whether every request gets a new process.
        env: Environment variables that the measuring processes get in addition.
        connect_seconds: How long the scheduler may take to answer.
        empty_seconds: How long a request may wait while the cluster has no worker at all.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        *,
        fingerprint: str,
        slots: int,
        scheduler: str | None = None,
        resources: Mapping[str, float] | None = None,
        isolate: bool = False,
        env: Mapping[str, str] | None = None,
        connect_seconds: float = CONNECT_SECONDS,
        empty_seconds: float = EMPTY_SECONDS,
    ) -> None:
        if slots < 1:
            raise ValueError(f"slots must be at least 1, not {slots}")
        self._token = os.urandom(6).hex()
        self._common: dict[str, Any] = {
            "token": self._token,
            "spec": dict(spec),
            "fingerprint": fingerprint,
            "env": dict(env or {}),
            "isolate": isolate,
        }
        self._count = slots
        self._slots = asyncio.Semaphore(slots)
        self._scheduler = scheduler
        self._resources = dict(resources or {})
        self._connect_seconds = connect_seconds
        self._empty_seconds = empty_seconds
        self._client: Any = None
        self._cluster: Any = None
        self._connecting = asyncio.Lock()
        self._jobs: dict[str, Job] = {}
        self._asked: Counter[str] = Counter()
        self._outbox: list[tuple[str, Job]] = []
        """What goes to dask in the loop's next turn, with its key there."""
        self._closed = False
        self._empty = False
        """Whether it was told that the cluster has no worker."""

    async def ready(self) -> None:
        """Connect, once.

        Raises:
            PrerequisiteError: The package is missing, nobody answers at the address, the scheduler has another version,
                or no worker offers the resources.
        """
        async with self._connecting:
            if self._client is None and not self._closed:
                try:
                    await self._connect()
                except BaseException:
                    await self._leave()
                    raise

    async def submit(self, request: Request, partial: Callable[[Any], None] | None = None) -> Output:
        """The request's output; failures are outputs. Cancelling the call has the worker kill the measurement.

        Raises:
            PrerequisiteError: As `ready`; or the scheduler went away, the cluster has no workers, or one of them must
                not measure for this run. That says nothing of the candidate, so it is no output.
        """
        async with self._slots:
            await self.ready()
            if self._closed:
                return Output(failure=CLOSED)
            loop = asyncio.get_running_loop()
            content = digest([request.to_json(), request.purpose])
            self._asked[content] += 1
            key = f"truegain-{self._token}-{content[:16]}-{self._asked[content]}"
            message = {**self._common, "request": request.to_json(), "partials": partial is not None}
            job = Job(key, message, loop.create_future(), Partials(partial))
            began = loop.time()
            try:
                self._send(job)
                output = await self._answer(job)
            finally:
                kept = job.partials.end()
                self._drop(job)
            return replace(
                output,
                partials=output.partials or kept,
                attempts=max(1, len(job.begun)),
                seconds=output.seconds or loop.time() - began,
            )

    async def close(self) -> None:
        """Stop all work here and on the workers. May be called twice."""
        self._closed = True
        for job in list(self._jobs.values()):
            job.settle(Output(failure=CLOSED))
            self._drop(job)
        async with self._connecting:
            await self._leave()

    async def _connect(self) -> None:
        installed()
        import distributed
        from distributed.versions import VersionMismatchWarning

        from agent.executors.dask_worker import TOPIC, versions

        self._common["versions"] = versions()
        for handler in logging.getLogger("distributed").handlers:  # its words on what we tell in ours
            handler.addFilter(self._mute)
        place: Any = self._scheduler
        connect: Any = distributed.Client
        local: Any = distributed.LocalCluster
        waiting = asyncio.get_running_loop().call_later(SILENT_SECONDS, self._still)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", VersionMismatchWarning)  # told below, as an error that says what to do
                if place is None:
                    place = self._cluster = await local(
                        n_workers=self._count,
                        threads_per_worker=1,
                        scheduler_kwargs=NO_DASHBOARD,
                        asynchronous=True,
                        silence_logs=logging.CRITICAL,
                        memory_limit=0,
                    )
                else:
                    await refused(place)
                # Known before it is connected, so that one which never gets there is closed too.
                self._client = connect(place, asynchronous=True, set_as_default=False, timeout=self._connect_seconds)
                async with asyncio.timeout(self._connect_seconds + 1):  # dask waits on for one that takes and is silent
                    await self._client
        except (OSError, ValueError, RuntimeError) as error:  # refused, silent, no such scheme, not a scheduler
            raise PrerequisiteError(
                f"there is no dask scheduler at {self._scheduler or 'this machine'}: {str(error) or 'no answer'}",
                fix="start one (dask scheduler; dask worker tcp://…), or correct it: --set dask.scheduler=tcp://…",
            ) from None
        finally:
            waiting.cancel()
        found = await self._client.get_versions()
        theirs = ((found.get("scheduler") or {}).get("packages") or {}).get("distributed")
        mine = self._common["versions"]["distributed"]
        if theirs != mine:
            raise PrerequisiteError(
                f"distributed is {theirs} at the scheduler and {mine} here",
                fix=f"install distributed=={theirs} here, or =={mine} there and on the workers",
            )
        # A cluster without any worker may be about to get some; `_answer` gives it time.
        if await self._client.nthreads() and (lacking := await self._lacking()):
            raise lacking
        # Asked with what every Python has: a request would end a worker that cannot import it, and be taken for lost.
        places = await self._client.run(metadata.version, "truegain", on_error="return")
        for place, version in sorted(places.items()):
            if isinstance(version, ImportError):
                raise PrerequisiteError(f"truegain is not installed on the worker {place}", fix=INSTALL)
        self._client.subscribe_topic(TOPIC, self._told)

    def _mute(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.CRITICAL

    def _still(self) -> None:
        if self._scheduler is not None:
            log.warning(f"connecting to {self._scheduler} ({self._connect_seconds:g} s)")

    async def _lacking(self) -> PrerequisiteError | None:
        """What keeps the cluster from measuring anything: it has no worker, or none that offers the resources."""
        workers = (await self._client.scheduler.identity(n_workers=-1))["workers"].values()
        offered = [worker.get("resources", {}) for worker in workers]
        if any(all(one.get(name, 0) >= amount for name, amount in self._resources.items()) for one in offered):
            return None
        wanted = " ".join(f"{name}={amount:g}" for name, amount in self._resources.items())
        more = f' --resources "{wanted}"' if wanted else ""
        return PrerequisiteError(
            f"none of the {len(offered)} workers offers {wanted}" if offered else "the cluster has no worker",
            fix=f"start some: dask worker {self._scheduler or 'tcp://…'}{more}",
        )

    def _send(self, job: Job) -> None:
        # Another key each time: dask would answer with what it already made of this one.
        key = f"{job.key}-{len(job.keys) + 1}"
        job.keys.append(key)
        self._jobs[key] = job
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbox.append((key, job))

    def _flush(self) -> None:
        """Give dask what was sent meanwhile, at once: a graph of many costs it and us hardly more than one of one."""
        from agent.executors.dask_worker import evaluate

        sent = [(key, job) for key, job in self._outbox if key in self._jobs]  # others were cancelled meanwhile
        self._outbox.clear()
        if not sent:
            return
        keys, messages = [key for key, _ in sent], [json.dumps({**job.message, "key": key}) for key, job in sent]
        try:
            futures = self._client.map(
                evaluate, messages, key=keys, pure=False, retries=0, resources=self._resources or None
            )
        except Exception:  # a client that is closed takes nothing
            for _, job in sent:
                job.fail(self._gone())
            return
        for (_, job), future in zip(sent, futures, strict=True):
            job.future = future
            job.fetching = asyncio.ensure_future(self._fetch(job, future))

    def _drop(self, job: Job) -> None:
        for key in job.keys:
            self._jobs.pop(key, None)
        job.release()

    async def _fetch(self, job: Job, future: Any) -> None:
        """Wait for what dask makes of a request, and settle the job with it."""
        from distributed import CancelledError, KilledWorker

        try:
            reply = json.loads(await future)
        except (asyncio.CancelledError, CancelledError) as error:
            if getattr(error, "reason", "") == "scheduler-connection-lost":
                job.fail(self._gone())
            elif not job.answer.done() and isinstance(error, CancelledError):
                job.fail(PrerequisiteError(f"the cluster gave up a request: {error}", fix=RESUME))
        except KilledWorker:
            # A scheduler may be set to give up at the first loss; what was only queued there costs nothing.
            if len(job.begun) < ATTEMPTS and len(job.keys) < ATTEMPTS:
                self._send(job)
            elif job.begun:
                job.settle(lost(job))
            else:  # they cannot even read a request, which says nothing of the candidate
                text = "the workers died of a request, before they began it"
                job.fail(PrerequisiteError(text, fix=INSTALL))
        except Exception as error:  # nothing of the user's raises here
            if self._client is None or self._client.status != "running":
                job.fail(self._gone())
            else:
                text = f"{type(error).__name__}: {error}"
                job.fail(PrerequisiteError(f"a worker cannot run TrueGain's requests: {text}", fix=INSTALL))
        else:
            if "refused" in reply:
                where = job.begun[-1] if job.begun else "a worker"
                job.fail(PrerequisiteError(f"{where}: {reply['refused']}", fix=reply["hint"]))
            else:
                job.settle(Output.from_json(reply["output"]))

    async def _answer(self, job: Job) -> Output:
        loop = asyncio.get_running_loop()
        since: float | None = None
        # Whether it was begun does not matter: where no worker is, the one that began it is gone.
        pause = min(EMPTY_TOLD_SECONDS, self._empty_seconds / 4)
        while not (await asyncio.wait({job.answer}, timeout=pause))[0]:
            pause = self._empty_seconds / 4
            try:
                lacking = await self._lacking()
            except OSError:  # the scheduler is going away, which `_fetch` is told
                continue
            if lacking and not self._empty:
                log.warning(f"{lacking.message}; one is waited for, {self._empty_seconds:g} s ({lacking.fix})")
            self._empty = bool(lacking)
            since = (since or loop.time()) if lacking else None
            if lacking and since and loop.time() - since >= self._empty_seconds:
                raise PrerequisiteError(
                    f"{lacking.message}, for {self._empty_seconds:g} s now", fix=f"{lacking.fix}; {RESUME}"
                )
        return job.answer.result()

    def _told(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """A worker says something of a request; of one that is over, or from a worker that was given up, nothing."""
        message = event[1]
        job = self._jobs.get(message.get("key", ""))
        if job is None or job.answer.done():
            return
        attempt = str(message.get("attempt"))
        if "begun" in message:
            if attempt in job.attempts:
                return  # told twice
            job.attempts.append(attempt)
            job.begun.append(message["begun"])
            if len(job.begun) == ATTEMPTS:
                log.warning(f"the worker {job.begun[0]} was lost; its evaluation is begun again at {job.begun[1]}")
            elif len(job.begun) > ATTEMPTS:
                job.settle(lost(job))
                job.release()
        elif job.attempts and attempt == job.attempts[-1]:
            job.partials(json.loads(message["partial"]))

    def _gone(self) -> PrerequisiteError:
        where = self._scheduler or "on this machine"
        return PrerequisiteError(f"the dask scheduler {where} went away", fix=f"start it again; {RESUME}")

    async def _leave(self) -> None:
        client, cluster = self._client, self._cluster
        self._client = self._cluster = None
        if client is not None:
            from agent.executors.dask_worker import forget

            with suppress(Exception):
                async with asyncio.timeout(CLOSE_SECONDS):
                    if client.status == "running":
                        await client.run(forget, self._token, on_error="ignore")
            with suppress(Exception):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await client.close()
        if cluster is not None:
            with suppress(Exception):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await cluster.close()
        for handler in logging.getLogger("distributed").handlers:
            handler.removeFilter(self._mute)


RESUME = "truegain resume goes on with what was measured so far"
INSTALL = "install the same version of truegain, with its extra dask, on every worker"
