"""Masks keys and credentials, in whatever is about to be written down.

Two kinds are found: what looks like a credential (`sk-…`, an Authorization header, a password in a URL), and
the values of this process's own secrets, wherever they occur. A secret without a shape that is nobody's
environment variable passes through; the text around it must stay as it is, since it may be a program.
"""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

MASK = "[redacted]"
SHORTEST = 8
"""Characters that a secret must have: a shorter one would be found in ordinary words."""

PIECE = 16
"""Characters of a secret that are looked for where a text may have been cut within it."""

DEEPEST = 200
"""Containers inside of each other; what lies deeper is masked whole, since it cannot be searched."""

PASSES = 4
"""What is masked may uncover the beginning of something else, so masking is repeated until nothing changes."""

NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")
"""Environment variables whose names end like this hold secrets."""

# A template such as {key}, ${KEY}, <key> or %(key)s holds the place of a secret, and is none.
_REAL = r"(?![\[{<$%*])"
_FIELDS = (
    r"(?:[a-z0-9]+[_-])*(?:api[_-]?key|password|passwd|passphrase|client[_-]secret|secret[_-](?:access[_-])?key"
    r"|private[_-]key|(?:access|refresh|auth|bearer|session|id)[_-]token)"
)
_HEADERS = r"(?:proxy-)?authorization|(?:set-)?cookie"
_FIELD_WORDS = (
    "apikey:",
    "_key:",
    "-key:",
    "password:",
    "passwd:",
    "passphrase:",
    "_secret:",
    "-secret:",
    "_token:",
    "-token:",
)
_SCHEME = r"(?:bearer|basic|digest|token|apikey)\s"
_PEM = r"(?:[A-Za-z0-9+/=\s:,]|\\+[nrt]|(?<=\w)-(?=\w)|\[redacted\])"  # with the headers of an encrypted key


def _word(prefix: str) -> str:
    """Pattern of a prefix that begins a word; in JSON text and in URLs that may be right after an escape.

    The look behind comes last, since a search for a plain prefix is a hundred times as fast.
    """
    before = (r"(?<![A-Za-z0-9]{})", r"(?<=\\[bfnrt]{})", r"(?<=\\u[0-9a-fA-F]{{4}}{})", r"(?<=%[0-9A-Fa-f]{{2}}{})")
    return f"{prefix}(?:{'|'.join(look.format(prefix) for look in before)})"


def _field(names: str, character: str, real: str = _REAL) -> str:
    """Pattern of a field and its value, in JSON or in a program."""
    return rf"(?i)(([\"'])(?:{names})\2\s*:\s*\2){real}(?:(?!\2){character}|\\.){{8,}}"


def _quoted_field(names: str, character: str, real: str = _REAL) -> str:
    """The same in JSON inside of a text: there each quote has backslashes, and one inside of the value has more."""
    return (
        rf"(?i)((\\+)([\"'])(?:{names})\2\3\s*:\s*\2\3){real}"
        rf"(?:(?!\3){character}|(?!\2\3)\\++[\"']?){{8,}}"
    )


