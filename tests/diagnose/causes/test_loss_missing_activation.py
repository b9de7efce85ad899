"""Raw scores into a loss of probabilities: named and proven, also where it raises; unbounded likelihoods are not."""

import math

import pytest
import torch
from learners import digits, probabilities, small_cnn, softmax_and_nll
from naming import (
    cause_of,
    examined,
    fault_of,
    findings_of,
    in_turn,
    is_left_alone,
    is_named,
    settled,
    stands_any_evidence,
    with_fault,
)
from odd_subjects import binary_column, segmentation, several_images
from torch import nn

from diagnose.causes import Findings
from diagnose.evidence import Evidence, EvidenceList

ID = "loss-missing-activation"


class LogOfProbabilities(nn.Module):
    """A hand-written cross-entropy of probabilities."""

    def forward(self, pred, y):
        return -pred.log()[torch.arange(len(y)), y].mean()


@in_turn(build=[digits, segmentation])
def test_scores_into_nll_are_named(build, seed):
    assert "log_softmax" in is_named(with_fault("scores-into-nll", build, seed), ID).proof.change


@pytest.mark.parametrize("seed", [0, 1])
def test_a_logarithm_of_scores_is_named(seed):
    is_named(examined(digits(seed, loss_func=LogOfProbabilities()), seed), ID)


@in_turn(build=[several_images, binary_column])
def test_scores_into_bce_are_named_though_it_raises(build, seed):
    learn = build(seed)
    fault_of("scores-into-bce").inject(learn)
    diagnosis = examined(learn, seed)
    assert diagnosis.causes[0].id == ID
    proof = settled(ID, learn, diagnosis, seed)
    assert proof.proven
    assert "between 0 and 1" in proof.proof.before.summary
    assert proof.proof.after.learned >= 0.8


@pytest.mark.parametrize("build", [probabilities, softmax_and_nll])
def test_probabilities_where_they_are_expected_are_left_alone(build):
    diagnosis = examined(build())
    is_left_alone(diagnosis, ID)
    assert cause_of(ID).suspect(findings_of(diagnosis)) is None


def test_nan_from_an_input_is_not_blamed_on_the_loss():
    found = {
        "loss-fits-targets": {"loss": math.nan, "largest target": 9},
        "items-finite": {"NaN in inputs": ["item 0"]},
    }
    findings = Findings(
        {c: EvidenceList(Evidence(name=n, value=v, where="training") for n, v in e.items()) for c, e in found.items()}
    )
    assert cause_of(ID).suspect(findings) is None
    del findings["items-finite"]
    assert cause_of(ID).suspect(findings)


def test_a_diverging_rate_is_another_cause():
    first = examined(
        digits(model=nn.Sequential(small_cnn(), nn.LogSoftmax(1)), loss_func=nn.NLLLoss(), lr=30.0)
    ).causes[0]
    assert (first.id, first.proven) == ("lr-too-high", True)


def test_evidence_alone():
    stands_any_evidence(ID, findings_of(with_fault("scores-into-nll", digits)), numbers=False)
