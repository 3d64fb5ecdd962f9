"""Which weights of an architecture of `transformers` are what; no numbers are ever made.

Prunable are the weights of linear layers in its blocks (the modules of its outermost lists) and of experts. Outside the
blocks, matrices are what embeddings and head are for our own families. All else stays dense: vectors, tables of
relative positions, routers, convolutions in blocks, and weights on which the task's loss does not depend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from math import prod
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from sparsity_lab.errors import SpecError, refusing
from sparsity_lab.models.foreign.network import Foreign, block_names, example, hollow
from sparsity_lab.specs.models import HuggingFaceDims

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
ROUTERS = ("gate", "router")
"""what the layer beside a module `experts` is called that chooses among them"""


@dataclass(frozen=True)
class MatrixLayout:
    """How a run lays out a parameter: as a matrix (outputs, inputs)."""

    shape: tuple[int, ...]
    """of the run's tensor"""
    parameter: tuple[int, ...]
    """of the module's"""
    inputs_first: bool = False
    """experts (experts, inputs, outputs)"""

    def seen(self, tensor: Tensor) -> Tensor:
        """A run's tensor as the module reads it: a view."""
        if self.inputs_first:
            experts, inputs, outputs = self.parameter
            return tensor.view(experts, outputs, inputs).transpose(1, 2)
        return tensor.view(self.parameter)

    def laid_out(self, parameter: Tensor) -> Tensor:
        """A module's parameter as the run's tensor."""
        return (parameter.transpose(1, 2) if self.inputs_first else parameter).reshape(self.shape)


