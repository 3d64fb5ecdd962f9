"""Mutations of valid inputs: bytes, trees of JSON and YAML, tables, and the headers of safetensors files."""

from __future__ import annotations

import copy
import gzip
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

Mutate = Callable[[Path, random.Random], str]
"""changes a file in place and says how"""

DEEP = 3000
HOSTILE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1e308,
    -0.5,
    2**63,
    10**400,
    float("nan"),
    float("inf"),
    "",
    " ",
    "a" * 5000,
    "\u2028",
    "\x1b[2J",
    "../../x",
    "; touch OOPS",
    "$(touch OOPS)",
    "${key}",
    "2020-01-01",
    [],
    {},
    [[]],
    [1, "a", None],
    {"kind": "x"},
    "-",
    "é",
    "e\u0301",
    "\u202eabc\u202c",
    "\u200b",
    "\ufeff",
    "a\x00b",
    "~",
    "CON",
    "a/b",
    "%s%n",
    "{0.__class__}",
    "0x10",
    "1_000",
    5e-324,
    -0.0,
    2**31,
)
BYTES = (
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\xe2\x80\xa8",
    b'"',
    b"{",
    b"[" * 2000,
    b",",
    b"\x1b[31m",
    b"1e999",
)


def damage(path: Path, chance: random.Random) -> str:
    """Bytes flipped, cut, repeated, put in or wiped out."""
    content = bytearray(path.read_bytes())
    if not content:
        path.write_bytes(chance.choice(BYTES))
        return "filled"
    at = chance.randrange(len(content))
    kind = chance.choice(("flip", "cut", "repeat", "insert", "wipe", "empty", "swap"))
    length = chance.choice((1, 4, 64, 4096))
    match kind:
        case "flip":
            for _ in range(chance.choice((1, 3, 30))):
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        case "cut":
            del content[at:]
        case "repeat":
            content[at:at] = content[at : at + length]
        case "insert":
            content[at:at] = chance.choice(BYTES)
        case "wipe":
            content[at : at + length] = bytes(min(length, len(content) - at))
        case "empty":
            content.clear()
        case _:
            content[at:], content[:at] = content[:at], content[at:]
    if content == path.read_bytes():  # a wipe of zeros, say
        return damage(path, chance)
    path.write_bytes(content)
    return f"bytes: {kind} at {at}"


def damage_unpacked(path: Path, chance: random.Random) -> str:
    """As `damage`, inside a gzip file that stays sound."""
    inner = path.with_name("inner")
    inner.write_bytes(gzip.decompress(path.read_bytes()))
    said = damage(inner, chance)
    path.write_bytes(gzip.compress(inner.read_bytes(), mtime=0))
    inner.unlink()
    return f"unpacked {said}"


def change_tree(tree: Any, chance: random.Random) -> str:
    """One node of a tree replaced, removed, doubled or joined by an unknown one; the tree is changed in place."""
    places = [(holder, key) for holder, key in _places(tree)]
    if not places:
        return "nothing to change"
    holder, key = chance.choice(places)
    match chance.choice(("replace", "replace", "replace", "remove", "unknown", "nest", "swap")):
        case "replace":
            was, holder[key] = holder[key], copy.deepcopy(chance.choice(HOSTILE))
            coerced = type(was) in {int, float} and isinstance(holder[key], bool)
            return f"{'a number, ' if coerced else ''}{key} is now {str(holder[key])[:40]!r}"
        case "remove":
            del holder[key]
            return f"{key} removed"
        case "unknown" if isinstance(holder, dict):
            holder[f"{key}_"] = chance.choice(HOSTILE)
            return f"unknown field {key}_"
        case "nest":
            holder[key] = _nested(chance.choice((3, DEEP)))
            return f"{key} nested"
        case _:
            other, name = chance.choice(places)
            holder[key], other[name] = copy.deepcopy(other[name]), copy.deepcopy(holder[key])
            return f"{key} and {name} exchanged"


def json_tree(path: Path, chance: random.Random) -> str:
    """As `change_tree`, of a JSON document."""
    tree = json.loads(path.read_bytes())
    said = change_tree(tree, chance)
    path.write_text(json_text(tree), encoding="utf-8", errors="surrogatepass")
    return said


def yaml_tree(path: Path, chance: random.Random) -> str:
    """As `change_tree`, of a spec; it is written as JSON, which is YAML."""
    tree = YAML(typ="safe").load(path)
    said = change_tree(tree, chance)
    path.write_text(json_text(tree), encoding="utf-8", errors="surrogatepass")
    return said