RULES: dict[str, tuple[tuple[tuple[str, ...], str, str], ...]] = {
    "-": (
        (
            ("sk-",),
            rf"sk-(?:ant|proj|or|svcacct|admin)-[\w-]{{10,}}|{_word('sk-')}(?=[\w-]{{0,99}}[0-9A-Z]|[a-z]{{20}})[\w-]{{16,}}",
            MASK,
        ),
        (("xox", "xapp-"), r"(?:xox[a-z]|xapp)-[A-Za-z0-9-]{10,}", MASK),
        (("glpat-",), r"glpat-[\w-]{16,}", MASK),
    ),
    "_": (
        (("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"gh[pousr]_[A-Za-z0-9]{20,}", MASK),
        (("github_pat_",), r"github_pat_\w{16,}", MASK),
        (("hf_",), r"hf_[A-Za-z0-9]{20,}", MASK),
    ),
    "AIz": (((), r"AIza[\w-]{20,}", MASK),),
    "AKI": (((), rf"{_word('AKIA')}[A-Z0-9]{{12,}}", MASK),),
    "ASI": (((), rf"{_word('ASIA')}[A-Z0-9]{{12,}}", MASK),),
    "J.": ((("eyJ",), r"eyJ[\w-]{8,400}\.eyJ[\w-]{8,}\.[\w-]{8,}", MASK),),
    "=": (
        (
            ("key=", "token=", "password=", "passwd=", "pwd=", "secret=", "signature=", "sig="),
            r"(?i)((?:[?&]|&amp;)(?:[a-z]+[_-])*(?:api)?(?:key|token|password|passwd|pwd|secret|signature|sig)=)"
            r"[\w.~%+/-]{6,}=*",
            rf"\1{MASK}",
        ),
    ),
    "@:": (
        (("://",), rf"(?i)(://[^\s/:@\"'\\<>]*:){_REAL}[^\s/@\"'\\<>]+(?=@)", rf"\1{MASK}"),
        (("://",), r"(://)[\w.~+-]{20,}(?=@)", rf"\1{MASK}"),
    ),
    ":": (
        (
            ("authorization:",),
            r"(?i)(authorization[\"'\\]*\s*:\s*[\"'\\]*" + _SCHEME + r"+)[\w.~+/=:-]{8,}",
            rf"\1{MASK}",
        ),
        (("authorization:",), r"(?i)(authorization:\s*)(?=[\w.~+/=-]{0,99}\d)[\w.~+/=-]{16,}", rf"\1{MASK}"),
        (
            ("api-key:", "auth-token:"),
            r"(?i)(?<!\w)((?:x-)?(?:[a-z]+-)?(?:api-key|auth-token):\s*)(?=\S{0,99}\d|\S{20})[\w.~+/=:-]{8,}",
            rf"\1{MASK}",
        ),
        (
            ("cookie:",),
            r"(?i)(cookie:\s*)[\w.!#$%&*+^|~-]+=[^\s;\"'\\,]+(?:;\s*[\w.!#$%&*+^|~-]+(?:=[^\s;\"'\\,]*)?)*",
            rf"\1{MASK}",
        ),
        (_FIELD_WORDS, _field(_FIELDS, r"[^\\\s]"), rf"\1{MASK}"),
        (_FIELD_WORDS, _quoted_field(_FIELDS, r"[^\\\s]"), rf"\1{MASK}"),
        (("authorization:", "cookie:"), _field(_HEADERS, r"[^\\{}]", rf"{_REAL}(?!{_SCHEME})"), rf"\1{MASK}"),
        (("authorization:", "cookie:"), _quoted_field(_HEADERS, r"[^\\{}]", rf"{_REAL}(?!{_SCHEME})"), rf"\1{MASK}"),
    ),
    # Last, since it stops at what is none of its own; to its end, or as far as it goes where that is cut off.
    "-BEGIN": (
        (
            ("private key-----",),
            rf"(-----BEGIN [A-Z ]*PRIVATE KEY-----)(?:{_PEM}+(?=-----END)|(?={_PEM}*?[A-Za-z0-9+/=]{{32}}){_PEM}+)",
            rf"\1{MASK}",
        ),
    ),
}
"""By the characters that a text must have, all of them: words of which it must have one (if there are any),
the pattern, and what takes its place."""

_LOWER = bytes(range(256)).lower()
_DROPPED = bytes(code for code in range(256) if chr(code).lower() not in "-_=:/kyzxjpwvghfc")
_LOOSE = bytes(code for code in range(256) if not 32 < code < 127 or chr(code) in "\"'\\")
_SAME = {0x130: "i", 0x131: "i", 0x17F: "s", 0x212A: "k"}
"""Letters that a pattern takes for these, where it does not regard case."""
_SHORT = 64
_SEVERAL = 4096
_PLAIN = frozenset({int, float, bool, type(None)})


def _bones(text: str) -> bytes:
    """What is left of a text without blanks, quotes, digits and its most frequent letters: a tenth of it.

    If a text has a word, then its bones have the word's bones; so most texts are done with here.
    """
    if "\u212a" in text:  # of the letters in `_SAME` the only one whose like is kept
        text = text.replace("\u212a", "k")
    return text.encode("utf-8", "surrogatepass").translate(_LOWER, _DROPPED)


def _flesh(text: str) -> bytes:
    """A text without what may stand between a field's name and its colon; for the few that have the bones of a word."""
    text = text if text.isascii() else text.translate(_SAME)
    return text.encode("utf-8", "surrogatepass").translate(_LOWER, _LOOSE)


_PREPARED = tuple(
    (
        marks,
        tuple(
            (tuple({(_bones(word), _flesh(word)) for word in words}), pattern, mask) for words, pattern, mask in rules
        ),
    )
    for marks, rules in RULES.items()
)
_compiled = cache(re.compile)  # at its first use: programs that only read have none
_FIELD = re.compile(rf"(?i)(?:{_FIELDS}|{_HEADERS})\Z")


def redact(value: Any, extra_secrets: Iterable[str] = ()) -> Any:
    """The value with credentials masked: in a text, and in every text inside of a JSON value, keys included.

    Redacting twice gives the same as redacting once. What is neither a text nor a container stays as it is;
    tuples stay tuples.

    Args:
        value: A text or a JSON value.
        extra_secrets: Texts that must not appear, besides those of the environment; at least 8 characters each.
    """
    return _mask(tuple(extra_secrets)).value(value)


def fragments(text: str) -> str:
    """The text without pieces of this process's own secrets, as a preview has them that was cut within one.

    Pieces of 24 characters or more are always found, shorter ones sometimes. `redact` finds whole ones.
    """
    for secret in _mask(()).secrets:
        for start in range(0, max(0, len(secret) - PIECE + 1), PIECE // 2):
            at = text.find(secret[start : start + PIECE])
            while at >= 0:
                end, there = at + PIECE, start + PIECE
                while end < len(text) and there < len(secret) and text[end] == secret[there]:
                    end, there = end + 1, there + 1
                there = start
                while at > 0 and there > 0 and text[at - 1] == secret[there - 1]:
                    at, there = at - 1, there - 1
                text = text[:at] + MASK + text[end:]
                at = text.find(secret[start : start + PIECE])
    return text


def refresh() -> None:
    """Read the environment again; it is read once per process."""
    _mask.cache_clear()


class _Mask:
    """Masks one set of secrets, and whatever looks like a credential.

    Args:
        secrets: The texts to look for, in this order.
    """

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self.secrets = secrets
        self._clean: set[str] = set()
        """Short texts with nothing to mask, such as the names of fields, which come again and again."""

    def value(self, value: Any, depth: int = 0) -> Any:
        """A value with all of its texts."""
        if isinstance(value, str):
            return value if value in self._clean else self.text(value)
        kind = type(value)
        if kind in _PLAIN or not isinstance(value, (dict, list, tuple, Mapping)):
            return value
        if depth > DEEPEST:
            return MASK
        if not isinstance(value, (list, tuple)):
            return {self.value(name, depth): self._item(name, item, depth + 1) for name, item in value.items()}
        inside = [self.value(item, depth + 1) for item in value]
        return inside if isinstance(value, list) else tuple(inside)

    def _item(self, name: Any, item: Any, depth: int) -> Any:
        """A field's value; that of a field such as `api_key` is masked whole."""
        if isinstance(item, str) and len(item) >= SHORTEST and isinstance(name, str) and _FIELD.match(name):
            if re.match(f"(?i){_SCHEME}", item):
                return self.text(f"authorization: {item}").removeprefix("authorization: ")
            if re.match(_REAL, item) and (not re.search(r"\s", item) or re.match(f"(?i)(?:{_HEADERS})", name)):
                return MASK
        return self.value(item, depth)

    def text(self, text: str) -> str:
        """A text; one that comes out as it went in is remembered if it is short."""
        given = text
        for _ in range(PASSES):
            before = text
            for secret in self.secrets:
                if secret in text:
                    text = text.replace(secret, MASK)
            text = _ruled(text)
            if text == before:
                break
        if text == given and len(text) <= _SHORT:
            if len(self._clean) >= _SEVERAL:
                self._clean.clear()
            self._clean.add(text)
        return text


def _ruled(text: str) -> str:
    """A text with what looks like a credential masked, once."""
    bones, flesh = _bones(text), b""
    for marks, rules in _PREPARED:
        for mark in marks:
            if mark not in text:
                break
        else:
            for words, pattern, mask in rules:
                for bone, word in words or ((b"", b""),):
                    if bone in bones:
                        flesh = flesh or _flesh(text)
                        if word in flesh:  # as it is now, so that nothing is missed that the pattern would find
                            masked = _compiled(pattern).sub(mask, text)
                            if masked != text:
                                text, flesh = masked, b""
                            break
    return text


@cache
def _mask(extra: tuple[str, ...]) -> _Mask:
    """With the secrets longest first, each also as it appears inside of JSON and URLs."""
    found = {value for name, value in os.environ.items() if name.upper().endswith(NAMES)} | set(extra)
    plain = {secret for secret in found if len(secret) >= SHORTEST and secret not in MASK}
    spelled = {json.dumps(secret, ensure_ascii=ascii)[1:-1] for secret in plain for ascii in (True, False)}
    quoted = {urllib.parse.quote(secret, safe="") for secret in plain}
    return _Mask(tuple(sorted(plain | spelled | quoted, key=lambda secret: (-len(secret), secret))))
