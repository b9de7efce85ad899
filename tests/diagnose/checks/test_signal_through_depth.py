"""signal-through-depth: a net of many layers with weights that are too small."""

import pytest
import torch
from judging import judge_never_raises, judged, measured, nan_never_passes
from learners import digits
from torch import nn

ID = "signal-through-depth"


def deep(gain, layers=12):
    blocks = [nn.Flatten(), nn.Linear(64, 32)]
    for _ in range(layers):
        blocks += [nn.ReLU(), nn.Linear(32, 32)]
    model = nn.Sequential(*blocks, nn.ReLU(), nn.Linear(32, 10))
    with torch.no_grad():
        for m in model:
            if isinstance(m, nn.Linear):
                nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
                m.weight.mul_(gain)
                m.bias.zero_()
    return digits(model=model)


def test_deep_net_with_the_right_gain():
    assert judged(ID, deep(1.0)).status == "pass"


@pytest.mark.parametrize("gain", [0.2, 5.0])
def test_deep_net_with_the_wrong_gain(gain):
    status, summary = judged(ID, deep(gain))
    assert status == "warn"
    assert "at most 1e+06" in summary


def test_judge():
    evidence = measured(ID, digits())
    judge_never_raises(ID, evidence)
    nan_never_passes(ID, evidence)