def json_lines(path: Path, chance: random.Random) -> str:
    """One line of a file of JSON lines changed as a tree, or joined by something that is no JSON."""
    lines = path.read_text(encoding="utf-8").splitlines()
    at = chance.randrange(len(lines))
    tree = json.loads(lines[at])
    said = change_tree(tree, chance)
    lines[at] = chance.choice((json_text(tree), "nonsense", "", "[" * DEEP, lines[at] + lines[at], lines[at][:-3]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogatepass")
    return f"line {at + 1}: {said}"


def cells(path: Path, chance: random.Random) -> str:
    """Cells of a CSV table replaced, columns dropped or doubled, separators and ends of lines changed."""
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    at, column = chance.randrange(len(rows)), chance.randrange(len(rows[0]))
    end = "\n"
    match chance.choice(("cell", "cell", "column", "double", "ragged", "end", "many")):
        case "cell":
            rows[at][column] = str(chance.choice(HOSTILE))
        case "column":
            rows = [row[:column] + row[column + 1 :] for row in rows]
        case "double":
            rows = [[*row, row[column]] for row in rows]
        case "ragged":
            rows[at] = rows[at][: chance.randrange(len(rows[at]) + 1)]
        case "end":
            end = chance.choice(("\r\n", "\r", "\u2028", "\n\n", "\x00"))
        case _:
            value = str(chance.choice(HOSTILE))
            rows = [rows[0], *([value if i == column else cell for i, cell in enumerate(row)] for row in rows[1:])]
    path.write_bytes(end.join(",".join(row) for row in rows).encode("utf-8", "surrogatepass"))
    return f"cell {at},{column}"


def parquet_types(path: Path, chance: random.Random) -> str:
    """A column of a Parquet file in another type, or with nulls and extreme values."""
    table = pq.read_table(path, use_threads=False, pre_buffer=False)
    at = chance.randrange(table.num_columns)
    name, count = table.column_names[at], table.num_rows
    columns: dict[str, Callable[[], pa.Array]] = {
        "dictionary": lambda: pa.array([str(i % 3) for i in range(count)]).dictionary_encode(),
        "string view": lambda: pa.array([str(i) for i in range(count)]).cast(pa.string_view()),
        "nanoseconds": lambda: pa.array(range(count), pa.timestamp("ns")),
        "decimal": lambda: pa.array([None] * count, pa.decimal128(38, 10)),
        "list": lambda: pa.array([[i] for i in range(count)]),
        "struct": lambda: pa.array([{"a": i} for i in range(count)]),
        "nulls": lambda: pa.nulls(count),
        "bool": lambda: pa.array([i % 2 == 0 for i in range(count)]),
        "binary": lambda: pa.array([b"\xff\xfe"] * count),
        "map": lambda: pa.array([[("a", i)] for i in range(count)], pa.map_(pa.string(), pa.int64())),
        "pairs": lambda: pa.array([[i, i] for i in range(count)], pa.list_(pa.int64(), 2)),
        "deep": lambda: pa.array([[[{"a": [i]}]] for i in range(count)]),
        "half": lambda: pa.array([i / 7 for i in range(count)], pa.float16()),
        "duration": lambda: pa.array(range(count), pa.duration("us")),
        "date": lambda: pa.array(range(count), pa.date32()),
        "time": lambda: pa.array(range(count), pa.time64("ns")),
        "fixed bytes": lambda: pa.array([b"abcd"] * count, pa.binary(4)),
        "large text": lambda: pa.array([str(i) for i in range(count)], pa.large_string()),
        "wide decimal": lambda: pa.array([10**60] * count, pa.decimal256(76, 3)),
        "huge": lambda: pa.array([1e308] * count),
        "nan": lambda: pa.array([float("nan")] * count),
        "unsigned": lambda: pa.array([2**64 - 1] * count, pa.uint64()),
    }
    kind = chance.choice(list(columns))
    changed = table.set_column(at, name, columns[kind]()) if chance.random() < 0.9 else table.remove_column(at)
    if chance.random() < 0.1:
        changed, kind = changed.append_column(name, columns[kind]()), f"{kind}, twice"
    pq.write_table(changed.slice(0, chance.choice((0, 1, count))) if chance.random() < 0.2 else changed, path)
    return f"{name} is {kind}"


def pictures(path: Path, chance: random.Random) -> str:
    """Damage the bytes of one picture in a table of them."""
    table = pq.read_table(path, use_threads=False, pre_buffer=False)
    images = table.column("image").to_pylist()
    row = chance.randrange(len(images))
    one = path.with_name("picture")
    one.write_bytes(images[row])
    said = damage(one, chance)
    images[row] = one.read_bytes()
    one.unlink()
    column = table.column_names.index("image")
    pq.write_table(table.set_column(column, "image", pa.array(images, pa.binary())), path)
    return f"picture {row}: {said}"


def tensor_header(path: Path, chance: random.Random) -> str:
    """The JSON header of a safetensors file changed as a tree, its length made to fit."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    tree = json.loads(content[8 : 8 + length])
    said = change_tree(tree, chance)
    header = json_text(tree).encode("utf-8", "surrogatepass")
    claimed = chance.choice((len(header),) * 8 + (0, 2**40, len(header) - 1))
    path.write_bytes(struct.pack("<Q", claimed) + header + content[8 + length :])
    return f"header: {said}"


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    found: list[tuple[Any, Any]] = []
    left = [tree]
    while left:
        node = left.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            left.append(node[key])
    return found


def _nested(depth: int) -> Any:
    made: Any = 0
    for _ in range(depth):
        made = [made]
    return made


def json_text(tree: Any) -> str:
    """JSON, also of trees too deep for the standard library."""
    try:
        return json.dumps(tree, ensure_ascii=False)
    except RecursionError:
        return "[" * DEEP + "]" * DEEP
