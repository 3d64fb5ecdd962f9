"""Formats: the built-in ones, the guide's, and ones that break each promise."""

# ruff: noqa: ARG002 - the interface has the argument
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from sparsity_lab.errors import SpecError
from sparsity_lab.hardware import layouts
from sparsity_lab.hardware.conformance import check_format
from sparsity_lab.hardware.formats import LaidOut, by_compressed, laid_out, works_here, zeros_anywhere
from sparsity_lab.hardware.kernel_probe import csr_library
from sparsity_lab.hardware.layouts import ByElement, Format, format_named, sparse_formats
from sparsity_lab.hardware.profile import inference_ratio
from sparsity_lab.hardware.serving import format_bytes
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.specs import hardware
from sparsity_lab.specs.hardware import FORMATS, HardwareProfile, ProductFormat, ProductType
from sparsity_lab.specs.regimes.patterns import MatrixShape
from sparsity_lab.stages.measure import measure_shapes
from sparsity_lab.stages.measure_plan import MeasureRequest

GUIDE = Path(__file__).parents[2] / "docs" / "plugins.md"
CPU = torch.device("cpu")


class Narrow(ByElement):
    """What a broken format differs from."""

    dtypes: tuple[ProductType, ...] = ("float32",)


class Wrong(Narrow):
    def lay_out(self, weight_OI: Tensor, kernel: str) -> LaidOut:
        return by_compressed((2 * weight_OI).to_sparse_csr())


class InFull(Narrow):
    def lay_out(self, weight_OI: Tensor, kernel: str) -> LaidOut:
        return LaidOut(lambda x_RI: x_RI @ weight_OI.to_sparse_csr().to_dense().t(), (weight_OI.to_sparse_csr(),))


class Unseen(Narrow):
    def lay_out(self, weight_OI: Tensor, kernel: str) -> LaidOut:
        one = by_compressed(weight_OI.to_sparse_csr())
        return LaidOut(lambda x_RI: (x_RI[:, None] * weight_OI).sum(-1), one.held)


class TooFewBytes(Narrow):
    def stored(self, width: float, sparsity: FloatArray) -> FloatArray:
        return (1 - sparsity) * width / 2


class TooManyBytes(Narrow):
    def stored(self, width: float, sparsity: FloatArray) -> FloatArray:
        return (1 - sparsity) * (width + 100)


class GrowingBytes(Narrow):
    def stored(self, width: float, sparsity: FloatArray) -> FloatArray:
        return width * (1 + sparsity)


class OtherZeros(Narrow):
    def mask(self, shape: MatrixShape, sparsity: float) -> Tensor:
        return zeros_anywhere(shape, sparsity / 2)


class Restless(Narrow):
    def mask(self, shape: MatrixShape, sparsity: float) -> Tensor:
        return super().mask(shape, sparsity).flatten()[torch.randperm(shape[0] * shape[1])].view(shape)


class TakesAll(Narrow):
    sparsity = 0.5


class Nowhere(Narrow):
    def lay_out(self, weight_OI: Tensor, kernel: str) -> LaidOut:
        raise KeyError("no library")


class Typeless(Narrow):
    dtypes = ()


class ChangesInput(Narrow):
    def lay_out(self, weight_OI: Tensor, kernel: str) -> LaidOut:
        one = by_compressed(weight_OI.to_sparse_csr())
        return LaidOut(lambda x_RI: one(x_RI.mul_(-1)).neg(), one.held)


BROKEN = {
    Wrong: "are off by",
    InFull: "dense kernel",
    Unseen: "no kernel was seen",
    TooFewBytes: "bytes of values",
    TooManyBytes: "and holds",
    GrowingBytes: "more zeros must not take more",
    OtherZeros: "a mask of 0.5 zeros has 0.25",
    Restless: "two calls must draw the same mask",
    TakesAll: "another sparsity than its own",
    Nowhere: "nothing of it works on cpu",
    Typeless: "must multiply some type",
    ChangesInput: "must not change what it is given",
}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The guide's formats and broken ones, as installed packages have them."""
    code = re.search(r"```python\n# sparsity_extra_formats.py\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert code is not None
    (tmp_path / "sparsity_extra_formats.py").write_text(code[1])
    monkeypatch.syspath_prepend(tmp_path)
    values = {"6:8": "sparsity_extra_formats:SixOfEight", "columns": "sparsity_extra_formats:Columns"}
    values |= {one.__name__: f"{__name__}:{one.__name__}" for one in BROKEN}
    values |= {"none": "pathlib:Path", "gone": "no_such_module:Format"}
    entries = {name: EntryPoint(name, value, hardware.FORMAT_PLUGINS) for name, value in values.items()}
    found: Mapping[str, EntryPoint] = entries
    monkeypatch.setattr(hardware, "_entries", lambda _: found)
    format_named.cache_clear()
    yield
    format_named.cache_clear()


@pytest.mark.parametrize("name", FORMATS)
def test_the_built_in_formats_keep_their_promises(name: ProductFormat) -> None:
    check_format(name)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["6:8", "columns"])
