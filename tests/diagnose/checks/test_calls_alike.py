"""Statistics of every call of a batch norm: unlike ones are told, like ones and single calls are not."""

import pytest
import torch
from hypothesis import given
from judging import check_of, evidence_of, is_judgement, judged
from learners import digits, small_cnn
from torch import nn

from diagnose.checks import Evidence, EvidenceList


class InTwoCalls(nn.Module):
    def __init__(self, other, stacked=False):
        super().__init__()
        self.net, self.other, self.stacked = small_cnn(), other, stacked

    def forward(self, x):
        xs = [x, self.other(x)]
        outputs = self.net(torch.cat(xs)).chunk(2) if self.stacked else [self.net(x) for x in xs]
        return outputs[0] + outputs[1]


def net(other, **kwargs):
    return lambda seed: digits(seed, model=InTwoCalls(other, **kwargs))


def mirrored(x):
    return x.flip(-1)


def brighter(x):
    return x.flip(-1) + 3


@pytest.mark.parametrize(
    ("subject", "status"),
    [(net(brighter), "warn"), (net(mirrored), "pass"), (net(brighter, stacked=True), "pass"), (digits, "pass")],
)
def test_calls_alike(subject, status):
    assert judged("calls-alike", subject(0)).status == status


NAMES = ["batch norms", "called several times", "most calls", "furthest off"]


@pytest.mark.parametrize(
    ("values", "status"), [((2, 0, 1), "pass"), ((2, 2, 2, 0.3), "pass"), ((2, 2, 2, float("nan")), "warn")]
)
def test_calls_alike_is_judged_from_numbers_alone(values, status):
    numbers = EvidenceList(Evidence(name=n, value=v) for n, v in zip(NAMES, values))
    assert check_of("calls-alike").judge(numbers).status == status


@given(evidence_of(NAMES))
def test_judge_never_raises(evidence):
    assert is_judgement(check_of("calls-alike").judge(evidence))
