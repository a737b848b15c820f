"""What the models of a run were sent and answered, word for word; `truegain show RUN --transcript` prints it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import emit
from agent.errors import ConfigError
from agent.events import CallEnded, CallRefused, CallStarted, LookAsked, ProposalStarted, ToolEnded
from agent.telling.text import plain

if TYPE_CHECKING:
    from agent.journal import Entry

BAR = "│ "
"""Begins every line that somebody else wrote, so that no text can pass for a heading."""
JSON = dict[str, Any]


def show(folder: Path, proposal: str | None, as_json: bool) -> None:
    """Print a run's transcript. Nothing of the gate is in it.

    Args:
        folder: Of the run.
        proposal: Number of the decision; None for all.
        as_json: One JSON document, with every request whole.

    Raises:
        ConfigError: There is no such decision.
        StoreError: The journal cannot be read.
    """
    from agent.journal import read

    found = items(read(folder))
    if proposal is not None:
        known = [item["proposal"] for item in found if item["kind"] == "proposal"]
        if not proposal.isdecimal() or int(proposal) not in known:
            raise ConfigError(
                f"there is no decision {proposal!r} in {folder.name}",
                hint=f"give a number from {known[0]} to {known[-1]}"
                if known
                else "nobody was asked for candidates yet",
            )
        found = [item for item in found if item["proposal"] == int(proposal)]
    if as_json:
        emit({"run": folder.name, "transcript": found})
        return
    click.echo("\n".join(text(found)) if any(item["kind"] != "proposal" for item in found) else "No model was asked.")


def items(entries: Iterable[Entry]) -> list[JSON]:
    """The transcript as plain JSON, in order: decisions, calls with their replies, tools, and looks."""
    out: list[JSON] = []
    calls: dict[int, JSON] = {}
    for entry in entries:
        event = entry.event
        item: JSON
        if isinstance(event, ProposalStarted):
            item = {"kind": "proposal", "proposal": event.id, "proposer": event.proposer, "wanted": event.n}
        elif isinstance(event, CallStarted):
            item = {"kind": "call", "proposal": _proposal(event.scope), "call": event.id}
            item |= {"scope": event.scope, "role": event.role, "model": event.model, "request": event.request}
            item |= {"reply": None, "error": None, "spent": None}
            calls[event.id] = item
        elif isinstance(event, CallRefused):
            item = {"kind": "refused", "proposal": _proposal(event.scope), "scope": event.scope, "reason": event.reason}
        elif isinstance(event, ToolEnded):
            item = {"kind": "tool", **asdict(event)}
        elif isinstance(event, LookAsked):
            item = {"kind": "look", **asdict(event)}
        else:
            if isinstance(event, CallEnded) and event.id in calls:
                calls[event.id] |= {"reply": event.reply, "error": event.error, "spent": event.spent}
            continue
        out.append({**item, "time": entry.time} if item["kind"] != "call" else item)
    return out


def _proposal(scope: str) -> int:
    """The decision that a call belongs to; 0 for none."""
    head, _, number = scope.partition("/")[0].partition("-")
    return int(number) if head == "proposal" and number.isdecimal() else 0


def text(found: Sequence[JSON]) -> Iterator[str]:
    """The transcript for people, line by line; what stood in an earlier call of a conversation is not repeated."""
    last: dict[str, JSON] = {}
    said: set[tuple[int, str]] = set()
    for item in found:
        if item["kind"] == "proposal":
            yield f"\n══ decision {item['proposal']} · {plain(item['proposer'])}"
        elif item["kind"] == "call":
            yield f"\n── call {item['call']} · {item['role']} · {plain(item['model'])} · {plain(item['scope'])}"
            yield from _request(item, last.get(item["scope"]), said)
            yield from _reply(item)
            last[item["scope"]] = item
        elif item["kind"] == "refused":
            yield f"\n── no call · {plain(item['scope'])}"
            yield from _quoted(item["reason"])
        elif item["kind"] == "tool":
            where = f"{plain(item['conversation'])} {item['turn']}.{item['index']}"
            took = f"{1000 * item['seconds']:,.0f} ms"
            yield f"\n── tool {plain(item['name'])} · {where} · {took}" + (" · failed" if item["error"] else "")
            yield from _quoted(_words(item["arguments"]))
            yield "[result]"
            yield from _quoted(item["text"])
            said.add((item["proposal"], item["text"]))
        else:
            rows = f" on {len(item['examples'])} rows" if item["examples"] else ""
            yield f"\n── look {plain(item['key'])} · candidate {item['candidate'][:8]}{rows}"
            yield from _quoted(_words(item["values"]))
            if item["check"] or item["refused"]:
                yield "[not measured]"
                yield from _quoted(item["check"] or item["refused"])


def _request(item: JSON, before: JSON | None, said: set[tuple[int, str]]) -> Iterator[str]:
    request, known = item["request"], before["request"] if before is not None else {}
    for name in ("system", "tools", "schema"):
        part = request.get(name)
        if part and part == known.get(name):
            yield f"[{name}: as above]"
        elif part:
            yield f"[{name}]"
            for piece in part if isinstance(part, list) else [part]:
                yield from _quoted(_words(piece))
    rest = {k: v for k, v in request.items() if k not in ("system", "tools", "schema", "messages")}
    if rest:
        yield "[" + plain(", ".join(f"{name}: {_words(value)}" for name, value in rest.items())) + "]"
    messages, old = request.get("messages", []), known.get("messages", [])
    start = 0
    if old and messages[: len(old)] == old:
        start = len(old)
        yield f"[message{'s 1 to' if start > 1 else ''} {start}: as above]"
    for number, message in enumerate(messages[start:], start + 1):
        yield from _message(number, message, item["proposal"], said, before)


def _message(
    number: int, message: Mapping[str, Any], proposal: int, said: set[tuple[int, str]], before: JSON | None
) -> Iterator[str]:
    role = plain(str(message.get("role", "")))
    words = str(message.get("text", ""))
    call = plain(str(message.get("tool_call_id", "")))
    head = f"{number}. {role}" + (f" · {call}" if call else "") + (" · failed" if message.get("is_error") else "")
    reply = (before or {}).get("reply") or {}
    if role == "assistant" and before is not None and _same(message, reply):
        yield f"[{head}: the reply to call {before['call']}]"
        return
    if role == "tool" and (proposal, words) in said:
        yield f"[{head}: the result above]"
        return
    yield f"[{head}]"
    yield from _quoted(words)
    yield from _calls(message)


def _same(message: Mapping[str, Any], reply: Mapping[str, Any]) -> bool:
    return all((message.get(name) or None) == (reply.get(name) or None) for name in ("text", "tool_calls", "carry"))


def _reply(item: JSON) -> Iterator[str]:
    reply, spent = item["reply"], item["spent"] or {}
    if item["error"] is not None:
        yield "[no reply]"
        yield from _quoted(str(item["error"].get("message", "")))
        return
    if reply is None:
        yield "[no reply: it was cut off, or is under way]"
        return
    stop = reply.get("stop", "end")
    yield (
        f"[reply · {spent.get('input', 0):,} tokens in, {spent.get('output', 0):,} out"
        + (f" · {plain(str(stop))}" if stop not in ("end", "tool") else "")
        + "]"
    )
    yield from _quoted(str(reply.get("text", "")))
    yield from _calls(reply)


def _calls(turn: Mapping[str, Any]) -> Iterator[str]:
    for call in turn.get("tool_calls", ()):
        yield f"[calls {plain(str(call.get('name', '')))} · {plain(str(call.get('id', '')))}]"
        arguments = call.get("arguments")
        yield from _quoted(str(call.get("raw", "")) if arguments is None else _words(arguments))


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _quoted(words: str) -> Iterator[str]:
    if words:
        yield from (BAR + line for line in plain(words).split("\n"))
