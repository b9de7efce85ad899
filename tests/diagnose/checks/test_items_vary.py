"""items-vary: items that differ pass; all alike, nearly alike or blank do not."""

import pytest
from data_subjects import digit, over
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import HEALTHY

from diagnose.checks import Evidence, EvidenceList

ID = "items-vary"
CHECK = check_of(ID)
NAMES = ["items read", "distinct items", "blank items", "first blank item", "variance between items / inside items"]


@pytest.mark.parametrize("name", ["digits", "diabetes", "probabilities"])
def test_healthy(name):
    assert judged(ID, HEALTHY[name]()).status == "pass"


def test_some_blank_tiles_pass():
    assert judged(ID, over(lambda i: (digit(i)[0] * (i % 4 > 0), digit(i)[1]))).status == "pass"


def test_all_alike_fails():
    status, summary = judged(ID, over(lambda i: (digit(3)[0], digit(i)[1])))
    assert status == "fail"
    assert "all 128 training items" in summary


def test_nearly_alike_warns():
    status, summary = judged(ID, over(lambda i: (digit(3)[0] + 1e-5 * digit(i)[0], digit(i)[1])))
    assert status == "warn"
    assert "1e-06" in summary


def test_mostly_blank_warns():
    status, summary = judged(ID, over(lambda i: (digit(i)[0] * (i % 4 == 0) + i * 1e-3 * (i % 4 > 0), digit(i)[1])))
    assert status == "warn"
    assert "96 of 128 training items are blank" in summary


def test_nan_does_not_pass():
    found = [("items read", 9), ("distinct items", 9), ("variance between items / inside items", float("nan"))]
    assert CHECK.judge(EvidenceList([Evidence(name=n, value=v) for n, v in found])).status == "warn"


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(CHECK.judge(evidence))
