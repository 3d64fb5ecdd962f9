"""Documents and files changed a little, as damage, other tools and typing mistakes change them; from a seed each."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Iterator
from typing import Any

STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, 2**31, 2**53 + 1, 2**63, 10**30, 10**400, -(10**400)),
    *(1e308, -1e308, 5e-324, -0.0, math.nan, math.inf, -math.inf),
    *("", " ", "NaN", "Infinity", "1", "true", "null", "x" * 5000, "\u2028", "\x1b[2J", "\x00", "../../x", "é"),
    *([], {}, [[]], {"": 0}, [None], [0.5, 0.5], [1e308, 1e308], {"key": "x", "values": {}}),
)
"""values that stand for every kind of what may be written where something else belongs"""
TOKENS = (
    *(
        b"",
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n",
        b"\n\n",
        b"\x1a",
        b"\xe2\x80\xa8",
        b'"',
        b"'",
        b",",
        b";",
    ),
    *(
        b"\t",
        b":",
        b"- ",
        b"[" * 3000,
        b"{" * 50,
        b"]",
        b"}",
        b"&a ",
        b"*a",
        b"!!python/object:os.system ",
        b"NaN",
        b"1e999",
    ),
    *(
        b"-1e999",
        b"9" * 400,
        b"9" * 5000,
        b"true",
        b"null",
        b"1_000",
        b"0x10",
        b"\\ud800",
        b"\xf0\x9f\x98\x80",
        b"%",
        b"---\n",
    ),
)
"""bytes that stand for what editors, exports and broken copies leave in a file"""


def places(tree: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of everything inside a document."""
    inner: Any = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield (*above, key)
        yield from places(value, (*above, key))


def at(tree: Any, place: tuple[str | int, ...]) -> Any:
    """What stands at a path."""
    for key in place:
        tree = tree[key]
    return tree


def changed(tree: Any, rng: random.Random) -> Any:
    """A document with one to three places changed: another value there, the place gone, another name, or it twice."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        found = list(places(tree))
        if not found:
            return rng.choice(STRANGE)
        *above, last = rng.choice(found)
        inside = at(tree, tuple(above))
        match rng.randrange(8):
            case 0:
                del inside[last]
            case 1 if isinstance(inside, dict):
                inside[f"{last}_"] = inside.pop(last)
            case 2 if isinstance(inside, list):
                inside.insert(last, copy.deepcopy(inside[last]))
            case _:
                inside[last] = copy.deepcopy(rng.choice(STRANGE))
    return tree


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A file cut, with bytes of its own or of `TOKENS` put in, taken out, or turned."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        start = rng.randrange(len(content) + 1)
        to = min(len(content), start + rng.choice((0, 1, 1, 2, 8, 40)))
        match rng.randrange(6):
            case 0:
                content = content[:start]
            case 1:
                content = content[:start] + content[to:]
            case 2:
                content = content[:to] + content[start:]
            case 3 if start < len(content):
                content = content[:start] + bytes([content[start] ^ 1 << rng.randrange(8)]) + content[start + 1 :]
            case _:
                content = content[:start] + rng.choice(TOKENS) + content[to:]
    return content


def json_of(tree: Any) -> bytes:
    """A document as JSON, numbers of thousands of digits included."""
    return json.dumps(tree, indent=1).encode()
