"""Mutations that need more than other bytes: what stands where a file was, YAML's own tricks, fields of a schema."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import socket
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from attacks.mutations import HOSTILE, json_text
from sparsity_lab.specs.loading import schema

LAUGHS = 40
"""aliases a line; nine lines of a hundred make more nodes than memory holds"""


def place(path: Path, chance: random.Random) -> str:
    """Something else that stands where the file was."""
    content = path.read_bytes()
    path.unlink()
    kinds: dict[str, Callable[[], object]] = {
        "missing": lambda: None,
        "folder": path.mkdir,
        "link to itself": lambda: path.symlink_to(path.name),
        "loop of links": lambda: _loop(path),
        "dangling link": lambda: path.symlink_to("nowhere"),
        "pipe": lambda: os.mkfifo(path),
        "socket": lambda: _socket(path),
        "endless device": lambda: path.symlink_to("/dev/zero"),
        "random device": lambda: path.symlink_to("/dev/urandom"),
        "empty device": lambda: path.symlink_to("/dev/null"),
        "full device": lambda: path.symlink_to("/dev/full"),
        "own memory": lambda: path.symlink_to("/proc/self/mem"),
        "hole of a terabyte": lambda: _hole(path),
        "folder above a file": lambda: _shadowed(path, content),
    }
    kind = chance.choice(list(kinds))
    kinds[kind]()
    return f"place: {kind}"


def _loop(path: Path) -> None:
    path.symlink_to("other")
    path.with_name("other").symlink_to(path.name)


def _socket(path: Path) -> None:
    """Bound under a relative name: an absolute one may be too long."""
    above = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.fchdir(above)
    os.close(above)


def _hole(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def _shadowed(path: Path, content: bytes) -> None:
    """The folder of the file is a file."""
    shutil.rmtree(path.parent)
    path.parent.write_bytes(content)


def yaml_text(path: Path, chance: random.Random) -> str:
    """A spec that is written as YAML allows and nobody expects."""
    tree = YAML(typ="safe").load(path)
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in tree.items())
    field, value = chance.choice([(key, json.dumps(value)) for key, value in tree.items()])
    hostile = json_text(chance.choice(HOSTILE))
    laughs = "".join(
        f"l{n}: &l{n} [{', '.join([f'*l{n - 1}' if n else 'lol'] * LAUGHS)}]\n" for n in range(chance.choice((2, 9)))
    )
    kinds: dict[str, str | bytes] = {
        "key twice": f"{text}{field}: {value}\n",
        "key twice, other value": f"{text}{field}: {hostile}\n",
        "alias bomb": laughs + text,
        "alias bomb as a value": laughs + text.replace(f"{field}: {value}", f"{field}: *l1"),
        "alias of itself": text.replace(f"{field}: {value}", f"{field}: &me [*me]"),
        "unknown alias": text.replace(f"{field}: {value}", f"{field}: *nobody"),
        "merge key": f"<<: {{{field}: {hostile}}}\n{text}",
        "merge of no mapping": f"<<: {hostile}\n{text}",
        "python object": text.replace(f"{field}: {value}", f"{field}: !!python/object/apply:os.system ['touch OOPS']"),
        "unknown tag": text.replace(f"{field}: {value}", f"{field}: !thing {value}"),
        "binary tag": text.replace(f"{field}: {value}", f"{field}: !!binary aGVsbG8="),
        "set tag": text.replace(f"{field}: {value}", f"{field}: !!set {{a, b}}"),
        "two documents": f"{text}---\n{text}",
        "directive": f"%YAML 9.9\n---\n{text}",
        "tabs": text.replace(": ", ":\t"),
        "UTF-16": text.encode("utf-16"),
        "UTF-32": text.encode("utf-32"),
        "Latin-1": f"{text}# é\n".encode("latin-1"),
        "key of another type": f"{text}{chance.choice(('1', 'null', '[a]', '{a: b}', '2020-01-01', '~', 'yes'))}: 1\n",
        "sexagesimal": text.replace(f"{field}: {value}", f"{field}: 190:20:30"),
        "octal": text.replace(f"{field}: {value}", f"{field}: 0o17"),
        "underscores": text.replace(f"{field}: {value}", f"{field}: 1_000"),
        "yes": text.replace(f"{field}: {value}", f"{field}: yes"),
        "date": text.replace(f"{field}: {value}", f"{field}: 0000-99-99"),
        "control in a string": text.replace(f"{field}: {value}", f'{field}: "a\\0b"'),
        "surrogate": text.replace(f"{field}: {value}", f'{field}: "\\ud800"'),
        "key of a megabyte": f"{text}{'k' * 2**20}: 1\n",
        "long key": f"{text}? {'k' * 2000}\n: 1\n",
        "ends of old Macs": text.replace("\n", "\r"),
        "form feed": f"\f{text}",
        "scalar": chance.choice(("x", "1", "null", "[]", '""', "...", "---", "- - -", "? ?", "&a", "!!")),
    }
    kind = chance.choice(list(kinds))
    made = kinds[kind]
    path.write_bytes(made if isinstance(made, bytes) else made.encode("utf-8", "surrogatepass"))
    return f"YAML: {kind} ({field})"


def schema_field(path: Path, chance: random.Random) -> str:
    """Any field that the schema of the spec's kind knows, also one that the file leaves out, with a hostile value."""
    tree = YAML(typ="safe").load(path)
    whole = schema(tree["kind"])
    holder, node, at = tree, whole, ""
    while True:
        fields = _fields(node, whole, holder, chance)
        if not fields:
            break
        name = chance.choice(sorted(fields))
        at = f"{at}.{name}"
        inner = holder.get(name)
        if _fields(fields[name], whole, inner, chance) and chance.random() < 0.7:
            if not isinstance(inner, dict):
                inner = holder[name] = {}
            holder, node = inner, fields[name]
            continue
        holder[name] = chance.choice(HOSTILE)
        at = f"{at} is now {str(holder[name])[:40]!r}"
        break
    path.write_text(json_text(tree), encoding="utf-8", errors="surrogatepass")
    return f"schema: {at[1:]}"


