"""What goes wrong on the wire, and what becomes of it. Every attempt is one HTTP request: the SDKs do not retry."""

from __future__ import annotations

import socket
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest
from fake_provider import CUT, HANG, HTML, MALFORMED, OVERLOAD, Behaviour, FakeProvider, drop, error, ok, spend_stop
from llm_helpers import KEY, say

from agent.errors import ConfigError, ProviderError
from agent.llm.connect import connect
from agent.llm.failures import CallFailed, error_from_json, error_json, failure, retry_after


@pytest.fixture
async def failed(provider: FakeProvider, options: dict[str, Any], wire: str) -> Callable[..., Any]:
    """One attempt against the provider; gives the error it ended in."""

    async def attempt(*behaviours: Behaviour, **more: Any) -> CallFailed:
        provider.script(*behaviours)
        model = connect(f"{wire}:m", options=options | more)
        try:
            with pytest.raises(CallFailed) as caught:
                await model.complete(say(), seed=None)
        finally:
            await model.close()
        return caught.value

    return attempt


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503, 529])
async def test_what_may_pass_is_retryable_and_was_not_billed(
    provider: FakeProvider, failed: Callable[..., Any], status: int
) -> None:
    found = await failed(error(status))
    assert (found.retryable, found.fatal, found.status, found.ambiguous) == (True, False, status, False)
    assert provider.calls == 1


@pytest.mark.parametrize("status", [502, 504])
async def test_a_gateway_that_gave_up_may_have_been_billed_for(failed: Callable[..., Any], status: int) -> None:
    found = await failed(error(status))
    assert found.retryable and found.ambiguous


@pytest.mark.parametrize("status", [401, 402, 403, 404])
async def test_what_no_later_call_can_pass_is_fatal(failed: Callable[..., Any], status: int) -> None:
    found = await failed(error(status))
    assert (found.retryable, found.fatal, found.status) == (False, True, status)
    assert found.hint


@pytest.mark.parametrize("status", [400, 413, 422, 501])
async def test_a_request_that_is_wrong_fails_alone(failed: Callable[..., Any], status: int) -> None:
    found = await failed(error(status))
    assert (found.retryable, found.fatal, found.ambiguous) == (False, False, False)


@pytest.mark.parametrize("status", [404, 500])
async def test_a_refusal_of_tools_is_neither_asked_again_nor_the_end_of_the_model(
    failed: Callable[..., Any], status: int
) -> None:
    found = await failed(error(status, "tools param requires a flag"))
    assert (found.retryable, found.fatal, found.status) == (False, False, status)


async def test_a_body_in_an_unknown_form_is_told(failed: Callable[..., Any]) -> None:
    body = '{"detail": [{"loc": ["body", "tools"], "msg": "extra fields not permitted"}]}'
    found = await failed(Behaviour("error", text=body, status=422))
    assert "tools" in found.message and "extra fields" in found.message
    assert len((await failed(Behaviour("error", text=f'{{"detail": "{"x" * 9000}"}}', status=422))).message) < 700


async def test_a_spend_stop_that_looks_like_a_rate_limit_is_fatal(failed: Callable[..., Any]) -> None:
    found = await failed(spend_stop())
    assert (found.retryable, found.fatal, found.status) == (False, True, 429)
    assert "credit" in found.hint


@pytest.mark.parametrize("code", ["credit_balance_exhausted", "project_spend_limit_exceeded", "billing_error"])
async def test_all_spend_stops_are_known(failed: Callable[..., Any], code: str) -> None:
    assert (await failed(error(429, code, code))).fatal


async def test_the_server_has_the_last_word_on_retrying(failed: Callable[..., Any]) -> None:
    assert not (await failed(error(429, x_should_retry="false"))).retryable
    assert (await failed(error(400, x_should_retry="true"))).retryable
    assert not (await failed(error(401, x_should_retry="true"))).retryable  # a key does not mend itself


