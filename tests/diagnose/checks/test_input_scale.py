"""input-scale: F25, raw bytes or unscaled columns into a net without a norm layer; healthy with one, or scaled."""

import pytest
import torch
from data_subjects import digit, over
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import HEALTHY
from torch import nn

from diagnose.checks import Evidence, EvidenceList
from diagnose.errors import NotApplicable

ID = "input-scale"
CHECK = check_of(ID)
NAMES = [
    *("largest mean", "largest standard deviation", "channels or columns", "worst channel or column"),
    "norm layers that ran",
]


def scaled(factor):
    return lambda i: (digit(i)[0] * factor, digit(i)[1])


def plain():
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))


class DividesItself(nn.Module):
    "Scales bytes inside the model."

    def __init__(self):
        super().__init__()
        self.net = plain()

    def forward(self, x):
        return self.net(x / 255)


@pytest.mark.parametrize("name", ["digits", "diabetes", "stop_gradient"])
def test_healthy(name):
    assert judged(ID, HEALTHY[name]()).status == "pass"


def test_model_that_scales_itself_passes():
    assert judged(ID, over(scaled(255), model=DividesItself())).status == "pass"


def test_f25_raw_bytes():
    status, summary = judged(ID, over(scaled(255), scaled(255), model=plain()))
    assert status == "warn"
    assert "at most 20" in summary
    assert "reaches 0" in summary
    status, summary = judged(ID, over(scaled(255), scaled(255)))
    assert status == "pass"
    assert "norm layers take the scale out" in summary
    assert judged(ID, over(scaled(1), model=plain())).status == "pass"


def test_one_unscaled_column():
    def read(i):
        return torch.tensor([i / 64 - 1, 1900.0 + i]), torch.tensor([i / 64 - 1])

    status, summary = judged(ID, over(read, read, nn.Linear(2, 1), nn.MSELoss()))
    assert status == "warn"
    assert "channel or column 1" in summary


def test_token_ids_have_no_scale():
    def read(i):
        return torch.tensor([i % 5, i % 3]), torch.tensor(i % 5)

    with pytest.raises(NotApplicable, match="no floating-point input"):
        judged(ID, over(read, read, nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(8, 5))))


def test_nan_does_not_pass():
    found = EvidenceList([Evidence(name="largest mean", value=float("nan"))])
    assert CHECK.judge(found).status == "warn"


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(CHECK.judge(evidence))
