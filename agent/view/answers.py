"""What the page asks for, as plain data. A run that is gone or damaged is an answer too, and no error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from agent.errors import StoreError
from agent.view import parts
from agent.view.follow import Follow
from agent.view.gallery import Gallery


def runs(gallery: Gallery, asked: Mapping[str, str]) -> dict[str, Any] | None:
    """The list of runs, or None when it is the one that the page has (`have`)."""
    html = parts.runs(gallery.states())
    tag = parts.tag(html)
    return None if asked.get("have") == tag else {"html": html, "tag": tag}


@contextmanager
def _followed(gallery: Gallery, name: str) -> Iterator[Follow]:
    """The fold of a run as it is now, for as long as it is looked at.

    Raises:
        StoreError: There is no such run, or its journal cannot be read.
    """
    follow = gallery.follow(name)
    if follow is None:
        raise StoreError("this run is not here any more", hint="choose another one")
    with follow.lock:
        follow.refresh()
        yield follow


def run(gallery: Gallery, name: str, asked: Mapping[str, str]) -> dict[str, Any] | None:
    """What is new of a run; None when nothing is.

    Args:
        gallery: The runs.
        name: Of the run.
        asked: cursor (of the last answer, "" for everything), have (names and tags of the parts that the page has, as
            "head:0a1b,table:2c3d"), by ("evaluations" or "usd"), narrow ("1" for a phone's picture), and show, find and
            page of the candidates.
    """
    with _followed(gallery, name) as follow:
        listing = gallery.state(follow.folder)
        old = asked.get("cursor", "")
        by = "usd" if asked.get("by") == "usd" and _paid(follow) else "evaluations"
        # The first answer comes without a picture where that has to be drawn: the words are there at once.
        svg, newest = follow.picture(by, asked.get("narrow") == "1", draw=bool(old))
        cursor = f"{follow.serial}.{follow.seq}.{listing.state}.{parts.tag(svg) if svg else ''}"
        if cursor == old and newest:
            return None
        page = asked["page"] if is_number(asked.get("page", "")) else "0"
        made = {**parts.parts(follow, listing, {**asked, "page": page}), "cost": svg}
        tags = {part: parts.tag(html) for part, html in made.items()}
        have = dict(item.partition(":")[::2] for item in asked.get("have", "").split(","))
        return {
            "cursor": cursor,
            "state": listing.state,
            "live": listing.state in parts.LIVE,
            "paid": _paid(follow),
            "waiting": not newest,
            "parts": {part: html for part, html in made.items() if have.get(part) != tags[part]},
            "tags": tags,
        }


def _paid(follow: Follow) -> bool:
    return bool(follow.state.ledger.committed("usd"))


def is_number(text: str) -> bool:
    """Whether a text is a number that something here may have."""
    return text.isascii() and text.isdecimal() and len(text) < 10


def candidate(gallery: Gallery, name: str, number: int) -> dict[str, Any]:
    """The page of one candidate."""
    with _followed(gallery, name) as follow:
        html = parts.card(follow, number)
    if html is None:
        raise StoreError(f"there is no candidate {number} in this run", hint="choose another one")
    return {"html": html, "tag": parts.tag(html)}


def trace(gallery: Gallery, name: str, evaluation: int) -> dict[str, Any]:
    """What the program did in one of the search's evaluations, as text."""
    with _followed(gallery, name) as follow:
        found = follow.trace(evaluation)
    if found is None:
        raise StoreError("there is no trace of this evaluation", hint="a program that uses agent.op has one")
    return {"text": found.show()}
