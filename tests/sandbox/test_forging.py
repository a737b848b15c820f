"""Whatever a candidate writes to the channel by itself, at most one answer per input is taken, and it is told."""

from __future__ import annotations

import pytest
from sandbox_helpers import job

from agent.sandbox.pool import Sandbox

OURS = """
import json, os, struct, sys
import agent.sandbox.candidate as ours

send = ours._send

def frame(nonce, kind, data):
    return struct.pack("<16scQ", nonce, kind, len(data)) + data

def number(value):
    return struct.pack("<I", len(value)) + value

def instead(channel, nonce, kind, data):
    if kind != b"O":
        return send(channel, nonce, kind, data)
    os.write(channel, forge(nonce, frame(nonce, kind, data)))

def solve(x):
    ours._send = instead
    return 0

def forge(nonce, honest):
    return {}
"""


@pytest.mark.parametrize(
    "forged",
    [
        "honest + frame(nonce, b'O', number(b'1000000000'))",
        "honest + b'x'",
        "frame(bytes(16), b'O', number(b'1'))",
        "frame(nonce, b'R', b'')",
        "frame(nonce, b'Z', b'')",
        "b'{\"score\": 1e9}' * 10",
        "frame(nonce, b'E', b'[]')",
        "frame(nonce, b'E', json.dumps({'status': 'ok', 'message': '', 'detail': ''}).encode())",
        "frame(nonce, b'E', b'[' * 50_000)",
        "struct.pack('<16scQ', nonce, b'E', 2**60)",
    ],
)
async def test_what_is_no_answer_is_forged(sandbox: Sandbox, forged: str) -> None:
    result = await sandbox.run(job(OURS.replace("{}", forged), 1))
    assert (result.status, result.outputs) == ("forged", ()), result


async def test_an_answer_to_a_question_not_asked_yet_is_forged(sandbox: Sandbox) -> None:
    source = OURS.replace("{}", "honest + honest")
    result = await sandbox.run(job(source, 1, 2))
    assert (result.status, result.outputs, result.failed_input) == ("forged", (), 1)


async def test_an_answer_of_its_own_making_is_just_an_answer(sandbox: Sandbox) -> None:
    result = await sandbox.run(job(OURS.replace("{}", "frame(nonce, b'O', number(b'[7]'))"), 1))
    assert (result.status, result.outputs) == ("ok", ([7],))


@pytest.mark.parametrize("value", ["[NaN]", "[1e999]", "{", '{"$npy": 3}', "[" * 90_000])
async def test_an_answer_that_cannot_be_read_is_invalid(sandbox: Sandbox, value: str) -> None:
    result = await sandbox.run(job(OURS.replace("{}", f"frame(nonce, b'O', number({value.encode()!r}))"), 1))
    assert (result.status, result.outputs) == ("invalid", ()), result


async def test_a_size_that_is_a_lie_costs_nothing(sandbox: Sandbox) -> None:
    result = await sandbox.run(job(OURS.replace("{}", "struct.pack('<16scQ', nonce, b'O', 2**62)"), 1))
    assert result.status == "invalid" and "are allowed" in result.message
