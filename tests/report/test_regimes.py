"""The comparison of regimes in the report: names, tables, words, JSON and figures."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from decided import english
from synthetic_study import GRADUAL, make_record, make_study, runs_of

from sparsity_lab.messages import words_in
from sparsity_lab.report.build import build_report
from sparsity_lab.report.evidence import ReportInputs
from sparsity_lab.report.regimes import comparison_json, regime_tables, regimes_finding
from sparsity_lab.results.regimes import compare_grid, regime_name
from sparsity_lab.specs.regimes.allocations import Global
from sparsity_lab.specs.regimes.patterns import NofM
from sparsity_lab.specs.regimes.starts import DenseRun, WeightsFile
from sparsity_lab.specs.runs import FileOrigin, RunOrigin

N, D = 50_000, 524_288
OPEN = GRADUAL.model_copy(update={"pattern": NofM(kind="n:m", m=4)})
CLOSED = GRADUAL.model_copy(update={"pattern": NofM(kind="n:m", n=2, m=4)})
GLOBAL = GRADUAL.model_copy(update={"allocation": Global(kind="global")})
TRAINED = GRADUAL.model_copy(update={"start": DenseRun(kind="dense-run", times=4)})
ELSEWHERE = GRADUAL.model_copy(update={"start": WeightsFile(kind="safetensors", path="w.safetensors")})
REGIMES = {"gradual": GRADUAL, "n-m-4": OPEN, "global": GLOBAL, "pretrained": TRAINED, "file": ELSEWHERE}
DENSE_RUN = RunOrigin(run=make_record(N, 0.0, 4 * D).spec)


@pytest.fixture(scope="module")
def study():
    return replace(make_study(search=False), regimes=MappingProxyType(REGIMES))


@pytest.fixture(scope="module")
def records():
    def group(loss, regime=GRADUAL, sparsity=0.5, data=D, origin=None):
        rng = np.random.default_rng(round(1000 * loss))
        losses = loss + 0.003 * rng.standard_normal(3)
        how = {"regime": regime, "origin": origin}
        return [make_record(N, sparsity, data, seed=seed, loss=value, **how) for seed, value in enumerate(losses)]

    return [
        *group(2.3, sparsity=0.0),
        *group(2.1),
        *group(2.2, sparsity=0.75),
        *group(1.9, data=4 * D),
        *group(2.15, CLOSED),
        *group(3.5, GLOBAL),
        *group(2.0, origin=DENSE_RUN),
    ]


def test_a_run_is_known_by_what_its_regime_resolves_to_and_by_its_start(study):
    def name(**how):
        return regime_name(make_record(N, 0.5, D, **how), study)

    assert name() == "gradual"
    assert name(regime=CLOSED) == "n-m-4"
    assert name(regime=GLOBAL) == "global"
    assert name(origin=DENSE_RUN) == "pretrained"
    rounded = RunOrigin(run=DENSE_RUN.run.model_copy(update={"steps": DENSE_RUN.run.steps + 2}))
    assert name(origin=rounded) == "pretrained", "4 times a D that is half a step off"
    assert name(origin=FileOrigin(format="safetensors", sha256="a" * 64)) == "file"
    assert name(origin=FileOrigin(format="huggingface", sha256="a" * 64)) == "masked"
    assert name(origin=RunOrigin(run=make_record(N, 0.0, D).spec)) == "masked", "another length of pretraining"
    assert regime_name(make_record(N, 0.0, D), study) == "dense"


def test_tables_show_losses_gaps_and_matches(study, records):
    losses, gaps, matches = regime_tables(compare_grid(records, study))
    rows = {words_in()(row[0]): tuple(map(words_in(), row[1:])) for row in losses.rows}
    assert list(rows)[:2] == ["dense", "gradual"], "the yardsticks come first"
    assert rows["global"][1].startswith("+1.4")
    assert rows["global"][1].endswith("*")
    assert rows["n-m-4"][2:] == ("–", "–"), "not trained at 75 %"
    assert rows["pretrained (trained start)"][1].startswith("-0.")
    assert gaps.rows[0][:3] == ("2:4", "n-m-4", "50\N{NO-BREAK SPACE}%")
    assert matches.rows[0][0] == "pretrained"
    # from 2.1 at D to 1.9 at 4 D, straight on log-log axes: 2.0 is reached at about 4^.487 = 1.97
    assert float(matches.rows[0][5]) == pytest.approx(4 ** (np.log(2.1 / 2.0) / np.log(2.1 / 1.9)), rel=0.1)


def test_words_and_json_say_the_same(study, records):
    info = compare_grid(records, study)
    text = english(regimes_finding(info))
    assert "higher: n-m-4" in text
    assert "lower: pretrained" in text
    found = json.loads(json.dumps(comparison_json(info), allow_nan=False))
    here = [one for one in found["regimes"] if (one["sparsity"], one["data"]) == (0.5, D)]
    verdicts = {one["regime"]: one.get("verdict") for one in here}
    assert verdicts == {"gradual": None, "n-m-4": "higher", "global": "higher", "pretrained": "lower"}
    assert found["matches"][0]["status"] == "reached"


def test_a_report_of_several_regimes_has_their_figures_and_tables(study, records, tmp_path):
    grid = study.spec.grid.model_copy(update={"nonzero": (N,), "data": (D, 4 * D)})
    study = replace(study, spec=study.spec.model_copy(update={"grid": grid}))
    summary = build_report(ReportInputs(study, records, [], None, {}, {}, {}, runs_of(records)), tmp_path)
    names = {path.stem for path in summary.figures}
    assert {f"regimes-{N}-{D}", "trained-start"} <= names
    assert "training-curves-global" not in names, "too many regimes for one each"
    page = summary.index.read_text(encoding="utf-8")
    assert f'id="table-regimes-{N}-{D}"' in page
    assert 'id="finding-regimes"' in page


def test_one_regime_is_no_comparison():
    study = make_study(search=False)
    assert regime_tables(compare_grid([make_record(N, 0.5, D)], study)) == ()


def test_regimes_are_told_in_japanese_too(study, records):
    words, compared = words_in("ja"), compare_grid(records, study)
    finding = regimes_finding(compared)
    tables = regime_tables(compared)
    assert tables
    assert finding.sentences
    for text in (finding.title, *finding.sentences, *(text for one in tables for text in (one.caption, *one.head))):
        assert not re.search(r"[a-z]{2,} [a-z]{2,}", words(text)), text
    for cell in (cell for one in tables for row in one.rows for cell in row):
        assert not re.search(r"[a-z]{2,} [a-z]{2,}", words(cell)), cell
