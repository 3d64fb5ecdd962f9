"""Which kernel ran, seen from outside: the operations torch dispatches, and on an accelerator its own kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = frozenset({"mm", "addmm", "linear", "_scaled_mm", "_semi_structured_linear", "_cslt_sparse_mm"})


def kernel_run(work: Callable[[], Tensor], dense: Callable[[], Tensor]) -> tuple[str, bool]:
    """What multiplied, and whether it was a sparse kernel.

    On a CPU it is one where a product was given its weight in a compressed layout and nothing was made dense before:
    torch has no dense way to multiply such a tensor. On CUDA the longest kernel must be one that the dense product
    does not run.

    Args:
        work: the product.
        dense: the dense product of the same matrices.

    Returns:
        Name of the kernel, and whether it is a sparse one.
    """
    with _Operations() as seen:
        on = work().device
    if on.type != "cuda":
        return seen.product, seen.compressed and not seen.made_dense
    kernels, others = _device_kernels(work), _device_kernels(dense)
    longest = max(kernels, key=lambda name: kernels[name], default=seen.product)
    return longest[:80], longest not in others


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operations that torch dispatches."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.product = ""
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
        if name in PRODUCTS:
            self.product = " ".join([f"aten::{name}", *(str(layout).removeprefix("torch.") for layout in layouts)])
            self.compressed |= bool(layouts)
        return func(*args, **(kwargs or {}))


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
