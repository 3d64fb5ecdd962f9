"""A target of dense prunable weights becomes a shape that meets it, scales smoothly and is the paper's where asked."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import SPAN, family
from pydantic import ValidationError

from sparsity_lab.errors import SpecError
from sparsity_lab.models.count import paper_count, prunable_count
from sparsity_lab.models.dims import TOLERANCE, resolve_dims
from sparsity_lab.specs.datasets import Classification, SpanCorruption, noise_counts, span_corruption_lengths
from sparsity_lab.specs.models import T5Dims, T5Spec

FAMILIES = st.sampled_from(["t5", "vit", "decoder"])
TARGETS = st.floats(math.log(2e4), math.log(1e9)).map(math.exp)


def depth(dims):
    return dims.encoder_layers if isinstance(dims, T5Dims) else dims.layers


RULES = st.fixed_dictionaries(
    {
        "layers": st.sampled_from([(2,), (1, 3), (6, 12)]),
        "ff_ratio": st.sampled_from([1.5, 2.0, 8 / 3, 4.0]),
        "width_multiple": st.sampled_from([8, 16]),
        "ff_multiple": st.sampled_from([4, 8]),
        "head_width": st.sampled_from([8, 16, 64]),
    }
)


@settings(max_examples=300, deadline=None)
@given(FAMILIES, TARGETS, RULES)
def test_a_reached_target_is_met_within_three_percent_and_every_multiple_holds(name, target, rule):
    model, shape, objective = family(name, **rule)
    try:
        dims = resolve_dims(model, target, shape, objective)
    except SpecError:
        assert target < 400 * max(rule["layers"]) * rule["width_multiple"] ** 2  # shapes of few multiples leave gaps
        return
    assert abs(prunable_count(dims) / target - 1) <= TOLERANCE
    assert dims.width % rule["width_multiple"] == 0
    assert dims.ff % rule["ff_multiple"] == 0
    assert depth(dims) in rule["layers"]
    assert dims.width % dims.heads == 0
    step = 2 if name == "decoder" else 1  # rotary positions pair the entries of a head
    heads = [dims.width // width for width in range(step, dims.width + 1, step) if dims.width % width == 0]
    nearest = min(abs(h - dims.width / rule["head_width"]) for h in heads)
    assert abs(dims.heads - dims.width / rule["head_width"]) == pytest.approx(nearest)
    assert 1 / 3.2 < dims.ff / (rule["ff_ratio"] * dims.width) < 3.2


@settings(max_examples=200, deadline=None)
@given(FAMILIES, st.floats(math.log(3e4), math.log(1e9)).map(math.exp))
def test_default_rule_reaches_every_target_within_one_percent_once_widths_are_not_tiny(name, target):
    model, shape, objective = family(name)
    dims = resolve_dims(model, target, shape, objective)
    assert abs(prunable_count(dims) / target - 1) < (0.01 if dims.width >= 72 else TOLERANCE)
    if dims.width >= 72:
        assert abs(math.log(dims.ff / (2 * dims.width))) < 0.25


@settings(max_examples=200, deadline=None)
@given(FAMILIES, TARGETS, st.floats(1.0, 4.0))
def test_a_larger_target_never_gives_a_narrower_model_of_the_same_depth(name, target, factor):
    model, shape, objective = family(name)
    small, large = (resolve_dims(model, t, shape, objective) for t in (target, target * max(factor, 1.3)))
    assert small.width <= large.width
    double = resolve_dims(model, 2 * target, shape, objective)
    assert small.width < double.width <= 2 * small.width


@pytest.mark.parametrize("nonzero", [1327104, 5308416, 21233664, 84934656])
@pytest.mark.parametrize("sparsity", [0, 0.5, 0.75, 0.875])
def test_paper_rule_gives_t5_grid_exactly(nonzero, sparsity):
    model, shape, objective = family("t5", layers=(6, 12), ff_ratio=8 / 3, size="twelve_d_squared", head_width=64)
    dims = resolve_dims(model, nonzero / (1 - sparsity), shape, objective)
    assert isinstance(dims, T5Dims)
    assert paper_count(dims) * (1 - sparsity) == nonzero
    assert dims.encoder_layers == dims.decoder_layers
    assert 3 * dims.ff == 8 * dims.width
    assert dims.width % 96 == 0


@pytest.mark.parametrize("power", range(9))
def test_paper_rule_gives_vit_scales_exactly(power):
    model, shape, objective = family("vit", layers=(6, 12), ff_ratio=4.0, size="twelve_d_squared", head_width=64)
    dims = resolve_dims(model, 663552 * 2**power, shape, objective)
    assert paper_count(dims) == prunable_count(dims) == 663552 * 2**power
    assert dims.ff == 4 * dims.width


def test_paper_rule_gives_t5_base():
    model, shape, objective = family("t5", layers=(6, 12), ff_ratio=8 / 3, size="twelve_d_squared", head_width=64)
    dims = resolve_dims(model, 2 * 84934656, shape, objective)
    assert (dims.width, dims.encoder_layers, dims.heads, dims.ff) == (768, 12, 12, 2048)


def test_equally_good_depths_give_the_shallowest():
    model, shape, objective = family("decoder", layers=(4, 2))
    assert depth(resolve_dims(model, 1e6, shape, objective)) == 2


def test_an_unreachable_target_names_it_and_its_neighbours():
    model, shape, objective = family("t5", layers=(1,), width_multiple=64)
    with pytest.raises(SpecError, match=r"3%.* of 20,000 .*nearest reachable sizes are [\d,]+$"):
        resolve_dims(model, 20_000, shape, objective)
    model, shape, objective = family("vit", layers=(12,), ff_ratio=4.0, size="twelve_d_squared", width_multiple=64)
    with pytest.raises(SpecError, match=r"589,824 and 2,359,296"):
        resolve_dims(model, 1_000_000, shape, objective)


def test_an_odd_head_is_refused_for_rotary_positions():
    model, shape, objective = family("decoder", width_multiple=3, head_width=3, layers=(2,))
    dims = resolve_dims(model, 60_000, shape, objective)
    assert (dims.width // dims.heads) % 2 == 0


def test_family_objective_data_and_patch_must_agree():
    t5, text, _ = family("t5")
    vit, images, _ = family("vit")
    with pytest.raises(SpecError, match=r"objective.*classification.*span-corruption"):
        resolve_dims(t5, 1e5, text, Classification(kind="classification"))
    with pytest.raises(SpecError, match=r"dataset.*t5.*images.*text"):
        resolve_dims(t5, 1e5, images, SPAN)
    with pytest.raises(SpecError, match=r"patch.*24.*5"):
        resolve_dims(vit.model_copy(update={"patch": 5}), 1e5, images, Classification(kind="classification"))


def test_planning_needs_no_torch():
    code = "import sys, sparsity_lab.models.dims, sparsity_lab.models.count; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@settings(max_examples=200, deadline=None)
@given(st.integers(3, 600), st.floats(0.01, 0.9), st.floats(1, 10))
def test_raw_length_is_the_largest_whose_inputs_fit(input_length, density, span):
    objective = SpanCorruption(kind="span-corruption", input_length=input_length, noise_density=density, mean_span=span)
    raw, targets = span_corruption_lengths(objective)
    noise, spans = noise_counts(objective, raw)
    assert raw - noise + spans + 1 <= input_length
    assert targets == noise + spans + 1
    assert 1 <= spans <= min(noise, raw - noise)
    more_noise, more_spans = noise_counts(objective, raw + 1)
    assert raw + 1 - more_noise + more_spans + 1 > input_length


def test_t5_own_lengths():
    assert span_corruption_lengths(SpanCorruption(kind="span-corruption", input_length=512)) == (568, 114)


@pytest.mark.parametrize(("buckets", "distance"), [(3, 128), (32, 16)])
def test_buckets_that_leave_no_room_for_distances_are_refused(buckets, distance):
    with pytest.raises(ValidationError, match="relative_"):
        T5Spec(version=1, family="t5", relative_buckets=buckets, relative_distance=distance)
