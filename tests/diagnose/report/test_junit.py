"""JUnit XML: valid, in agreement with the exit code, and whatever a name holds it stays XML."""

from __future__ import annotations

import re
from xml.etree import ElementTree as xml

import pytest

from diagnose.report import junit

SUITE = {"name", "tests", "failures", "errors", "skipped", "time"}
OUTCOMES = {"failure": {"type", "message"}, "error": {"type", "message"}, "skipped": {"type", "message"}}


def read(made) -> tuple[xml.Element, dict[str, xml.Element]]:
    root = xml.fromstring(junit.render(made).encode())
    return root, {f"{c.get('classname')}.{c.get('name')}": c for c in root.iter("testcase")}


def test_what_the_schema_of_jenkins_asks_for(made):
    """junit-10.xsd of the xUnit plugin, by hand: order, attributes, no unknown ones; and counts that add up."""
    root, _ = read(made)
    assert (root.tag, set(root.attrib)) == ("testsuites", {"name", "tests", "failures", "errors", "time"})
    (suite,) = root
    assert (suite.tag, set(suite.attrib)) == ("testsuite", SUITE)
    assert re.fullmatch(r"\d*\.\d{3}", suite.get("time"))
    properties, *cases = suite
    assert properties.tag == "properties"
    assert all(p.tag == "property" and set(p.attrib) == {"name", "value"} for p in properties)
    for case in cases:
        assert (case.tag, set(case.attrib)) == ("testcase", {"classname", "name", "time"})
        assert case.get("name")
        assert len(case) <= 1
        for outcome in case:
            assert set(outcome.attrib) == OUTCOMES.get(outcome.tag, set())
            assert outcome.tag in {*OUTCOMES, "system-out"}
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.get(name)) == sum(1 for c in cases for o in c if o.tag == tag)
    assert int(suite.get("tests")) == len(cases)


def test_it_fails_exactly_where_the_verdict_does(made):
    suite = read(made)[0][0]
    assert (int(suite.get("failures")) > 0) == (made.verdict == "fail")
    assert (int(suite.get("errors")) > 0) == made.partial


def test_no_control_character_and_no_direction_override_is_left(made):
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff]", junit.render(made))


def test_a_failing_run_says_cause_proof_fix_and_numbers(samples):
    _, cases = read(samples.failing())
    assert set(cases) == {
        *(f"diagnose.unmix.check.{c.id}" for c in samples.failing().checks),
        "diagnose.unmix.cause.lr-too-high",
        "diagnose.unmix.check.random-labels",
    }
    failure = cases["diagnose.unmix.cause.lr-too-high"].find("failure")
    assert failure.get("message") == "The learning rate 30 is too high: the same batch is learned at 0.003."
    for said in (
        failure.get("message"),
        "where: optimizer group 0, optimizer group 1",
        "as it is: learned 0.00; The loss leaves 0.71 upwards",
        "with the change: learned 0.95; The loss falls",
        "learn.fit_one_cycle(10, lr_max=3e-3)  # was 30",
    ):
        assert said in failure.text
    failure = cases["diagnose.unmix.check.learning-rate-ladder"].find("failure")
    assert "learned (lr=3e-03): 0.97 share, expected >= 0.8 at the configured rate" in failure.text
    assert cases["diagnose.unmix.check.overfit-one-batch"].get("time") == "9.740"
    assert (
        cases["diagnose.unmix.check.random-labels"].find("skipped").get("message") == "the budget of 60 s was used up"
    )
    assert len(cases["diagnose.unmix.check.gradient-flow"]) == 0


def test_a_warning_passes_and_says_so(samples):
    root, cases = read(samples.warning())
    assert root[0].get("failures") == "0"
    said = cases["diagnose.unmix.check.initial-loss"].find("system-out").text
    assert said.startswith("warning: The first loss is 0.741")
    assert "expected <= 1.1 x 0.637" in said


def test_a_failed_check_or_a_proven_cause_without_the_verdict_fail_breaks_no_build(samples):
    failed = samples.ladder_check(30.0, "fail")
    root, cases = read(samples.diagnosis("warn", checks=[failed], causes=[samples.lr_too_high()]))
    assert root[0].get("failures") == "0"
    assert cases["diagnose.unmix.check.learning-rate-ladder"].find("system-out").text.startswith("failed, which alone")
    assert cases["diagnose.unmix.cause.lr-too-high"].find("system-out").text.startswith("proven: The learning rate")


def test_a_verdict_that_no_check_explains_is_a_failure_of_its_own(samples):
    made = samples.diagnosis("fail", checks=[], causes=[], summary="Its own code raised while fitting.")
    _, cases = read(made)
    (failure,) = cases["diagnose.unmix.examination.verdict"]
    assert failure.get("message") == "Its own code raised while fitting."


def test_a_cause_that_was_not_examined_is_told_from_a_check(samples):
    made = samples.failing()
    unchecked = [samples.Unchecked(id=id, reason="no time") for id in ("lr-too-low", "random-labels")]
    _, cases = read(made.model_copy(update={"unchecked": unchecked}))
    assert {"diagnose.unmix.cause.lr-too-low", "diagnose.unmix.check.random-labels"} < set(cases)


@pytest.mark.parametrize("text", ["a\x00b\x1b[31m", "]]>", "<x/>&amp;", "\ufffe\uffff", "line\nbreak", '"', "🧪"])
def test_any_text_comes_back_from_the_file(samples, text):
    check = samples.checks()[0].model_copy(update={"id": text, "summary": text, "status": "fail"})
    made = samples.diagnosis("fail", checks=[check], subject=samples.subject(name=f"v1.2 {text}"))
    root, _ = read(made)
    case = root.find(".//testcase")
    kept = re.sub("[\x00\x1b\ufffe\uffff]", "\ufffd", text)
    assert case.get("name") == kept
    assert case.find("failure").get("message") == kept
    assert case.get("classname") == f"diagnose.v1-2 {kept}.check"


def test_a_text_without_end_is_cut(samples):
    check = samples.checks()[0].model_copy(update={"summary": "x" * 10**6, "status": "fail"})
    assert len(junit.render(samples.diagnosis("fail", checks=[check]))) < 5 * junit.LONGEST
