"""The agent's tool: ask the box. What it answered is kept in the notebook, so a later decision has it too."""

from __future__ import annotations

from boxes import PROBES, chosen

from agent.tools.base import Desk, ToolError


async def probe(desk: Desk, values: list[str]) -> str:
    """Ask the black box what it answers to some inputs. Each input counts as one probe, and probes are limited.

    Args:
        values: Inputs, each as a text: "2.5" for a number. An empty list shows what was answered so far.
    """
    box, earlier = chosen(), (desk.context.memory or {}).get("probes", [])
    known = desk.notebook.setdefault("probes", list(earlier))
    for number, value in enumerate(values):
        if len(known) >= PROBES:
            if not number:
                raise ToolError(f"all {PROBES} probes are spent", hint="write the function from what is known")
            break
        try:
            known.append([value, box.ask(value, str(desk.context.rng.random()))])
        except ValueError as error:
            raise ToolError(f"the box does not take {value[:80]!r}: {error}") from None
    lines = [f"f({value!r}) = {answer!r}" for value, answer in known]
    return "\n".join([*lines, f"{PROBES - len(known)} of {PROBES} probes are left"])


probe.writes = True  # type: ignore[attr-defined]  # its notes are journalled with its answers
