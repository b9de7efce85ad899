"""A comparison names what differs, says which way, and leaves out what only the clock decides."""

from __future__ import annotations

import json
import math

import pytest

from diagnose.diagnosis import CauseResult, CheckResult, Fix
from diagnose.evidence import Evidence
from diagnose.report.compare import Change, compare, sections


def check(status: str = "pass", id: str = "overfit-one-batch", **numbers) -> CheckResult:
    evidence = [Evidence(name=n, value=v) for n, v in numbers.items()]
    return CheckResult(id=id, status=status, summary="", seconds=1.0, evidence=evidence)


def cause(id: str, state: str) -> CauseResult:
    proven, refuted = state == "proven", state == "refuted"
    return CauseResult(
        id=id, score=0.9, proven=proven, refuted=refuted, summary="", fix=Fix(text="", code=""), where=[]
    )


def names(changes: list[Change]) -> list[str]:
    return [c.name for c in changes]


def test_a_run_differs_from_itself_in_nothing(made):
    found = compare(made, made)
    assert found.same
    assert not found.worse
    assert found.summary == "Nothing differs."
    assert {s.title for s in sections(found)} <= {"Causes"}


def test_any_two_runs_compare_both_ways_and_become_json(made, samples):
    for other in (samples.passing(), samples.hostile(), samples.empty()):
        for found in (compare(made, other), compare(other, made)):
            read = json.loads(found.to_json())
            assert read["worse"] is found.worse
            assert all(len(s.rows) <= 40 for s in sections(found))
            assert "\n" not in found.summary or "\n" in str(names(found.causes.new + found.causes.gone))


def test_a_run_that_became_ill(samples):
    found = compare(samples.passing(), samples.failing())
    assert (found.verdict.old, found.verdict.new, found.verdict.worse) == ("pass", "fail", True)
    assert Change(name="lr", old=0.003, new=30) in found.settings
    assert Change(name="hardened", old=True, new=None) in found.settings
    assert Change(name="optimizer", old="Adam, 2 groups, lr 0.003", new="Adam, 2 groups, lr 30") in found.settings
    assert names(found.causes.new) == ["lr-too-high", "output-collapse"]
    assert found.results[0] == Change(name="overfit-one-batch", old="pass", new="fail", worse=True)
    assert found.worse
    assert not found.same
    assert "The verdict was pass and is fail: 2 new causes (lr-too-high, output-collapse)" in found.summary


def test_the_other_way_round_it_got_well(samples):
    found = compare(samples.failing(), samples.passing())
    assert (found.verdict.worse, found.worse) == (False, False)
    assert names(found.causes.gone) == ["lr-too-high", "output-collapse"]
    assert {c.worse for c in found.causes.gone} == {False}


@pytest.mark.parametrize(
    ("old", "new", "kind", "worse"),
    [
        ("suspected", "proven", "same", True),
        ("proven", "suspected", "same", False),
        ("proven", "proven", "same", None),
        ("refuted", "proven", "new", True),
        ("refuted", "suspected", "new", None),
        ("proven", "refuted", "gone", False),
        ("suspected", "refuted", "gone", False),
    ],
)
def test_what_becomes_of_a_cause(samples, old, new, kind, worse):
    causes = compare(*(samples.diagnosis("fail", causes=[cause("x", s)]) for s in (old, new))).causes
    assert {k: names(getattr(causes, k)) for k in ("gone", "new", "same")} == {"gone": [], "new": [], "same": []} | {
        kind: ["x"]
    }
    assert getattr(causes, kind)[0].worse is worse


def test_a_cause_that_was_ruled_out_twice_is_no_change(samples):
    found = compare(*(samples.diagnosis(causes=[cause("x", "refuted")]) for _ in range(2)))
    assert found.same