def test_the_guides_formats_keep_them_too(name: ProductFormat) -> None:
    check_format(name)
    assert works_here(name, CPU) == "multiplied"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("broken", "promise"), [(one.__name__, promise) for one, promise in BROKEN.items()])
def test_every_broken_promise_is_seen(broken: str, promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_format(broken)


def test_an_operation_of_its_own_is_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    library = torch.library.Library("sparsity_extra_tests", "DEF")  # type: ignore[no-untyped-call]
    library.define("product(Tensor x, Tensor w) -> Tensor")  # type: ignore[no-untyped-call]
    library.impl("product", lambda x, w: (x[:, None] * w).sum(-1), "CPU")  # type: ignore[no-untyped-call]

    class Own(Narrow):
        operations = frozenset({"sparsity_extra_tests::product"})

        def lay_out(self, weight_OI: Tensor, kernel: str) -> LaidOut:
            product = torch.ops.sparsity_extra_tests.product
            return LaidOut(lambda x_RI: product(x_RI, weight_OI), (weight_OI.to_sparse_csr(),))

    monkeypatch.setitem(layouts.BUILT_IN, "own", Own)
    check_format("own")
    monkeypatch.setattr(Own, "operations", frozenset())
    with pytest.raises(AssertionError, match="no kernel was seen"):
        check_format("own")
    format_named.cache_clear()


@pytest.mark.usefixtures("installed")
def test_measured_by_name_known_to_profiles_and_to_their_questions(tmp_path: Path) -> None:
    asked = MeasureRequest(shapes="64x64", formats=("6:8", "columns"), batches=(8,), sparsities=(0.5, 0.9), seconds=2)
    profile = measure_shapes(tmp_path, asked).profile
    read = HardwareProfile.model_validate_json(profile.model_dump_json())
    levels = {(one.format, one.sparsity) for one in read.sparse_products}
    assert levels == {("6:8", 0.25), ("columns", 0.5), ("columns", 0.9)}
    assert {"6:8 at 50 %, 90 %: the format has 25 % zeros"} == {one for one in read.skipped if "6:8 at" in one}
    assert inference_ratio(read, "6:8").sparsity[-1] == pytest.approx(0.25)
    assert set(sparse_formats()) > {"6:8", "columns", "csr"}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["none", "gone", "nothing"])
def test_what_is_no_format_is_refused_by_name(name: str) -> None:
    with pytest.raises(SpecError, match=name):
        format_named(name)


def test_a_file_that_names_a_format_of_no_package_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match=r"no such format of weights here, expected one of dense, csr, bsr, 2:4"):
        TypeAdapter(ProductFormat).validate_python("6:8")


@pytest.mark.parametrize("name", FORMATS)
@given(low=st.floats(0, 0.99), high=st.floats(0, 0.99), width=st.sampled_from([8.0, 4.0, 2.0, 1.0, 0.5]))
def test_more_zeros_never_take_more_bytes(name: ProductFormat, low: float, high: float, width: float) -> None:
    few, many = format_bytes(name, width, np.sort(np.array([low, high])))
    assert many <= few


@pytest.mark.parametrize(("name", "said"), [("2:4", "needs a CUDA device"), ("csr", "needs float32 or float64 or")])
def test_what_it_does_not_name_is_refused_before_it_is_called(
    name: ProductFormat, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    monkeypatch.setattr(type(format_named(name)), "lay_out", lambda *one: called.append(one))
    with pytest.raises(Exception, match=said):
        laid_out(torch.ones(8, 8).to(torch.float8_e4m3fn), name)
    assert not called


def test_a_format_of_nothing_says_that_it_lacks_everything() -> None:
    bare = Format()
    for ask in (lambda: bare.stored(2.0, np.zeros(1)), lambda: bare.mask((8, 8), 0.5)):
        with pytest.raises(NotImplementedError):
            ask()


@pytest.mark.parametrize(
    ("device", "built_with_it", "library"),
    [("cpu", True, "oneMKL"), ("cpu", False, "torch"), ("cuda", True, "cuSPARSE")],
)
def test_the_library_of_torchs_layouts_is_named(
    monkeypatch: pytest.MonkeyPatch, device: str, built_with_it: bool, library: str
) -> None:
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: built_with_it)
    assert csr_library(torch.device(device)) == library
