"""modes-agree: F7 and F28, batch norm on few rows."""

import pytest
import torch
from learners import HEALTHY, digits, small_cnn
from torch import nn
from verdicts import judge_never_raises, judged, measured, nan_never_passes, passes

from diagnose.checks.modes_agree import ModesAgree

CHECK = ModesAgree()


def head_on_pooled(norm=nn.BatchNorm1d):
    "fastai's head: batch norm, drop-out and Linear twice, on pooled features."
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        *(norm(64), nn.Dropout(0.25), nn.Linear(64, 32), nn.ReLU(), norm(32), nn.Dropout(0.5), nn.Linear(32, 10)),
    )


class OwnMode(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = small_cnn()

    def forward(self, x):
        return self.body(x) if self.training else self.body(torch.zeros_like(x) + x.mean() + 0.1 * x)


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy(name):
    passes(CHECK, HEALTHY[name]())


@pytest.mark.parametrize("bs", [16, 64])
def test_head_on_enough_rows(bs):
    assert judged(CHECK, digits(model=head_on_pooled(), bs=bs)).status == "pass"


def test_f7_batch_norm_on_two_rows():
    status, summary = judged(CHECK, digits(model=head_on_pooled(), bs=2))
    assert status == "warn"
    assert "batches of 2 rows" in summary
    assert judged(CHECK, digits(model=head_on_pooled(nn.LayerNorm), bs=2)).status == "pass"


def test_f28_head_on_eight_rows():
    status, summary = judged(CHECK, digits(model=head_on_pooled(), bs=8))
    assert status == "warn"
    assert "batches of 8 rows" in summary


def test_code_that_reads_training():
    status, summary = judged(CHECK, digits(model=OwnMode()))
    assert status == "warn"
    assert "64 rows" in summary


def test_judge():
    evidence = measured(CHECK, digits())
    judge_never_raises(CHECK, evidence)
    nan_never_passes(CHECK, evidence)
