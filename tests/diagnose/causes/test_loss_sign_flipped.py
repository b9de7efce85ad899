"""A negated loss: named and proven; losses that have no lower bound on purpose are left alone."""

from functools import partial

import pytest
import torch
from fastai.optimizer import OptimWrapper
from learners import diabetes, digits
from naming import examined, findings_of, in_turn, is_named, stands_any_evidence, with_fault
from odd_subjects import binary_column, character_model, contrastive, several_images
from torch import nn

ID = "loss-sign-flipped"


class GaussianLikelihood(nn.Module):
    """Mean and logarithm of the variance of each target: no lower bound, and right."""

    def forward(self, pred, y):
        mean, log_variance = pred[:, :1], pred[:, 1:]
        return (log_variance + (y - mean).square() / log_variance.exp()).mean()


class Critic(nn.Module):
    """A Wasserstein critic of large against small targets: no bound on either side."""

    def forward(self, pred, y):
        return (pred * torch.where(y > 0, -1.0, 1.0)).mean()


@in_turn(build=[digits, diabetes, binary_column, several_images, character_model])
def test_a_negated_loss_is_named(build, seed):
    proof = is_named(with_fault("loss-negated", build, seed), ID).proof
    assert proof.after.numbers["answers agree with targets"] >= 0.8
    assert proof.before.numbers["answers agree with targets"] <= 0.5


@pytest.mark.parametrize("seed", [0, 1])
def test_a_likelihood_with_a_learned_variance_is_not_proven_wrong(seed):
    learn = diabetes(seed, loss_func=GaussianLikelihood())
    learn.model[-1] = nn.Linear(64, 2)
    assert not [c.id for c in examined(learn, seed).causes if c.proven]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_critic_is_not_proven_wrong(seed):
    assert not [c.id for c in examined(diabetes(seed, loss_func=Critic()), seed).causes if c.proven]


def test_an_optimizer_that_goes_uphill_is_named():
    def uphill(params, **kwargs):
        return OptimWrapper(params, partial(torch.optim.SGD, maximize=True), **kwargs)

    found = is_named(examined(digits(0, opt_func=uphill, lr=0.05)), ID)
    assert found.proof.change == "gradients negated"
    assert "maximize=True" in found.fix.text


def test_a_rate_that_is_too_high_goes_uphill_only_there():
    diagnosis = with_fault("lr-too-high", digits)
    assert ID not in [c.id for c in diagnosis.causes]


def test_evidence_alone():
    stands_any_evidence(ID, findings_of(with_fault("loss-negated", digits)), numbers=False)


def test_a_contrast_with_the_other_sign_is_suspected_and_no_more():
    diagnosis = with_fault("loss-negated", contrastive)
    assert diagnosis.verdict == "warn"
    first = diagnosis.causes[0]
    assert (first.id, first.proven, first.refuted) == (ID, False, False)
    assert "where all rows have the same answer" in first.summary
    assert first.proof.after.learned >= 0.8
    assert ID not in [c.id for c in examined(contrastive()).causes]
