"""A list that is cheap to copy behaves as a plain one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import sharedlist
from agent.sharedlist import SharedList


@settings(deadline=None, max_examples=150)
@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from(["append", "set", "copy", "back"]), st.integers(0, 99)), max_size=40),
)
def test_copies_never_see_each_others_changes(block: int, steps: list[tuple[str, int]]) -> None:
    """Against plain lists, with blocks so small that every border is met."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharedlist, "BLOCK", block)
        pairs: list[tuple[SharedList[int], list[int]]] = [(SharedList([-1]), [-1])]
        now = 0
        for number, (step, place) in enumerate(steps):
            shared, plain = pairs[now]
            if step == "append":
                shared.append(number)
                plain.append(number)
            elif step == "set":
                shared[place % len(plain)] = number
                plain[place % len(plain)] = number
            elif step == "copy":
                pairs.append((shared.copy(), list(plain)))
                now = len(pairs) - 1
            else:
                now = place % len(pairs)
            for one, other in pairs:
                assert list(one) == other and len(one) == len(other)
                assert [one[i] for i in range(-len(other), len(other))] == other + other
                assert one[1:3] == other[1:3]
