"""`judge` is pure: it never raises, and NaN never passes. For every check that is found."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learners import digits

from diagnose import registry
from diagnose.checks import Check, EvidenceList
from diagnose.evidence import Evidence
from diagnose.examination import examine
from diagnose.subject import from_learner

CHECKS = registry.load_all("diagnose.checks", Check)


@pytest.fixture(scope="module")
def measured():
    "Evidence of a healthy subject, by check."
    return {c.id: EvidenceList(c.evidence) for c in examine(from_learner(digits()), budget=None).checks}


def test_a_healthy_subject_passes_and_old_evidence_is_judged_alike(measured):
    for id, evidence in measured.items():
        assert CHECKS[id].judge(evidence).status == "pass", id
        reread = EvidenceList(Evidence.model_validate_json(e.model_dump_json()) for e in evidence)
        assert CHECKS[id].judge(reread) == CHECKS[id].judge(evidence)


@pytest.mark.parametrize("id", CHECKS)
def test_no_evidence_is_no_pass(id):
    status, _ = CHECKS[id].judge(EvidenceList())
    assert status in ("pass", "warn", "fail", "skip")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_judges_never_raise(measured, data):
    id = data.draw(st.sampled_from(sorted(measured)))
    evidence = measured[id]
    changed = EvidenceList(
        e.model_copy(update={"value": data.draw(st.floats())}) if isinstance(e.value, float) else e
        for e in evidence
        if data.draw(st.booleans()) or not isinstance(e.value, float)
    )
    status, summary = CHECKS[id].judge(changed)
    assert status in ("pass", "warn", "fail", "skip")
    assert summary
