"""What went wrong, in our words: one function turns whatever an SDK raises into a `ProviderError`.

The exceptions are told apart by the names of their classes: both SDKs and their HTTP library use the
same ones, and importing them here would cost seconds where only one of them, or neither, is in use.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from agent.errors import AgentError, ProviderError
from agent.llm.connect import VARIABLE

SPEND_STOPS = frozenset(
    {
        "billing_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "contract_spend_limit_reached",
        "credit_balance_exhausted",
        "enforced_spend_limit_reached",
        "insufficient_quota",
        "linked_organization_billing_unavailable",
        "linked_organization_spend_limit_reached",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
    }
)
"""Error codes and types that say the money is gone. Most come as 429, and waiting does not help."""

FATAL = frozenset({401, 402, 403, 404})
RETRYABLE = frozenset({408, 409, 429})
UNFINISHED = frozenset({502, 504, 520, 521, 522, 523, 524})
"""A gateway gave up on a server that may have gone on to finish, and to bill."""

STREAMED = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status that an error inside of a stream would have had; the stream itself began with 200."""

BODY = 500
"""Characters of an answer in an unknown form that are told."""

NOT_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol"})
"""The request never reached a server, so that it cannot have been billed."""

HINTS = {
    401: "check the API key of this provider",
    402: "add credit or raise the limit in the provider's console, then resume the run",
    403: "this key may not use the model; ask whoever administers it",
    404: "check the model's name and the base URL",
    413: "the prompt is too large for this model",
    429: "the provider's rate limit is reached; use fewer workers, or resume the run later",
}


class CallFailed(ProviderError):
    """A failed attempt of a call.

    Args:
        ambiguous: Whether the provider may have billed it all the same, as when the connection broke
            after the request was sent. Such an attempt stays counted against the limits.
    """

    def __init__(self, message: str, *, ambiguous: bool = False, **given: Any) -> None:
        super().__init__(message, **given)
        self.ambiguous = ambiguous


class BatchWaits(CallFailed):
    """Nothing is lost: the batch is at the provider, or may be, and cannot be asked for just now. The call stays open,
    so that a resume takes its result."""

    def __init__(self, message: str, **given: Any) -> None:
        super().__init__(message, fatal=True, **given)


class Malformed(Exception):
    """The server answered 200, and the answer is not what its protocol promises."""


def failure(error: Exception, model: str) -> AgentError:
    """What an SDK raised, as an error of ours.

    Args:
        error: Any exception of an SDK, of its HTTP library, or `Malformed`.
        model: `provider:model`, for the message.
    """
    if isinstance(error, AgentError):
        return error
    kinds = _kinds(error)
    if "APIStatusError" in kinds:
        return _refused(error, model)
    if kinds & {"APITimeoutError", "TimeoutException"} or isinstance(error, TimeoutError):
        return CallFailed(f"{model}: no answer in time", retryable=True, ambiguous=_was_sent(error))
    if kinds & {"APIConnectionError", "TransportError"} or isinstance(error, OSError):
        sent = _was_sent(error)
        # What to check stands in the message: a run goes on without the hint of an error that may pass.
        address = VARIABLE.get(model.partition(":")[0].partition("-")[0])
        check = f", so check the network and {address}" if address else ""
        what = "the connection broke" if sent else f"cannot connect{check}"
        return CallFailed(f"{model}: {what}: {_cause(error)}", retryable=True, ambiguous=sent)
    if "CredentialsError" in kinds:
        return CallFailed(f"{model}: {error}", fatal=True, hint=HINTS[401])
    if kinds & {"Malformed", "JSONDecodeError", "APIResponseValidationError", "DecodingError", "UnicodeDecodeError"}:
        return CallFailed(f"{model}: the answer cannot be read: {error}", retryable=True, ambiguous=True)
    # An exception that nobody foresaw is not worth six attempts, and may have cost money.
    return CallFailed(f"{model}: {type(error).__name__}: {error}", ambiguous=True)


def failed_reply(detail: Mapping[str, Any], model: str) -> CallFailed:
    """An error object that came in place of a reply, with status 200 (proxies and failed responses do that)."""
    code = str(detail.get("code") or "")
    status = int(code) if code.isdigit() else {"rate_limit_exceeded": 429, "server_error": 500}.get(code, 0)
    return _classify(model, status or STREAMED.get(str(detail.get("type")), 400), detail, {}, began=True)


