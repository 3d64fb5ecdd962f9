"""An architecture of `transformers` as a model of ours: its own module, under its own names.

Dropout and its like are off, as they are in our own families, so that a batch has one loss.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from sparsity_lab.errors import SpecError, refusing
from sparsity_lab.models.base import Batch, Model, ParameterLayout
from sparsity_lab.models.count import foreign_structure
from sparsity_lab.models.foreign.configuration import class_for, config_object, image_side, library, vision
from sparsity_lab.specs.models import HuggingFaceDims

HALF = 127.5
"""of a pixel's values: 0..255 become -1..1"""


class Foreign(Model):
    """A module of `transformers`; what it is made of are its own children, so that names are those of its files."""

    dims: HuggingFaceDims

    def __init__(self, dims: HuggingFaceDims, network: Any) -> None:
        super().__init__(dims)
        self.task = dims.task
        self.inner = (network,)  # a tuple: as a child it would come before every name
        for held in ("_modules", "_parameters", "_buffers"):
            setattr(self, held, getattr(network, held))  # not copied: what is replaced here is replaced there

    @property
    def layouts(self) -> Mapping[str, ParameterLayout]:
        """As `structure` found them."""
        return foreign_structure(self.dims).layouts

    def labels(self, batch: Batch) -> Tensor:
        """What each state should predict, int64; -100 counts for nothing."""
        match self.task:
            case "causal-lm":
                return batch["tokens"][:, 1:]
            case "encoder-decoder":
                return batch["targets"]
            case "masked-lm" | "image-classification":
                return batch["labels"]

    def states(self, batch: Batch) -> Tensor:
        """Its heads may do more than multiply: what is asked are logits."""
        raise NotImplementedError

    def logits(self, batch: Batch) -> Tensor:
        """Unnormalised log-probabilities, (B, U, V) for text and (B, classes) for images."""
        network = self.inner[0]
        match self.task:
            case "causal-lm":
                made = network(input_ids=batch["tokens"][:, :-1], use_cache=False)
            case "encoder-decoder":
                targets = batch["targets"]
                start = network.config.decoder_start_token_id
                read = functional.pad(targets[:, :-1].clamp(min=0), (1, 0), value=start)
                made = network(input_ids=batch["inputs"], decoder_input_ids=read, use_cache=False)
            case "masked-lm":
                made = network(input_ids=batch["inputs"])
            case "image-classification":
                pixels = batch["images"].permute(0, 3, 1, 2).float().div(HALF).sub(1)
                made = network(pixel_values=pixels)
        logits: Tensor = made.logits
        return logits

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy over all labels that count, nats, a scalar."""
        return functional.cross_entropy(self.logits(batch).flatten(0, -2).float(), self.labels(batch).flatten())

    def blocks_of_stacks(self) -> list[nn.Module]:
        """The blocks, stack after stack."""
        return [self.get_submodule(name) for name in block_names(self)]


def block_names(model: nn.Module) -> list[str]:
    """Names of the modules that outermost lists hold: a network's blocks."""
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    outer = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    return [f"{name}.{child}" for name in outer for child, _ in model.get_submodule(name).named_children()]


def build(dims: HuggingFaceDims, seed: int) -> Foreign:
    """The network with weights as its own code draws them, from `seed` alone; on the CPU in float32.

    Raises:
        SpecError: transformers cannot build it, or it sees the tokens that it is to predict.
    """
    model = _drawn(dims, seed)
    if _held(model):
        constants(dims)
    if dims.task == "causal-lm":
        _check_causal(model)
    return model


@lru_cache(maxsize=64)
def constants(dims: HuggingFaceDims) -> Mapping[str, Tensor]:
    """What files of the network hold that nobody trains, by name: positions that are computed, a bias of zeros.

    Raises:
        SpecError: transformers cannot build it, or draws such values, which no record would keep.
    """
    first, second = (_held(_drawn(dims, seed)) for seed in (0, 1))
    for name, value in first.items():
        if not value.equal(second[name]):
            message = "holds values that are drawn and never trained, which no record would keep"
            kind = json.loads(dims.config)["model_type"]
            raise SpecError(message, field="config.model_type", found=f"{kind}: {name}", expected="another model_type")
    return first


def _drawn(dims: HuggingFaceDims, seed: int) -> Foreign:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return _model(dims, bare(dims))


def _held(model: nn.Module) -> dict[str, Tensor]:
    """Buffers that files have."""
    kept = model.state_dict()
    return {name: value for name, value in model.named_buffers() if name in kept}


