"""Plug-ins: a score, pattern or schedule of one's own, from a package that declares it as an entry point.

    [project.entry-points."sparsity_lab.scores"]
    decayed = "mypackage.scores:Decayed"

A spec then says `score: {kind: plugin, name: decayed, options: {rate: 0.9}}`. The class is called with the options
as keyword arguments and carries `version`, which enters the identity of every run that uses it: raise it when the
class gives other numbers. `pruning.conformance` checks that it keeps the promises of the built-in ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from sparsity_lab.errors import SpecError, refusing
from sparsity_lab.specs.base import Count, Spec

SCORES = "sparsity_lab.scores"
PATTERNS = "sparsity_lab.patterns"
SCHEDULES = "sparsity_lab.schedules"
"""groups of entry points"""
Scalar = bool | int | float | str


def _pairs(value: object) -> object:
    return tuple(sorted(value.items())) if isinstance(value, Mapping) else value


Options = Annotated[
    tuple[tuple[str, Scalar], ...],
    BeforeValidator(_pairs),
    PlainSerializer(dict, return_type=dict[str, Scalar]),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["boolean", "number", "string"]}}),
]
"""a mapping of plain values that can be hashed"""


class Plugin(Spec):
    """Something from outside the package, found by the name of its entry point."""

    kind: Literal["plugin"]
    name: Annotated[str, Field(min_length=1)]
    """name of the entry point"""
    options: Options = ()
    """keyword arguments of the class"""
    version: Count | None = None
    """version of the class; filled in when a run is laid out"""

    def load(self, group: str) -> Any:
        """An instance of the class behind the entry point `name` of `group`, made with the options.

        Raises:
            SpecError: nothing is installed under that name, it does not take the options, or it has no `version`.
        """
        with refusing(None, SpecError, f"plug-in {self.name} of {group} cannot be used", field="options"):
            made = _make(group, self.name, self.options)
        found = getattr(made, "version", None)
        if not isinstance(found, int) or found < 1:
            message = f"plug-in {self.name} of {group} must carry its version"
            raise SpecError(message, field="version", found=found, expected="a whole number from 1")
        if self.version not in (None, found):
            message = f"plug-in {self.name} of {group} is installed in another version"
            raise SpecError(message, field="version", found=found, expected=str(self.version))
        return made

    def pinned(self, group: str) -> Self:
        """The same plug-in with the version that is installed; errors as `load`."""
        return self.model_copy(update={"version": self.load(group).version})


@cache
def _make(group: str, name: str, options: tuple[tuple[str, Scalar], ...]) -> Any:
    """Looking through all installed packages is slow, and a ramp asks for its schedule at every update."""
    known = {entry.name: entry for entry in entry_points(group=group)}
    if name not in known:
        names = ", ".join(sorted(known)) or "none is installed"
        raise SpecError(f"no such entry point in {group}", field="name", found=name, expected=names)
    return known[name].load()(**dict(options))
