from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from regime_cases import scores
from torch import Tensor

from sparsity_lab.pruning.scores import PRUNED, WeightStatistics, keyed_uniform, mark_pruned_, rule_of
from sparsity_lab.specs.regimes.scores import Fisher, Magnitude, Random, Saliency, Wanda

W = torch.tensor([[1.0, -2.0, 0.0], [0.5, 3.0, -4.0]])
G = torch.tensor([[-3.0, 0.5, 7.0], [2.0, 0.0, 1.0]])
X = torch.tensor([2.0, 1.0, 0.5])
EVIDENCE = WeightStatistics(gradient={"w": G}, fisher={"w": G.square()}, inputs={"w": X})
KEY = (0, 100, "w")


@pytest.mark.parametrize(
    ("spec", "needs", "expected"),
    [
        (Magnitude(), set(), [[1, 2, 0], [0.5, 3, 4]]),
        (Saliency(kind="saliency"), {"gradient"}, [[3, 1, 0], [1, 0, 4]]),
        (Fisher(kind="fisher"), {"fisher"}, [[4.5, 0.5, 0], [0.5, 0, 8]]),
        (Wanda(kind="wanda"), {"inputs"}, [[2, 2, 0], [1, 3, 2]]),
    ],
)
def test_scores_are_what_their_papers_say(
    spec: Magnitude | Saliency | Fisher | Wanda, needs: set[str], expected: list[list[float]]
) -> None:
    rule = rule_of(spec)
    assert rule.needs == needs
    assert rule.batches == getattr(spec, "batches", 1)
    assert torch.equal(rule.score(EVIDENCE.observation(W, KEY)), torch.tensor(expected))


def test_random_scores_depend_on_seed_step_and_name_and_nothing_else() -> None:
    rule = rule_of(Random(kind="random"))
    first = rule.score(WeightStatistics().observation(W, KEY))
    assert torch.equal(first, rule.score(EVIDENCE.observation(W + 1, KEY)))
    others = [(1, 100, "w"), (0, 101, "w"), (0, 100, "v")]
    assert not any(torch.equal(first, rule.score(WeightStatistics().observation(W, key))) for key in others)


def test_keyed_numbers_are_uniform_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    values = keyed_uniform(1, "a", shape=(400, 100), device=torch.device("cpu"))
    assert torch.equal(before, torch.get_rng_state())
    counts = torch.histc(values, 10, 0, 1) / values.numel()
    assert (counts - 0.1).abs().max() < 0.01
    assert 0 <= float(values.min()) <= float(values.max()) < 1


@given(scores(), st.data())
def test_pruned_units_rank_below_all_others(score: Tensor, data: st.DataObject) -> None:
    score = score.abs()
    bits = data.draw(st.lists(st.booleans(), min_size=score.numel(), max_size=score.numel()))
    kept = torch.tensor(bits).view(score.shape)
    marked = mark_pruned_(score.clone(), kept)
    assert torch.equal(marked[kept], score[kept])
    assert (marked[~kept] == PRUNED).all()
