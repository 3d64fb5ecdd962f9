"""Damage to files of weights: bytes flipped and cut, headers edited with their lengths and checksums made to fit."""

from __future__ import annotations

import copy
import json
import struct
import zlib
from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]
OURS, SUMS = "sparsity_lab", "sparsity_lab_crc32"
ODD_NUMBERS = (-1, 0, 1, 3, 7, 2**31, 2**40, 2**63 - 1, 2**63, 2**64, 10**400, True, 1.5, None, "8", [], {})
TYPES = (
    "F64",
    "F32",
    "F16",
    "BF16",
    "I64",
    "I32",
    "I16",
    "I8",
    "U8",
    "BOOL",
    "F8_E4M3",
    "F8_E5M2",
    "F8_E8M0",
    "F4",
    "C64",
)
DEEP = "[" * 3000 + "]" * 3000
DIGITS = "1" * 5000


def parsed(content: bytes) -> tuple[Json, bytes]:
    """Header and data of a safetensors file."""
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: Json | str, data: bytes) -> bytes:
    """The file again, with the header's length as it is now."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + data


def sealed(document: Json) -> str:
    """A header of ours with the checksum that fits it."""
    rest = {field: value for field, value in document.items() if field != "crc32"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return json.dumps(rest | {"crc32": zlib.crc32(text.encode())})


@st.composite
def flips(draw: st.DrawFn, content: bytes) -> bytes:
    """One to three bytes are others."""
    changed = bytearray(content)
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.one_of(st.integers(0, header - 1), st.integers(0, len(content) - 1)))
        changed[place] ^= draw(st.integers(1, 255))
    return bytes(changed)


@st.composite
def cuts(draw: st.DrawFn, content: bytes) -> bytes:
    """The end is missing, something stands behind it, or a stretch is gone."""
    first = draw(st.integers(0, len(content) - 1))
    last = draw(st.integers(first, len(content)))
    return draw(st.sampled_from([content[:first], content + content[first:last], content[:first] + content[last:]]))


@st.composite
def edits(draw: st.DrawFn, content: bytes) -> bytes:
    """The header of the file says something else of one or two tensors; its length fits."""
    header, data = parsed(content)
    names = [name for name in header if name != "__metadata__"]
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(names))
        entry = header.get(name, {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})
        match draw(
            st.sampled_from(["dtype", "shape", "reshape", "offsets", "rename", "drop", "swap", "more", "twice"])
        ):
            case "dtype":
                entry["dtype"] = draw(st.sampled_from(TYPES))
            case "shape":
                entry["shape"] = [*entry["shape"][:1], draw(st.sampled_from(ODD_NUMBERS))]
            case "reshape":
                entry["shape"] = draw(
                    st.sampled_from([entry["shape"][::-1], [*entry["shape"], 1], [1, *entry["shape"]]])
                )
            case "offsets":
                entry["data_offsets"] = [draw(st.sampled_from(ODD_NUMBERS)), entry["data_offsets"][1]]
            case "rename":
                header[draw(st.sampled_from(["", "x", "x\x1b[31m\n", "../x", "\u2028", name + ".values"]))] = (
                    header.pop(name, entry)
                )
            case "drop":
                header.pop(name, None)
            case "swap":
                other = draw(st.sampled_from(names))
                header[name], header[other] = header.get(other, entry), entry
            case "more":
                header["surplus"] = {"dtype": "F32", "shape": [0, 4], "data_offsets": [len(data), len(data)]}
            case _:
                text = json.dumps(header)
                again = json.dumps({name: entry | {"dtype": draw(st.sampled_from(TYPES))}})
                return joined(text[:-1] + ", " + again[1:], data)
    return joined(header, data)


@st.composite
def metadata_edits(draw: st.DrawFn, content: bytes) -> bytes:
    """A field of the metadata is dropped, is another text, or is there twice."""
    header, data = parsed(content)
    metadata = header.setdefault("__metadata__", {"format": "pt"})
    field = draw(st.sampled_from([*metadata, "facts", OURS, SUMS]))
    text = draw(
        st.sampled_from(["", "{", "null", "[]", "{}", "1e999", DEEP, DIGITS, '{"a": ' + DIGITS + "}", "\x00", "NaN"])
    )
    match draw(st.sampled_from(["drop", "text", "twice"])):
        case "drop":
            metadata.pop(field, None)
        case "text":
            metadata[field] = text
        case _:
            metadata[field] = metadata.get(field, "")
            again = json.dumps({field: text})
            return joined(
                json.dumps(header).replace('"__metadata__": {', '"__metadata__": {' + again[1:-1] + ", ", 1), data
            )
    return joined(header, data)


@st.composite
def claims(draw: st.DrawFn, content: bytes) -> bytes:
    """Our own header says something else, and its checksum fits what it says."""
    header, data = parsed(content)
    document = json.loads(header["__metadata__"][OURS])
    tensors = document["tensors"]
    name = draw(st.sampled_from(list(tensors)))
    entry = tensors[name]
    odd = draw(st.sampled_from(ODD_NUMBERS))
    match draw(
        st.sampled_from(["shape", "reshape", "dtype", "encoding", "crc32", "drop", "copy", "field", "top", "deep"])
    ):
        case "shape":
            entry["shape"] = [*entry["shape"][:1], odd]
        case "reshape":
            rows = entry["shape"][0] if entry["shape"] else 1
            entry["shape"] = draw(
                st.sampled_from([[rows + 1, *entry["shape"][1:]], [rows], [], [2**40, 2**40], [1, 2**45]])
            )
        case "dtype":
            entry["dtype"] = draw(st.sampled_from(["float32", "bfloat16", "int8", "float8_e4m3fn", "", "no"]))
        case "encoding":
            entry["encoding"] = draw(
                st.sampled_from(["dense", "csr", "bitmask", "2:4", "1:4", "255:256", "zip", "1:" + DIGITS])
            )
            document["encoding"] = draw(st.sampled_from([document["encoding"], entry["encoding"]]))
        case "crc32":
            entry["crc32"] = odd
        case "drop":
            tensors.pop(name)
        case "copy":
            tensors[draw(st.sampled_from(["new", name + ".values", ""]))] = copy.deepcopy(entry)
        case "field":
            entry.pop(draw(st.sampled_from(list(entry))))
        case "top":
            document[draw(st.sampled_from(list(document)))] = odd
        case _:
            document["more"] = json.loads("[" * 200 + "]" * 200)
    header["__metadata__"][OURS] = sealed(document)
    return joined(header, data)