@torch.enable_grad()
def _check_causal(model: Foreign) -> None:
    """Refuse a network whose first prediction depends on later tokens: it would learn to copy."""
    read: list[Tensor] = []
    table = model.inner[0].get_input_embeddings()
    hook = table.register_forward_hook(lambda _layer, _inputs, output: read.append(output))
    first = model.logits(example(model))[:, 0]
    hook.remove()
    (slope,) = torch.autograd.grad(first.square().sum(), read[:1])
    positions = slope if len(slope) == 1 else slope.transpose(0, 1)  # some have them before the batch
    if positions[:, 1:].any():
        kind, expected = model.inner[0].config.model_type, "objective: {kind: masked}, or another architecture"
        raise SpecError("sees the tokens that it is to predict", field="config", found=kind, expected=expected)


@contextmanager
def hollow(dims: HuggingFaceDims) -> Iterator[Foreign]:
    """The network without memory for its numbers; within, tensors that are made have none either.

    Raises:
        SpecError: transformers cannot build it.
    """
    with torch.device("meta"), library("initialization").no_init_weights():
        network = bare(dims, experts="batched_mm")
    with FakeTensorMode(allow_non_fake_inputs=True), torch.enable_grad():
        _lay_out(network)
        yield _model(dims, network)


def _lay_out(network: nn.Module) -> None:
    """Replace what lies nowhere by tensors of the mode that is on; what several modules hold stays one."""
    made: dict[int, tuple[Tensor, Tensor]] = {}  # with what they replace, whose identities are the keys
    for module in network.modules():
        kinds: Any = (module._parameters, module._buffers)  # noqa: SLF001 - as they are held, tied ones too
        for held in kinds:
            for name, tensor in held.items():
                if tensor is not None:
                    held[name] = made.setdefault(id(tensor), (tensor, _laid_out(tensor)))[1]


def _laid_out(tensor: Tensor) -> Tensor:
    found = torch.empty_like(tensor, device="cpu")
    return nn.Parameter(found, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else found


def bare(dims: HuggingFaceDims, experts: str = "eager") -> Any:
    """The module as `transformers` builds it.

    Args:
        dims: of the architecture.
        experts: how they multiply, as `transformers` calls its ways; eager gives the same bits again.

    Raises:
        SpecError: transformers cannot build it.
    """
    config = config_object(json.loads(dims.config))
    head = class_for(config, dims.task)
    with refusing(None, SpecError, f"transformers cannot build this {config.model_type}", field="config"):
        network = head.from_config(config, dtype=torch.float32, experts_implementation=experts)
        network.tie_weights()  # without initial weights it has not been done
        return network


def input_first(network: Any) -> frozenset[str]:
    """Names of the weights that layers keep as (inputs, outputs): those of `Conv1D`."""
    layers = library("pytorch_utils").Conv1D
    return frozenset(f"{name}.weight" for name, module in network.named_modules() if isinstance(module, layers))


def _model(dims: HuggingFaceDims, network: Any) -> Foreign:
    """A network of `bare` as a model of ours."""
    network.eval()
    network.warn_if_padding_and_no_attention_mask = _nothing  # training pads at will, and counting has no numbers
    for name in input_first(network):
        layer = name.removesuffix(".weight")
        network.set_submodule(layer, _as_linear(network.get_submodule(layer)))
    for name, parameter in [*network.named_parameters()]:
        if not parameter.requires_grad:  # positions that are computed, and no weights
            _as_constant(network, name)
    for name, module in network.named_modules():
        if hasattr(module, "running_mean"):
            message = "keeps running statistics, which are no weights: a run could not go on to the same bits"
            kind = network.config.model_type
            raise SpecError(message, field="config.model_type", found=f"{kind}: {name}")
    return Foreign(dims, network)


def _nothing(*_: object) -> None:
    """In place of a warning."""


def _as_constant(network: nn.Module, name: str) -> None:
    """Hold a parameter that nobody trains as a buffer: it is read as before, and is none of the weights."""
    place, _, own = name.rpartition(".")
    module = network.get_submodule(place)
    value = getattr(module, own).detach()
    delattr(module, own)
    module.register_buffer(own, value)


def _as_linear(layer: Any) -> nn.Linear:
    """The same product with the weight as every other layer keeps it, (outputs, inputs): Conv1D has inputs first."""
    inputs, outputs = layer.weight.shape
    with torch.device("meta"):
        linear = nn.Linear(inputs, outputs)
    linear.weight = nn.Parameter(layer.weight.detach().t().contiguous())
    linear.bias = layer.bias
    return linear


def example(model: Foreign, batch: int = 1, length: int = 8, targets: int = 4) -> Batch:
    """A batch of zeros: `length` tokens and `targets` of an encoder-decoder, or images as large as the model's."""

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(batch, *shape, dtype=torch.int64)

    match model.task:
        case "causal-lm":
            return {"tokens": zeros(length)}
        case "encoder-decoder":
            return {"inputs": zeros(length), "targets": zeros(targets)}
        case "masked-lm":
            return {"inputs": zeros(length), "labels": zeros(length)}
        case "image-classification":
            part = vision(model.inner[0].config)
            side = image_side(part) or 1
            return {"images": zeros(side, side, part.num_channels).to(torch.uint8), "labels": zeros()}
