"""The variant in words: a model reads the text and works out y. VML_MODEL names it."""

import json
import os
from functools import cache

from task import error
from task import words as told

from agent.llm.connect import connect
from agent.llm.types import Message, ModelRequest

MODEL = "local:smollm2-135m"
SCHEMA = {
    "type": "object",
    "properties": {"y": {"type": "number"}},
    "required": ["y"],
    "additionalProperties": False,
}


reader = cache(connect)
"""A model is loaded once."""


async def predict(candidate, row):
    """Ask the model for y. Its calls are not in the run's ledger: limit them by the number of evaluations."""
    request = ModelRequest(
        (Message("user", f"x = {row['x']}"),),
        system=f"You work out y from x by this rule.\n{candidate['model']}\nAnswer with JSON.",
        schema=SCHEMA,
        max_output_tokens=40,
        temperature=0.0,
    )
    reply = await reader(os.environ.get("VML_MODEL", MODEL)).complete(request, seed=0)
    y = float(json.loads(reply.text)["y"])
    return {"error": error(row, y), "feedback": told(row, y)}