@dataclass(frozen=True)
class Structure:
    """The weights of one architecture of one size, by the names of its files; tied ones once."""

    prunable: Mapping[str, tuple[int, int]]
    outside: Mapping[str, tuple[int, int]]
    """matrices outside the blocks: embeddings, positions, patches, head"""
    other: Mapping[str, tuple[int, ...]]
    layouts: Mapping[str, MatrixLayout]
    """of parameters that are no matrices as they are"""
    unwatched: frozenset[str]
    """prunable weights whose inputs no call of a layer shows: experts, and layers that are never called themselves"""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor of a run."""
        return {**self.prunable, **self.outside, **self.other}


@lru_cache(maxsize=256)
def structure(dims: HuggingFaceDims) -> Structure:
    """What there is to prune, and what else.

    Raises:
        SpecError: transformers cannot build it; a name pattern matches nothing, or what cannot be pruned; there is
            nothing to prune; or a weight in a block is never used.
    """
    with hollow(dims) as model:
        found = _sorted_out(model, dims)
        unused, called = _passed(model)
    for name in sorted(unused & set(found.prunable)):
        _refuse("the task's loss does not depend on it", name, "a pattern in prunable.exclude")
    stay = {name: shape for name, shape in found.outside.items() if name not in unused}
    idle = {name: shape for name, shape in found.outside.items() if name in unused}
    unwatched = found.unwatched | (set(found.prunable) - called)
    return Structure(found.prunable, stay, {**idle, **found.other}, found.layouts, unwatched)


@lru_cache(maxsize=4096)
def weights_in_blocks(dims: HuggingFaceDims) -> int:
    """Dense prunable weights, without a pass through the network; errors as `structure`."""
    with hollow(dims) as model:
        return sum(map(prod, _sorted_out(model, dims).prunable.values()))


def _sorted_out(model: Foreign, dims: HuggingFaceDims) -> Structure:
    prunable: dict[str, tuple[int, int]] = {}
    outside: dict[str, tuple[int, int]] = {}
    other: dict[str, tuple[int, ...]] = {}
    layouts: dict[str, MatrixLayout] = {}
    experts: set[str] = set()
    owners = _owners(model)
    for name, parameter in model.named_parameters():
        kind, layout = _kind(name, parameter, owners[id(parameter)], dims)
        if kind == "other":
            other[name] = layout.shape
        else:
            matrices = outside if kind == "outside" else prunable
            matrices[name] = (layout.shape[0], layout.shape[1])
        if kind == "experts":
            experts.add(name)
        if layout.shape != layout.parameter:
            layouts[name] = layout
    _check_patterns(dims, {**prunable, **outside, **other})
    if not prunable:
        _refuse("has no linear layers in blocks: nothing to prune", "config", "another architecture")
    return Structure(prunable, outside, other, layouts, frozenset(experts))


@dataclass(frozen=True)
class _HoldingModule:
    """One module that holds a parameter."""

    module: nn.Module
    parent: nn.Module
    name: str
    in_block: bool


def _owners(model: Foreign) -> dict[int, list[_HoldingModule]]:
    """The modules that hold each parameter, by its identity."""
    blocks = tuple(f"{name}." for name in block_names(model))
    held: dict[int, list[_HoldingModule]] = {}
    for name, module in model.named_modules():
        parent = model.get_submodule(name.rpartition(".")[0])
        for parameter in module.parameters(recurse=False):
            held.setdefault(id(parameter), []).append(
                _HoldingModule(module, parent, name, f"{name}.".startswith(blocks))
            )
    return held


def _kind(
    name: str, parameter: Tensor, owners: list[_HoldingModule], dims: HuggingFaceDims
) -> tuple[str, MatrixLayout]:
    """What a parameter is (prunable, experts, outside or other), and how a run lays it out."""
    shape = tuple(parameter.shape)
    inside, linear = all(one.in_block for one in owners), all(isinstance(one.module, nn.Linear) for one in owners)
    asked = _matches(name, dims.prunable.include)
    layout = MatrixLayout(shape, shape)
    if len(shape) == 2 and linear and (inside or asked):
        dense = _matches(name, dims.prunable.exclude) or (_routes(owners) and not asked)
        return "other" if dense else "prunable", layout
    if inside and len(shape) == 3 and all(hasattr(one.module, "is_transposed") for one in owners):
        flipped = bool(owners[0].module.is_transposed)
        count, outputs, inputs = (shape[0], shape[2], shape[1]) if flipped else shape
        dense = _matches(name, dims.prunable.exclude)
        return "other" if dense else "experts", MatrixLayout((count * outputs, inputs), shape, flipped)
    if asked:
        reason, expected = f"asks for {name}, which {_why_not(parameter, owners)}", "weights of linear layers"
        _refuse(reason, "prunable.include", expected)
    matrix = _matrix(shape, owners)
    if not inside and matrix is not None:
        return "outside", MatrixLayout(matrix, shape)
    return "other", layout


def _routes(owners: list[_HoldingModule]) -> bool:
    """Whether a linear layer chooses among experts beside it."""
    return any(hasattr(one.parent, "experts") and one.name.rpartition(".")[2] in ROUTERS for one in owners)


def _matrix(shape: tuple[int, ...], owners: list[_HoldingModule]) -> tuple[int, int] | None:
    """The matrix that a parameter outside the blocks is: kernels as (outputs, the rest), positions as rows."""
    if isinstance(owners[0].module, CONVOLUTIONS) and len(shape) > 2:
        return shape[0], prod(shape[1:])
    rows = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    return (rows[0], rows[1]) if len(rows) == 2 and min(rows) > 1 else None


def _why_not(parameter: Tensor, owners: list[_HoldingModule]) -> str:
    """Why a parameter that was asked for cannot be pruned."""
    module = owners[0].module
    if parameter.ndim < 2:
        return "is a vector, and only matrices are pruned"
    if any(isinstance(one.module, nn.Embedding) for one in owners):
        return "is a table of embeddings, which has no inputs; allocation.embeddings_and_head prunes it with N"
    if isinstance(module, CONVOLUTIONS):
        return "is the kernel of a convolution, and only matrices are pruned"
    return f"belongs to a {type(module).__name__}: nothing says which of its axes are inputs"


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_patterns(dims: HuggingFaceDims, names: Mapping[str, object]) -> None:
    for field, patterns in (("include", dims.prunable.include), ("exclude", dims.prunable.exclude)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                known = ", ".join(list(names)[:4])
                message = "matches no weight of this architecture"
                raise SpecError(message, field=f"prunable.{field}", found=pattern, expected=f"names such as {known}")


def _passed(model: Foreign) -> tuple[set[str], set[str]]:
    """Parameters on which the loss does not depend, and weights of linear layers that were called."""
    called: set[str] = set()
    named = dict(model.named_parameters())
    names = {id(parameter): name for name, parameter in named.items()}  # a tied weight has one

    def note(layer: nn.Module, _: object) -> None:
        if isinstance(layer, nn.Linear):
            called.add(names[id(layer.weight)])

    hooks = [module.register_forward_pre_hook(note) for module in model.modules() if isinstance(module, nn.Linear)]
    with refusing(None, SpecError, "no example can pass through it", field="config"):
        try:
            loss = model.loss(example(model))
        except (DataDependentOutputException, DynamicOutputShapeException):
            reason = "reads numbers to decide what it computes, so that nothing can be counted before it is trained"
            _refuse(reason, "config.model_type", "another model_type")
        grads: Any = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    for hook in hooks:
        hook.remove()
    return {name for name, grad in zip(named, grads, strict=True) if grad is None}, called


def _refuse(reason: str, field: str, expected: str) -> NoReturn:
    raise SpecError(reason, field=field, expected=expected)
