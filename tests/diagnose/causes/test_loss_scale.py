"""A summed loss under plain gradient descent is named, in a net with norm layers too; under Adam it is left alone."""

from functools import partial

import torch
from fastai.optimizer import OptimWrapper
from learners import diabetes, digits, summed_loss_under_adam
from naming import CauseTests
from torch import nn

ID = "loss-scale"
ONLY = ("overfit-one-batch", "loss-contract", "first-loss", "optimizer-settings")


def summed_at_a_low_rate(seed):
    "Plain gradient descent whose rate was chosen for a sum."
    learn = diabetes(seed, loss_func=nn.MSELoss(reduction="sum"), lr=1e-3)
    learn.opt_func = partial(OptimWrapper, opt=torch.optim.SGD)
    return learn


NAMED = [("loss-summed", digits), ("loss-summed", diabetes)]
HEALTHY = {"under Adam": summed_loss_under_adam, "at a low rate": summed_at_a_low_rate}


class TestCause(CauseTests):
    id, named, healthy, only = ID, NAMED, HEALTHY, ONLY
