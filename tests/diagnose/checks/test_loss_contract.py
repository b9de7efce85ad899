"""loss-contract: a sum over rows, under optimizers that divide it out and under one that does not."""

from functools import partial

import pytest
import torch
from fastai.optimizer import SGD, Adam, OptimWrapper, RMSProp
from judging import check_of, judge_never_raises, measured, nan_never_passes, passes_as_odd
from learners import digits, summed_loss_under_adam
from torch import nn

from diagnose.checks.loss_contract import LONGER

ID = "loss-contract"


def summed(**kwargs):
    return digits(loss_func=nn.CrossEntropyLoss(reduction="sum"), **kwargs)


@pytest.mark.parametrize("opt_func", [Adam, RMSProp, partial(OptimWrapper, opt=torch.optim.AdamW)])
def test_a_sum_that_the_optimizer_divides_out(opt_func):
    looks = "a loss that is a sum: given twice over, the loss of the batch is 2 times"
    passes_as_odd(ID, summed(opt_func=opt_func), looks, "its step is 1.000 times as long")


@pytest.mark.parametrize("opt_func", [SGD, partial(OptimWrapper, opt=torch.optim.SGD)])
def test_a_sum_that_makes_the_steps_longer(opt_func):
    evidence = measured(ID, summed(opt_func=opt_func, lr=1e-4))
    status, summary = check_of(ID).judge(evidence)
    assert status == "warn"
    assert "is 2 times as large" in summary
    assert evidence.get(LONGER) == pytest.approx(2, rel=0.01)


def test_an_optimizer_that_makes_no_step_proves_nothing():
    evidence = measured(ID, summed(lr=0.0))
    assert check_of(ID).judge(evidence).status == "warn"


def test_judge():
    evidence = measured(ID, summed_loss_under_adam())
    judge_never_raises(ID, evidence)
    nan_never_passes(ID, evidence, LONGER)