def unpaid(error: AgentError, *, retryable: bool | None = None) -> AgentError:
    """The same error where it is known that nothing was taken, and so nothing billed."""
    if not isinstance(error, ProviderError):
        return error
    again = error.retryable if retryable is None else retryable
    return CallFailed(
        error.message,
        retryable=again,
        retry_after=error.retry_after if again else None,
        fatal=error.fatal,
        status=error.status,
        hint=error.hint,
    )


def failed_result(detail: Mapping[str, Any], model: str, status: int = 0) -> CallFailed:
    """An error in place of one result of a batch. Such a request was not billed.

    Args:
        detail: The provider's error object.
        model: `provider:model`, for the message.
        status: Of the HTTP answer that it stands for; 0 where the type of the error alone tells.
    """
    return _classify(model, status or STREAMED.get(str(detail.get("type")), 400), detail, {}, began=False)


def error_json(error: AgentError) -> dict[str, Any]:
    """An error as it is recorded in `CallEnded`; `error_from_json` reads it back."""
    out = error.to_json()
    if isinstance(error, ProviderError):
        out.update(retryable=error.retryable, fatal=error.fatal, status=error.status)
    return out


def error_from_json(data: Mapping[str, Any]) -> ProviderError:
    """The provider's error that was recorded, to be raised again in a replay."""
    return ProviderError(
        data["message"],
        hint=data.get("hint", ""),
        retryable=data.get("retryable", False),
        fatal=data.get("fatal", False),
        status=data.get("status"),
    )


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that the server asks us to wait, never below 0, or None.

    `retry-after-ms` goes before `retry-after`, which is seconds or an HTTP date (RFC 9110, section 10.2.3).

    Args:
        headers: Of the response, by lower-case name.
        now: Seconds since 1970; by default this machine's clock.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        date = parsedate_to_datetime(headers["retry-after"])
        return max(0.0, date.timestamp() - (time.time() if now is None else now))
    except (KeyError, ValueError, OverflowError):
        return None


def _kinds(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _chain(error: BaseException | None) -> list[BaseException]:
    out: list[BaseException] = []
    while error is not None and error not in out:
        out.append(error)
        error = error.__cause__ or error.__context__
    return out


def _was_sent(error: BaseException) -> bool:
    return not any(_kinds(item) & NOT_SENT or isinstance(item, ConnectionRefusedError) for item in _chain(error))


def _cause(error: BaseException) -> str:
    """The innermost words: an SDK says only "Connection error."."""
    return next((str(item) for item in reversed(_chain(error)) if str(item)), type(error).__name__)


def _refused(error: Any, model: str) -> CallFailed:
    body = error.body
    detail = body.get("error", body) if isinstance(body, Mapping) else {}
    detail = detail if isinstance(detail, Mapping) else {}
    status, began = int(error.status_code), False
    if status < 400:  # an error event inside of a stream
        status, began = STREAMED.get(str(detail.get("type")), 500), True
    said = str(error)
    if body and re.fullmatch(
        r"Error code: \d+", said
    ):  # all that an SDK says of a body in a form that it does not know
        said = body if isinstance(body, str) else json.dumps(body, default=str)
    return _classify(model, status, detail, error.response.headers, began=began, fallback=said[:BODY])


def _classify(
    model: str,
    status: int,
    detail: Mapping[str, Any],
    headers: Mapping[str, str],
    *,
    began: bool,
    fallback: str = "",
) -> CallFailed:
    inner = detail.get("details")
    names = [detail.get("code"), detail.get("type"), inner.get("error_code") if isinstance(inner, Mapping) else None]
    text = str(detail.get("message") or fallback or "no reason given")
    label = next((str(name) for name in names if name), "error")
    message = f"{model}: {label} ({status}): {text}"
    if SPEND_STOPS & {str(name) for name in names} or status == 402:
        return CallFailed(message, fatal=True, status=status, hint=HINTS[402])
    about_tools = "tool" in text.lower()  # then the call was wrong, and another one can be right
    if status in FATAL and not (status == 404 and about_tools):
        return CallFailed(message, fatal=True, status=status, hint=HINTS[status])
    advice = headers.get("x-should-retry", "").lower()
    retryable = status in RETRYABLE or (status >= 500 and status != 501)
    return CallFailed(
        message,
        retryable=(advice == "true" or (retryable and advice != "false")) and not (status == 500 and about_tools),
        retry_after=retry_after(headers),
        status=status,
        ambiguous=began or status in UNFINISHED,
        hint=HINTS.get(status, ""),
    )