def _fields(node: Any, whole: Any, holder: Any, chance: random.Random) -> dict[str, Any]:
    """The fields of an object of a schema; of several that may stand here, the one whose kind the file names."""
    while "$ref" in node:
        node = whole["$defs"][node["$ref"].rpartition("/")[2]]
    options = node.get("oneOf") or node.get("anyOf")
    if options:
        found = [fields for option in options if (fields := _fields(option, whole, holder, chance))]
        kind = holder.get("kind") if isinstance(holder, dict) else None
        same = [fields for fields in found if kind is not None and fields.get("kind", {}).get("const") == kind]
        return chance.choice(same or found) if found else {}
    return dict(node.get("properties", {}))


def tensor_offsets(path: Path, chance: random.Random) -> str:
    """Tensors of a safetensors file that overlap, leave gaps, run backwards or beyond the end; shapes that lie."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    one, other = chance.choice(names), chance.choice(names)
    first, last = header[one]["data_offsets"]
    kind = chance.choice(("overlap", "same", "gap", "backwards", "beyond", "negative", "shape", "dtype", "many axes"))
    changes: dict[str, tuple[str, Any]] = {
        "overlap": ("data_offsets", [max(first - 4, 0), last]),
        "same": ("data_offsets", header[other]["data_offsets"]),
        "gap": ("data_offsets", [first + 4, last]),
        "backwards": ("data_offsets", [last, first]),
        "beyond": ("data_offsets", [first, 2**62]),
        "negative": ("data_offsets", [-4, last]),
        "shape": ("shape", chance.choice(([2**40, 2**40], [0], [-1], [], [1, *header[one]["shape"]]))),
        "dtype": ("dtype", chance.choice(("F8_E4M3", "I64", "BOOL", "F4", "x", 1))),
        "many axes": ("shape", [1] * 5000),
    }
    field, value = changes[kind]
    header[one][field] = value
    packed = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(packed)) + packed + content[8 + length :])
    return f"offsets: {kind} of {one}"


def tar_members(path: Path, chance: random.Random) -> str:
    """Members of a tar archive that lead out of it, are no files, claim other sizes or come twice."""
    kinds = ("above", "absolute", "link", "hard link", "device", "pipe", "twice", "huge", "no name", "bytes", "long")
    kind = chance.choice(kinds)
    names = {
        "above": "../../OOPS.txt",
        "absolute": "/tmp/OOPS.txt",  # noqa: S108
        "no name": ".txt",
        "bytes": "\udcff.txt",
        "long": "x" * 5000 + ".txt",
    }
    types = {
        "link": tarfile.SYMTYPE,
        "hard link": tarfile.LNKTYPE,
        "device": tarfile.CHRTYPE,
        "pipe": tarfile.FIFOTYPE,
    }
    with tarfile.open(path) as archive:
        first = archive.getnames()[0]
    member = tarfile.TarInfo(first if kind == "twice" else names.get(kind, "more.txt"))
    member.type = types.get(kind, tarfile.REGTYPE)
    member.linkname = "/etc/hostname" if kind in {"link", "hard link"} else ""
    text = b"sparse dense mask weight layer prune loss law " * 8
    member.size = 2**50 if kind == "huge" else len(text) if member.isreg() else 0
    encoded = member.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape") + (text if member.isreg() else b"")
    padded = io.BytesIO(encoded + bytes(-len(encoded) % tarfile.BLOCKSIZE))
    path.write_bytes(padded.getvalue() + path.read_bytes())
    return f"member: {kind}"
