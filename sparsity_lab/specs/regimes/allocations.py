"""Allocations: how the asked sparsity is shared out over the weight tensors.

Whatever the allocation, the asked sparsity is that of all prunable weights together: what excluded tensors keep,
the others give up. What lies outside the blocks counts in neither; `embeddings_and_head` says what becomes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
)

from sparsity_lab.specs.base import Distinct, Sparsity, Spec


def _pairs(value: object) -> object:
    return tuple(sorted(value.items())) if isinstance(value, Mapping) else value


LayerMap = Annotated[
    tuple[tuple[str, Sparsity], ...],
    BeforeValidator(_pairs),
    PlainSerializer(dict, return_type=dict[str, float]),
    Field(min_length=1),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "number", "minimum": 0, "exclusiveMaximum": 1}}),
]


class _AllocationSpec(Spec):
    exclude: Annotated[tuple[str, ...], Distinct] = ()
    """name patterns (as in a shell: *, ?, [..]) of weight tensors that stay dense, such as "encoder.0.*" """
    embeddings_and_head: Literal["balanced", "dense"] = "balanced"
    """matrices outside the blocks that grow with the width: embeddings, learned positions, output head. Balanced: each
    pruned to 1 - sqrt(1 - S), so that their non-zero weights track those of the dense model of equal N (Frantar et al.
    2024, whose T5 configuration does so for embedding and head alike); dense: never pruned"""

    @property
    def prunes_outside(self) -> bool:
        """Whether weights outside the blocks are pruned too."""
        return self.embeddings_and_head == "balanced"


class Uniform(_AllocationSpec):
    """Every tensor gets the same sparsity."""

    kind: Literal["uniform"] = "uniform"


class ErdosRenyiKernel(_AllocationSpec):
    """Density in proportion to (out + in) / (out * in), at most 1 (Mocanu et al. 2018; Evci et al. 2020)."""

    kind: Literal["erdos-renyi-kernel"]


class Global(_AllocationSpec):
    """One ranking of all weights: tensors whose scores are small give up more."""

    kind: Literal["global"]
    normalize: Literal["none", "l2"] = "none"
    """what a tensor's scores are divided by before they are ranked with the others': nothing, or their L2 norm, which
    is what jaxpruner's global pruners do (Lee et al. 2023)"""

    @model_serializer(mode="wrap")
    def _named_as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Runs from before there was a choice keep their names."""
        return {name: value for name, value in dump(self).items() if (name, value) != ("normalize", "none")}


class Layers(_AllocationSpec):
    """Sparsities by hand; tensors that no pattern names share what is left."""

    kind: Literal["layers"]
    sparsity: LayerMap
    """final sparsity of the tensors that a name pattern matches; a tensor may match one pattern only"""


Allocation = Annotated[Uniform | ErdosRenyiKernel | Global | Layers, Field(discriminator="kind")]