async def test_the_reason_and_the_model_are_named(failed: Callable[..., Any], wire: str) -> None:
    assert str(await failed(error(400, "invalid_request_error"))) == (
        f"{wire}:m: invalid_request_error (400): the server says invalid_request_error"
    )


async def test_nobody_listens(wire: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    model = connect(f"{wire}:m", options={"base_url": url, "api_key": KEY})
    with pytest.raises(
        CallFailed, match=rf"^{wire}:m: cannot connect, so check the network and (OPENAI|ANTHROPIC)_BASE_URL: "
    ) as caught:
        await model.complete(say(), seed=None)
    await model.close()
    assert (caught.value.retryable, caught.value.ambiguous) == (True, False)


@pytest.mark.parametrize("behaviour", [drop("before"), drop("middle"), CUT, MALFORMED], ids=lambda item: item.kind)
async def test_an_answer_that_breaks_off_may_have_been_billed(
    provider: FakeProvider, failed: Callable[..., Any], behaviour: Behaviour
) -> None:
    found = await failed(behaviour)
    assert (found.retryable, found.ambiguous, found.fatal) == (True, True, False)
    assert provider.calls == 1


@pytest.mark.parametrize("wire", ["openai-responses", "openai-chat"], indirect=True)
async def test_a_page_instead_of_an_answer(failed: Callable[..., Any]) -> None:
    found = await failed(HTML)
    assert found.retryable and "captive portal" in str(found)


async def test_silence_ends_an_attempt(provider: FakeProvider, failed: Callable[..., Any]) -> None:
    found = await failed(HANG, timeout=0.2)
    assert found.retryable and found.ambiguous and "no answer in time" in str(found)
    assert provider.calls == 1


@pytest.mark.parametrize("wire", ["anthropic"], indirect=True)
async def test_a_slow_stream_is_not_silence(provider: FakeProvider, options: dict[str, Any]) -> None:
    provider.script(ok("slow but steady", gap=0.15))
    model = connect("anthropic:m", options=options | {"timeout": 0.9})
    assert (await model.complete(say(), seed=None)).text == "slow but steady"
    await model.close()


@pytest.mark.parametrize("wire", ["openai-responses", "openai-chat"], indirect=True)
async def test_an_error_that_comes_as_a_success(failed: Callable[..., Any], provider: FakeProvider) -> None:
    """Gateways answer 200 with an error object in place of the reply."""
    wrapped = Behaviour("error", status=200, error={"code": 502, "message": "upstream is gone"})
    found = await failed(wrapped)
    assert found.status == 502 and found.retryable and "upstream is gone" in str(found)


@pytest.mark.parametrize("wire", ["anthropic"], indirect=True)
async def test_an_error_inside_of_a_stream_counts_as_what_it_is(failed: Callable[..., Any]) -> None:
    found = await failed(OVERLOAD)
    assert (found.status, found.retryable, found.ambiguous) == (529, True, True)


def test_credentials_that_cannot_be_had_are_fatal() -> None:
    class CredentialsError(Exception):
        """Has the name of the SDK's own, which is how it is told apart."""

    found = failure(CredentialsError("no token"), "m")
    assert isinstance(found, CallFailed) and found.fatal and not found.ambiguous


def test_what_nobody_foresaw_is_not_tried_again() -> None:
    found = failure(ZeroDivisionError("oh"), "m")
    assert isinstance(found, CallFailed) and not found.retryable and found.ambiguous
    ours = ConfigError("no")
    assert failure(ours, "m") is ours


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": formatdate(1_000_030, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(999_000, usegmt=True)}, 0.0),
        ({"retry-after": "-4"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_how_long_a_server_asks_us_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=1_000_000) == seconds


def test_an_error_survives_the_journal() -> None:
    written = error_json(CallFailed("broke", fatal=True, status=401, hint="do this"))
    read = error_from_json(written)
    assert isinstance(read, ProviderError)
    assert (read.message, read.fatal, read.status, read.hint) == ("broke", True, 401, "do this")
