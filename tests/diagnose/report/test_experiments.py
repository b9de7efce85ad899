"""Figures of what checks measured: drawn from their evidence, left out without it."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.diagnosis import CheckResult
from diagnose.evidence import Evidence
from diagnose.report import charts
from diagnose.report.experiments import experiments, identical_pairs, ladder, memory, real_against_random, workers


def check(id: str, *evidence: Evidence) -> CheckResult:
    return CheckResult(id=id, status="pass", summary="", seconds=0, evidence=list(evidence))


def at(name: str, **places: float) -> list[Evidence]:
    return [Evidence(name=name, value=v, where=p.replace("_", " ")) for p, v in places.items()]


def test_no_check_no_figure(samples):
    assert experiments(samples.empty()) == []
    assert [e.title for e in experiments(samples.passing())] == ["Learning rates"]


def test_ladder_is_drawn_from_rungs_only(samples):
    drawn = ladder(samples.diagnosis(checks=[samples.ladder_check()]))
    assert "The configured rate is 0.003." in drawn.picture
    assert drawn.check == "learning-rate-ladder"
    assert ladder(samples.diagnosis(checks=samples.checks()[:2])) is None
    wheres = ("lr=1e-3", "lr=x", "lr=-1", "lr=nan", "lr=slice(1e-3)x", "layer")
    only = [Evidence(name="learned", value=0.5, where=w) for w in wheres]
    assert ladder(samples.diagnosis(checks=[check("x", *only)])) is None


def test_ladder_of_discriminative_rates(samples):
    rungs = [("slice(1e-05, 1e-03)", 0.2), ("slice(1e-04, 1e-02)", 0.9), ("slice(1e-01)", -math.inf)]
    evidence = [Evidence(name="learned", value=v, where=f"lr={r}") for r, v in rungs]
    evidence.append(Evidence(name="configured rate", value="slice(1e-04, 1e-02)"))
    drawn = ladder(samples.diagnosis(checks=[check("x", *evidence)])).picture
    assert "0.001: 0.20; 0.01: 0.90; 0.1: -inf. The configured rate is 0.01." in drawn
    assert drawn.count("<circle") == 2


def test_real_against_random_shows_all_three_curves(samples):
    random = check(
        "real-against-random",
        Evidence(name="loss on noise inputs", value=[0.7, 0.69, 0.71]),
        Evidence(name="loss on permuted labels", value=[0.7, 0.72, 0.68]),
    )
    drawn = real_against_random(samples.diagnosis(checks=[*samples.checks(), random]))
    assert drawn.legend == ["the real batch", "noise inputs", "permuted labels"]
    assert "noise inputs ends at 0.71; permuted labels ends at 0.68" in drawn.picture
    assert [k for k in ("c0", "c1", "c2", "c3") if f'class="line {k}"' in drawn.picture] == ["c0", "c1", "c2"]
    assert 'class="constant"' in drawn.picture
    alone = check("real-against-random", *random.evidence[:1])
    assert real_against_random(samples.diagnosis(checks=[alone])) is None


def test_identical_pairs_stand_below_different_ones(samples):
    pairs = check(
        "identical-pairs",
        *at("difference of identical images", train=0.0, eval=1e-6),
        *at("difference of different images", train=0.5, eval=0.4),
    )
    drawn = identical_pairs(samples.diagnosis(checks=[pairs])).picture
    assert "identical, train: 0; identical, eval: 1e-06; different, train: 0.5; different, eval: 0.4" in drawn
    ends = [float(x) for x in re.findall(r'<circle[^>]*cx="([\d.]+)"', drawn)]
    assert ends[0] < ends[1] < ends[3] < ends[2]


def test_memory_and_workers_by_setting(samples):
    measured = [
        check(
            "batch-memory", *at("memory", batch_size_16=22.5, batch_size_32=43.0), *at("free memory", **{"": 1650.4})
        ),
        check("loader-throughput", *at("items per second", **{"workers=0, pin_memory=off": 316.0, "workers=1": 82.0})),
    ]
    made = samples.diagnosis(checks=measured)
    assert "16: 22.5; 32: 43" in memory(made).picture
    assert "1,650 MiB were free" in memory(made).see
    assert ">workers=1<" in workers(made).picture  # there is no pinned memory to tell from
    assert [e.title for e in experiments(made)] == ["Memory by batch size", "Loader"]


any_value = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(st.tuples(st.text(max_size=40), any_value, st.integers(0, 99)), min_size=1, max_size=8), st.booleans())
def test_any_rows_can_be_drawn(values, logarithmic):
    drawn = charts.rows(values, "title", logarithmic, "label")
    assert not re.search(r'="[^"]*\b(nan|inf)\b[^"]*"', drawn.replace('aria-label="label"', ""))
    assert drawn.count("<circle") == sum(math.isfinite(v) for _, v, _ in values)


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-320, 1e308])
@pytest.mark.parametrize("logarithmic", [True, False])
def test_a_single_extreme_row_can_be_drawn(value, logarithmic):
    assert charts.rows([("a", value, 0)], "title", logarithmic, "label").count("<circle") == 1
