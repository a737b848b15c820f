"""A traced program with three faults: a wrong constant, a vague prompt, and a helper that cannot read every price."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.parameters import Float
from agent.texts import Code, Text
from agent.trace import op, param

PRICES = {"pen": "3 x 4", "book": "1 x 12.50", "lamp": "2 x 20", "desk": "1 x 99.90"}
DELIVERY = {"pen": 4.0, "book": 3.5, "lamp": 12.25, "desk": 61.0}
"""What the rows name and only the program knows."""
RATE = 0.2

HELPER = """def amount(text):
    count, price = text.split(" x ")
    total = int(count) * int(price)
    return total
"""

rate = param("rate", Float(0, 1, default=0.5))
prompt = param("prompt", Text("Say how much it is."))
helper = param("helper", Code(HELPER, entry="amount"))
SPACE = [rate, prompt, helper]


@op
def net(item: str) -> float:
    return float(helper.call(PRICES[item]))


@op
def gross(price: float, delivery: float) -> float:
    return price * (1 + rate.value) + delivery


@op
def say(total: float) -> str:
    """Stands for a model that names the currency when it is told to."""
    return f"{total:.2f} EUR" if "EUR" in prompt.value else f"{total:.2f}"


def wanted(item: str) -> str:
    """The right answer."""
    count, _, price = PRICES[item].split()
    return f"{int(count) * float(price) * (1 + RATE) + DELIVERY[item]:.2f} EUR"


def check(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[float, str]:
    """Bills with tax. The result is the share of right bills."""
    item = row["item"]
    found = say(gross(net(item), DELIVERY[item]))
    return float(found == wanted(item)), f"expected {wanted(item)}, got {found}"
