"""Which kernel ran, seen from outside: the operations torch dispatches, and on an accelerator its own kernels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = frozenset({"mm", "addmm", "linear", "_scaled_mm", "_int_mm", "_semi_structured_linear", "_cslt_sparse_mm"})


def kernel_run(work: Callable[[], Tensor], dense: Callable[[], Tensor], own: Collection[str] = ()) -> tuple[str, bool]:
    """What multiplied, and whether it was a sparse kernel.

    On a CPU it is one where a product was given its weight in a compressed layout (torch has no dense way to multiply
    such a tensor), where an operation of the format's own ran, or where fewer numbers were multiplied than in the dense
    product; and nothing was made dense before. On CUDA the longest kernel must be one that the dense product does not
    run.

    Args:
        work: the product.
        dense: the dense product of the same matrices.
        own: operations that are kernels of the format's own, as `namespace::name`.

    Returns:
        Name of the kernel, and whether it is a sparse one.
    """
    with _Operations(own) as seen:
        on = work().device
    if on.type != "cuda":
        sparse = not seen.made_dense and (seen.compressed or _fewer(seen.multiplied, dense))
        return seen.product, sparse
    kernels, others = _device_kernels(work), _device_kernels(dense)
    longest = max(kernels, key=lambda name: kernels[name], default=seen.product)
    return longest[:80], longest not in others


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operations that torch dispatches."""

    def __init__(self, own: Collection[str] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.own = own
        self.product = ""
        self.multiplied = 0
        self.compressed = self.made_dense = False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Note one operation and run it."""
        name = func.overloadpacket.__name__
        self.made_dense |= "to_dense" in name
        layouts = [arg.layout for arg in args if isinstance(arg, Tensor) and arg.layout != torch.strided]
        full = func.overloadpacket._qualified_op_name  # noqa: SLF001 - torch has no public name for it
        if full in self.own:
            self.product, self.compressed = full, True
        elif name in PRODUCTS:
            self.product = " ".join([f"aten::{name}", *(str(layout).removeprefix("torch.") for layout in layouts)])
            self.compressed |= bool(layouts)
            self.multiplied += _multiplications(name, args)
        return func(*args, **(kwargs or {}))


def capability_of(device: torch.device) -> tuple[int, int] | None:
    """Of a CUDA device, as torch tells it; None for others."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None


def gpu_uuid(device: torch.device) -> str:
    """Of a CUDA device, as its driver names it."""
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"


def _fewer(multiplied: int, dense: Callable[[], Tensor]) -> bool:
    """Whether some numbers were multiplied, and fewer than the dense product multiplies."""
    full = _Operations()
    with full:
        dense()
    return 0 < multiplied < full.multiplied


def _multiplications(name: str, args: tuple[Any, ...]) -> int:
    """Of a product of matrices that lie in full; 0 of others."""
    found = [arg for arg in args if isinstance(arg, Tensor) and arg.ndim == 2 and arg.layout == torch.strided]
    if name in {"mm", "addmm"} and len(found) >= 2:
        left, right = found[-2:]
        return left.shape[0] * left.shape[1] * right.shape[1]
    return 0


def _device_kernels(work: Callable[[], Tensor]) -> dict[str, float]:
    """Time of each kernel of the accelerator, by name."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        work()
        torch.cuda.synchronize()
    times: dict[str, float] = {}
    for event in profile.events():
        if event.device_type == torch.profiler.DeviceType.CUDA:
            times[event.name] = times.get(event.name, 0.0) + event.device_time_total
    return times


def csr_library(device: torch.device) -> str:
    """The library that multiplies torch's own sparse layouts, csr and bsr, on a device."""
    if device.type != "cpu":
        return "cuSPARSE"
    return "oneMKL" if torch.backends.mkl.is_available() else "torch"  # type: ignore[no-untyped-call]
