"""activations: F2, a last activation that is saturated from the start; dead and saturated layers."""

import pytest
import torch
from judging import judge_never_raises, judged, measured, nan_never_passes
from learners import digits, probabilities, small_cnn
from torch import nn

ID = "activations"


class SaturatedSigmoid(nn.Module):
    "A dot product of unscaled features, some thousands, put into a sigmoid."

    def __init__(self, scale):
        super().__init__()
        self.body, self.scale = small_cnn(2), scale

    def forward(self, x):
        return torch.sigmoid((self.body(x).abs() + 1) * self.scale)


def bounded(scale):
    learn = probabilities()
    learn.model = SaturatedSigmoid(scale)
    return learn


def linear_net(activation, bias=0.0, gain=1.0):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), activation, nn.Linear(32, 10))
    with torch.no_grad():
        model[1].bias.add_(bias)
        model[1].weight.mul_(gain)
    return digits(model=model)


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.Hardtanh()])
def test_healthy_activations(activation):
    assert judged(ID, linear_net(activation)).status == "pass"


def test_f2_saturated_outputs_without_gradient():
    status, summary = judged(ID, bounded(2000.0))
    assert status == "fail"
    assert "100 % of the outputs" in summary
    assert "exactly 0" in summary
    assert judged(ID, bounded(1.0)).status == "pass"


def test_dead_layer():
    status, summary = judged(ID, linear_net(nn.ReLU(), bias=-100.0))
    assert status == "warn"
    assert "100 % of the units are dead after 2" in summary


def test_saturated_layer():
    status, summary = judged(ID, linear_net(nn.Tanh(), gain=1000.0))
    assert status == "warn"
    assert "saturated after 2" in summary


def test_judge():
    for learn in (probabilities(), linear_net(nn.Tanh())):
        evidence = measured(ID, learn)
        judge_never_raises(ID, evidence)
        nan_never_passes(ID, evidence)
