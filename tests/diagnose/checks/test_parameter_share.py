"""parameter-share: shares of the parts that a person sees in the model."""

import math

from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import declared_freeze, digits, no_grad_body, softmax_and_nll
from torch import nn

from diagnose.checks import Evidence, EvidenceList

ID = "parameter-share"
NAMES = ["parameters", "parts", "share", "trainable share"]


def test_shares_are_stated():
    assert judged(ID, no_grad_body()).summary == "17,962 parameters: 96.4% in body (Sequential), 3.6% in head (Linear)"
    assert "34.1% in 0.1 (Sequential)" in judged(ID, softmax_and_nll()).summary
    assert "34.1% in 1 (Sequential), 1% of it trains" in judged(ID, declared_freeze()).summary
    one_layer = digits(model=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    assert judged(ID, one_layer).summary == "650 parameters: 100.0% in 1 (Linear)"


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(check_of(ID).judge(evidence))


def test_judge_of_numbers_alone():
    judge = check_of(ID).judge
    assert judge(EvidenceList()).status == "skip"
    assert judge(EvidenceList([Evidence(name="parameters", value=math.nan)])).status == "skip"
    assert judge(EvidenceList([Evidence(name="parameters", value=7)])).status == "pass"
