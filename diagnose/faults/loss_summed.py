"""The loss is multiplied by the number of rows, as a sum over the batch would be, under plain gradient descent."""

from functools import partial

import torch
from fastai.learner import Learner
from fastai.optimizer import OptimWrapper
from torch import Tensor, nn

from diagnose.faults import Fault


class LossSummed(Fault):
    """Sums the loss over rows, and steps by SGD with momentum: Adam would divide the factor out."""

    cause = "loss-scale"

    def inject(self, learn: Learner) -> None:
        learn.loss_func = _Summed(learn.loss_func)
        learn.opt_func = partial(OptimWrapper, opt=partial(torch.optim.SGD, momentum=0.9))
        learn.lr = 0.1


class _Summed(nn.Module):
    def __init__(self, loss_func):
        super().__init__()
        self.loss_func = loss_func

    def forward(self, pred: Tensor, *targets: Tensor) -> Tensor:
        return self.loss_func(pred, *targets) * pred.shape[0]
