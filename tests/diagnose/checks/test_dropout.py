"""dropout: rates are listed, those above 0.8 are warned of."""

import math

import pytest
from fastai.text.models.awdlstm import AWD_LSTM
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged, measured
from learners import digits
from torch import nn

from diagnose.checks import Evidence, EvidenceList

ID = "dropout"
NAMES = ["drop-out layers", "rate"]


def test_rates_are_stated():
    assert judged(ID, digits(dropout=0.5)).summary == "1 drop-out layers, rate 0.5"
    assert judged(ID, digits()).summary == "no drop-out"


@pytest.mark.parametrize("rate", [0.9, 1.0])
def test_f28_high_rate_is_warned_of(rate):
    status, summary = judged(ID, digits(dropout=rate))
    assert status == "warn"
    assert f"drop-out of {rate} at 2.4" in summary


def test_rates_inside_layers_are_found():
    model = nn.ModuleList([nn.MultiheadAttention(8, 2, dropout=0.1), nn.LSTM(4, 4, 2, dropout=0.3), nn.Dropout2d(0.2)])
    assert [e.value for e in measured(ID, digits(model=model)).all("rate")] == [0.1, 0.3, 0.2]
    assert [e.value for e in measured(ID, digits(model=AWD_LSTM(20, 8, 8, 1))).all("rate")]


@given(evidence_of(NAMES))
def test_judge_never_raises_and_nan_never_passes(evidence):
    result = check_of(ID).judge(evidence)
    assert is_judgement(result)
    if any(isinstance(e.value, float) and math.isnan(e.value) for e in evidence.all("rate")):
        assert result.status != "pass"


def test_judge_of_numbers_alone():
    judge = check_of(ID).judge
    assert judge(EvidenceList()).status == "skip"
    layers = Evidence(name="drop-out layers", value=1)
    assert judge(EvidenceList([layers, Evidence(name="rate", value=math.nan)])).status == "warn"
    assert judge(EvidenceList([layers, Evidence(name="rate", value=0.8)])).status == "pass"
