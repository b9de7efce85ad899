"""What arrived of a state dict is judged from its numbers: all, a part, nothing, or nothing asked for."""

import pytest
from hypothesis import given
from judging import check_of, evidence_of, is_judgement
from learners import digits
from naming import built

from diagnose.checks import Evidence, EvidenceList
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.subject import from_learner

ID = "weights-loaded"
NAMES = ["tensors offered", "arrived", "would arrive under another prefix", "was loaded", "lost"]


def numbers(*values, where="w.pth into Net"):
    return EvidenceList(Evidence(name=n, value=v, where=where) for n, v in zip(NAMES, values, strict=True))


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ((12, 12, 0, True, False), "pass"),
        ((12, 10, 0, True, False), "pass"),
        ((12, 2, 10, True, True), "warn"),
        ((12, 0, 12, False, True), "warn"),
        ((12, 0, 12, True, True), "fail"),
        ((12, 0, 0, True, True), "fail"),
        ((12, float("nan"), 0, True, False), "fail"),
    ],
)
def test_judged_from_numbers_alone(values, status):
    assert check_of(ID).judge(numbers(*values)).status == status


def test_one_lost_load_among_good_ones_is_told():
    both = EvidenceList([*numbers(12, 12, 0, True, False), *numbers(7, 0, 7, True, True, where="head.pth into Net")])
    judged = check_of(ID).judge(both)
    assert judged.status == "fail"
    assert judged.summary == "head.pth into Net: 0 of 7 tensors arrived; 7 would under another prefix"


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(check_of(ID).judge(evidence))


@pytest.mark.parametrize(("subject", "told"), [(from_learner, "nobody saw"), (None, "no weights were loaded")])
def test_where_nothing_is_known_or_nothing_was_loaded_it_is_skipped(subject, told):
    subject = subject(digits(0)) if subject else built(lambda: digits(0))
    with pytest.raises(NotApplicable, match=told):
        check_of(ID).measure(Lab(subject, 0))
