"""Renders the templates that the LLM reads. One file per template; a missing name is an error."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files("agent.prompts") / name).read_text(encoding="utf-8")),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **given: Any) -> str:
    """The text of `agent/prompts/<template>` with its names filled in.

    Raises:
        jinja2.UndefinedError: The template uses a name that was not given.
    """
    return _environment().get_template(template).render(**given).strip()
