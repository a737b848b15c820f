"""The Batch APIs of a fake provider: OpenAI's files and batches, Anthropic's message batches.

A batch is worked off, and billed, when it is taken: that is the worst case for whoever lost sight of it. What it
shows of that, and when, is said by the next `Plan`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.parser import BytesParser
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from fake_wires import JSON, Behaviour, chat, message, responses

if TYPE_CHECKING:
    from fake_provider import Request

Answer = tuple[int, JSON | bytes, JSON]
ENDED_AT = "2026-01-01T00:00:00Z"


class Drop(Exception):
    """Break the connection without an answer."""


@dataclass
class Plan:
    """What becomes of one batch.

    Args:
        polls: Questions that are answered with "in progress" first; None for one that is never done.
        status: completed, expired, cancelled or failed (the last is OpenAI's alone).
        left: Places of the requests (from 0) that were not come to: expired or cancelled; not billed.
        silent: Places whose result is missing, although they were billed.
        garble: Places whose result is half of a line.
        twice: Places whose result comes twice.
        stranger: Whether there is a result of somebody else's.
        shuffle: Whether the results come in reverse order.
        drop: "before" or "after" the batch was taken: the connection breaks when it is made.
        cut: How many results come before the connection breaks, once.
        refuse: An HTTP error in place of making it: status, code.
        errors: Of a failed batch: (line from 1 or None, code).
        questions: Errors in answer to the first questions how far it is: (status, headers).
    """

    polls: int | None = 1
    status: str = "completed"
    left: tuple[int, ...] = ()
    silent: tuple[int, ...] = ()
    garble: tuple[int, ...] = ()
    twice: tuple[int, ...] = ()
    stranger: bool = False
    shuffle: bool = True
    drop: str = ""
    cut: int | None = None
    refuse: tuple[int, str] | None = None
    errors: tuple[tuple[int | None, str], ...] = ()
    questions: list[tuple[int, JSON]] = field(default_factory=list)


@dataclass
class Batch:
    """A batch that was taken."""

    id: str
    plan: Plan
    names: list[str]
    lines: list[tuple[str, bytes]]
    """Results: "output" or "errors", and the line."""
    metadata: JSON
    endpoint: str
    created: float
    asked: int = 0
    stopped: bool = False

    @property
    def over(self) -> bool:
        return self.stopped or (self.plan.polls is not None and self.asked > self.plan.polls)


class Batches:
    """Both providers' batches in one place.

    Args:
        answer: What to do with one request of a batch, as with one that comes alone.
    """

    def __init__(self, answer: Callable[[Any], Behaviour]) -> None:
        self.all: list[Batch] = []
        self.calls = self.tokens = 0
        """What was billed."""
        self.requests: list[JSON] = []
        """The requests of all batches that were taken."""
        self.polls = self.lists = 0
        self.absent = False
        """Whether the server has no such endpoints."""
        self.listable = True
        self.forgotten = False
        """Whether the batches are no longer known by their ids."""
        self.files: dict[str, bytes] = {}
        self._answer = answer
        self._plans: list[Plan] = []

    def script(self, *plans: Plan) -> None:
        """What becomes of the next batches; later ones complete after one question."""
        self._plans += plans

    def knows(self, request: Request) -> bool:
        """Whether a request is about files or batches."""
        return any(part in request.path for part in ("/files", "/batches"))

    def do(self, request: Request, url: str) -> Answer:
        """Answer it.

        Raises:
            Drop: The connection breaks.
        """
        place = request.path.removeprefix("/v1").removeprefix("/messages").strip("/").split("/")
        anthropic = "/messages/" in request.path
        if self.absent:
            return _refused(404, "not_found")
        if place[0] == "files":
            return self._file(request, place)
        if len(place) == 1 and request.method == "POST":
            return self._make(request, anthropic, url)
        if len(place) == 1:
            return self._list(request, anthropic, url)
        batch = next((item for item in self.all if item.id == place[1]), None)
        if batch is None or self.forgotten:
            return _refused(404, "not_found")
        if place[2:] == ["cancel"]:
            batch.stopped = True
            return 200, self._shown(batch, anthropic, url), {}
        if place[2:] == ["results"]:
            return self._content(batch, None)
        return self._look(batch, anthropic, url)

    # What a request leads to.

    def _file(self, request: Request, place: list[str]) -> Answer:
        if request.method == "POST":
            kind = request.headers["content-type"].encode()
            parts = BytesParser().parsebytes(b"Content-Type: " + kind + b"\r\n\r\n" + request.raw)
            file = next(part for part in parts.walk() if part.get_filename())
            name = f"file-{len(self.files) + 1}"
            self.files[name] = bytes(file.get_payload(decode=True))  # type: ignore[arg-type]
            return 200, {"id": name, "object": "file", "purpose": "batch", "bytes": 1, "created_at": 1}, {}
        owner, _, part = place[1].rpartition("-")
        return self._content(next(item for item in self.all if item.id == owner), part)

    def _make(self, request: Request, anthropic: bool, url: str) -> Answer:
        plan = self._plans.pop(0) if self._plans else Plan()
        if plan.refuse is not None:
            return _refused(*plan.refuse)
        if plan.drop == "before":
            raise Drop
        if anthropic:
            given = [(item["custom_id"], item["params"]) for item in request.body["requests"]]
            endpoint, metadata = "/v1/messages", {}
        else:
            rows = [json.loads(line) for line in self.files[request.body["input_file_id"]].splitlines()]
            given = [(row["custom_id"], row["body"]) for row in rows]
            endpoint, metadata = request.body["endpoint"], request.body.get("metadata") or {}
            assert {row["url"] for row in rows} == {endpoint} and {row["method"] for row in rows} == {"POST"}
        assert len({name for name, _ in given}) == len(given) and all(len(name) <= 64 for name, _ in given)
        batch = Batch(f"batch_{len(self.all) + 1}", plan, [n for n, _ in given], [], metadata, endpoint, time.time())
        self.all.append(batch)
        for index, (name, body) in enumerate(given):
            self.requests.append(body)
            batch.lines += self._worked(batch, index, name, body, anthropic)
        if plan.stranger:
            batch.lines.append(("output", json.dumps({"custom_id": "somebody-1", "result": {}}).encode()))
        if plan.shuffle:
            batch.lines.reverse()
        if plan.drop == "after":
            raise Drop
        return 200, self._shown(batch, anthropic, url), {}

    def _worked(self, batch: Batch, index: int, name: str, body: JSON, anthropic: bool) -> list[tuple[str, bytes]]:
        plan = batch.plan
        if plan.status == "failed":
            return []
        if index in plan.left:
            return [("errors", json.dumps(_left(name, plan.status, anthropic)).encode())]
        act = self._answer(body)
        if act.kind == "error":
            made = _errored(name, act, anthropic)
            return [("errors" if not anthropic else "output", json.dumps(made).encode())]
        self.calls += 1
        self.tokens += act.input + act.output
        if index in plan.silent:
            return []
        line = json.dumps(_succeeded(name, act, batch.endpoint), ensure_ascii=False).encode()
        if index in plan.garble:
            line = line[: len(line) // 2]
        return [("output", line)] * (2 if index in plan.twice else 1)

    def _look(self, batch: Batch, anthropic: bool, url: str) -> Answer:
        self.polls += 1
        if batch.plan.questions:
            status, headers = batch.plan.questions.pop(0)
            if not status:
                raise Drop
            return _refused(status, "busy", headers)
        batch.asked += 1
        return 200, self._shown(batch, anthropic, url), {}

    def _list(self, request: Request, anthropic: bool, url: str) -> Answer:
        if not self.listable:
            return _refused(501, "not_implemented")
        self.lists += 1
        for batch in self.all:
            batch.asked += 1  # time passes here too
        asked = parse_qs(request.query)
        newest = list(reversed(self.all))
        after = (asked.get("after") or asked.get("after_id") or [""])[0]
        places = [place for place, batch in enumerate(newest) if batch.id == after]
        start = places[0] + 1 if places else 0
        page = newest[start : start + 2]  # small pages, so that there are several
        more = len(newest) > start + 2
        data = [self._shown(batch, anthropic, url) for batch in page]
        ends = {"first_id": page[0].id if page else None, "last_id": page[-1].id if page else None}
        return 200, {"object": "list", "data": data, "has_more": more, **ends}, {}

    def _content(self, batch: Batch, part: str | None) -> Answer:
        lines = [line for place, line in batch.lines if part in (None, place)]
        cut = batch.plan.cut
        if cut is not None:
            batch.plan.cut = None
            whole = b"\n".join(lines[:cut]) + b"\n"
            return 200, whole, {"content-length": len(whole) + 1000}  # more is promised than comes
        return 200, b"\n".join(lines) + b"\n", {"content-type": "application/x-jsonl"}

    def _shown(self, batch: Batch, anthropic: bool, url: str) -> JSON:
        total = len(batch.names)
        left = len(batch.plan.left)
        if anthropic:
            over = {"canceled": 0, "expired": 0, "errored": 0, "processing": 0, "succeeded": total - left}
            over["canceled" if batch.plan.status == "cancelled" else "expired"] = left
            running = {"canceled": 0, "expired": 0, "errored": 0, "processing": total, "succeeded": 0}
            created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(batch.created))
            return {
                "id": batch.id,
                "type": "message_batch",
                "processing_status": "ended" if batch.over else "in_progress",
                "request_counts": over if batch.over else running,
                "created_at": created,
                "expires_at": ENDED_AT,
                "ended_at": ENDED_AT if batch.over else None,
                "results_url": f"{url}/v1/messages/batches/{batch.id}/results" if batch.over else None,
            }
        errors = [
            {"line": line, "code": code, "message": f"the server says {code}"} for line, code in batch.plan.errors
        ]
        kinds = {kind for kind, _ in batch.lines}
        shown: JSON = {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.endpoint,
            "completion_window": "24h",
            "input_file_id": "file-1",
            "created_at": int(batch.created),
            "metadata": batch.metadata,
            "status": batch.plan.status if batch.over else "in_progress",
            "request_counts": {"total": total, "completed": total - left if batch.over else 0, "failed": 0},
        }
        if batch.over:
            for kind, key in (("output", "output_file_id"), ("errors", "error_file_id")):
                shown[key] = f"{batch.id}-{kind}" if kind in kinds else None
            shown["errors"] = {"object": "list", "data": errors} if errors else None
        return shown


def _succeeded(name: str, act: Behaviour, endpoint: str) -> JSON:
    if endpoint == "/v1/messages":
        return {"custom_id": name, "result": {"type": "succeeded", "message": message(act)}}
    body = (responses if endpoint == "/v1/responses" else chat)(act)
    response = {"status_code": 200, "request_id": "req_1", "body": body}
    return {"id": "batch_req_1", "custom_id": name, "response": response, "error": None}


def _errored(name: str, act: Behaviour, anthropic: bool) -> JSON:
    if anthropic:
        error = {"type": "error", "error": act.error, "request_id": "req_1"}
        return {"custom_id": name, "result": {"type": "errored", "error": error}}
    response = {"status_code": act.status, "request_id": "req_1", "body": {"error": act.error}}
    return {"id": "batch_req_1", "custom_id": name, "response": response, "error": None}


def _left(name: str, status: str, anthropic: bool) -> JSON:
    if anthropic:
        return {"custom_id": name, "result": {"type": "canceled" if status == "cancelled" else "expired"}}
    code = f"batch_{status}"
    return {"custom_id": name, "response": None, "error": {"code": code, "message": f"the server says {code}"}}


def _refused(status: int, kind: str, headers: JSON | None = None) -> Answer:
    detail = {"type": kind, "code": kind, "message": f"the server says {kind}"}
    return status, {"type": "error", "error": detail}, headers or {}