@pytest.mark.parametrize(
    ("old", "new", "worse"),
    [("pass", "warn", True), ("warn", "fail", True), ("fail", "warn", False), ("pass", "skip", None)],
)
def test_a_status_says_which_way_unless_it_was_skipped(samples, old, new, worse):
    found = compare(*(samples.diagnosis(checks=[check(s)]) for s in (old, new)))
    assert found.results == [Change(name="overfit-one-batch", old=old, new=new, worse=worse)]
    assert found.worse is bool(worse)


def test_numbers_are_there_the_most_changed_first(samples):
    old = samples.diagnosis(checks=[check(learned=0.9, steps=50, same=1.0, nan=math.nan)])
    new = samples.diagnosis(checks=[check(learned=0.1, steps=60, same=1.0, nan=math.nan)])
    assert compare(old, new).results == [
        Change(name="overfit-one-batch: learned", old=0.9, new=0.1),
        Change(name="overfit-one-batch: steps", old=50, new=60),
    ]
    assert not compare(old, new).worse


def test_a_number_that_is_no_more_is_no_number_that_changed_and_one_that_is_not_finite_is_told(samples):
    old = samples.diagnosis(checks=[check(loss=0.5, gone=1.0)])
    new = samples.diagnosis(checks=[check(loss=math.nan, come=1.0)])
    (found,) = compare(old, new).results
    assert (found.name, found.old) == ("overfit-one-batch: loss", 0.5)
    assert math.isnan(found.new)


def test_of_five_hundred_layers_the_most_changed_stands(samples):
    def flow(factor):
        rows = [
            Evidence(name="gradient norm", value=1.0 + (factor if i == 7 else factor / 100) * i, where=f"layer {i}")
            for i in range(500)
        ]
        return samples.diagnosis(checks=[check(id="flow").model_copy(update={"evidence": rows})])

    (found,) = compare(flow(0.0), flow(5.0)).results
    assert found == Change(name="flow: gradient norm (layer 7, most of 499)", old=1.0, new=36.0)


def test_what_the_clock_and_the_machine_decide_is_no_change(samples):
    def timed(seconds):
        rows = [Evidence(name="step", value=seconds, unit=u) for u in ("s", "1/s", "MiB")]
        checks = [check().model_copy(update={"evidence": rows, "seconds": seconds})]
        room = f"7.6 GiB, {seconds} GiB free"
        return samples.diagnosis(checks=checks, seconds=seconds, environment={"memory": room, "device memory": room})

    assert compare(timed(1.0), timed(2.5)).same


def test_versions_seed_and_code_are_settings(samples):
    old = samples.diagnosis(environment={"torch": "2.8.0"}, seed=0)
    about = old.subject.model_copy(update={"fingerprint": "sha256:ffffffffffffffff"})
    new = samples.diagnosis(environment={"torch": "2.9.0"}, seed=1, subject=about)
    found = {c.name: (c.old, c.new) for c in compare(old, new).settings}
    assert found == {
        "torch": ("2.8.0", "2.9.0"),
        "seed": (0, 1),
        "fingerprint of code, settings and model": ("6f1c0a7d2be9", "ffffffffffff"),
    }


def test_a_setting_of_the_name_of_something_else_keeps_both(samples):
    old, new = (samples.diagnosis(seed=s, subject=samples.subject(settings={"seed": 7 + s})) for s in (0, 1))
    assert names(compare(old, new).settings) == ["seed", "seed (of the run)"]


def test_another_subject_and_an_interrupted_run_are_told(samples):
    other = samples.diagnosis(subject=samples.subject(name="rotate"))
    found = compare(samples.interrupted(), other)
    assert (found.subject.old, found.subject.new) == ("unmix", "rotate")
    assert found.partial
    assert not compare(other, other).partial


def test_a_table_says_how_much_it_leaves_out(samples):
    old, new = (samples.diagnosis(checks=[check(**{f"n{i}": i + f for i in range(60)})]) for f in (0, 1))
    (results,) = sections(compare(old, new))
    assert (results.title, len(results.rows), results.left_out) == ("Results", 40, 20)
    assert results.rows[0] == ("overfit-one-batch: n0", "0", "1")
