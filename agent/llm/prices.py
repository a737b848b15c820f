"""Dollars of a call: the user's own prices first, then the published ones, else unknown. Unknown is never 0."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from agent.errors import ConfigError
from agent.llm.profiles import family, split
from agent.llm.types import Usage

FREE = frozenset({"local", "scripted"})
"""Providers that run inside of this process."""

BATCH = 0.5
"""What OpenAI and Anthropic both charge for a batch, as a share of their usual prices."""

FIELDS = frozenset({"input", "output", "cached", "cache_written"})


class Prices:
    """Prices of models.

    Args:
        overrides: For `provider:model`: dollars per million tokens of `input` and `output`, and if they
            differ from `input`, of `cached` (read from the cache) and `cache_written`.

    Raises:
        ConfigError: A price is missing, unknown or not a number of at least 0.
    """

    def __init__(self, overrides: Mapping[str, Mapping[str, float]] | None = None) -> None:
        self._overrides = {name: _checked(name, rates) for name, rates in (overrides or {}).items()}

    def usd(self, model: str, usage: Usage, *, base_url: str | None = None, batch: bool = False) -> float | None:
        """Dollars of a call's tokens, or None when the price is not known.

        Args:
            model: `provider:model`.
            usage: What the call used.
            base_url: Of a server other than the provider's own, whose prices are looked up instead.
            batch: Whether it went through the Batch API, where the user's own prices count half.
        """
        provider, name = split(model)
        origin = family(provider)
        rates = self._overrides.get(model) or self._overrides.get(f"{origin}:{name}")
        if rates is not None:
            plain = max(0, usage.input - usage.cached - usage.cache_written)
            return (
                (BATCH if batch else 1.0)
                * 1e-6
                * (
                    plain * rates["input"]
                    + usage.cached * rates.get("cached", rates["input"])
                    + usage.cache_written * rates.get("cache_written", rates["input"])
                    + usage.output * rates["output"]
                )
            )
        if origin in FREE:
            return 0.0
        return _published(origin, name, usage, base_url, batch)

    def worst(
        self, model: str, input_tokens: int, output_tokens: int, *, base_url: str | None = None, batch: bool = False
    ) -> float | None:
        """The most that a call can cost in dollars, or None when the price is not known.

        Writing to a provider's cache can cost more than plain input, so both are considered.
        """
        usage = Usage(input=input_tokens, output=output_tokens)
        plain = self.usd(model, usage, base_url=base_url, batch=batch)
        written = self.usd(model, replace(usage, cache_written=input_tokens), base_url=base_url, batch=batch)
        return None if plain is None or written is None else max(plain, written)


def _checked(name: str, rates: Mapping[str, float]) -> dict[str, float]:
    split(name)
    for key in ("input", "output"):
        if key not in rates:
            raise ConfigError(f'prices."{name}".{key} is missing', hint="give dollars per million tokens")
    for key, rate in rates.items():
        number = isinstance(rate, (int, float)) and not isinstance(rate, bool) and math.isfinite(rate)
        if key not in FIELDS or not number or rate < 0:
            raise ConfigError(
                f'prices."{name}".{key}: found {rate!r}',
                hint=f"allowed are {', '.join(sorted(FIELDS))}, in dollars per million tokens, at least 0",
            )
    return dict(rates)


def _published(provider: str, model: str, usage: Usage, base_url: str | None, batch: bool) -> float | None:
    # The snapshot that ships with the package: a price that changed during a run would change a replay.
    import genai_prices

    tokens = genai_prices.Usage(
        input_tokens=usage.input,
        cache_read_tokens=usage.cached,
        cache_write_tokens=usage.cache_written,
        output_tokens=usage.output,
    )
    context = {"processing": "batch"} if batch else None
    try:
        if base_url is not None:
            found = genai_prices.calc_price(tokens, model, provider_api_url=base_url, price_context=context)
        else:
            found = genai_prices.calc_price(tokens, model, provider_id=provider, price_context=context)
    except (LookupError, ValueError):
        return None
    return float(found.total_price)
