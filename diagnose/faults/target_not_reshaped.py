"""Predictions of shape (n, 1) meet targets of shape (n,) in a squared error, and broadcast to (n, n)."""

import torch.nn.functional as F
from fastai.learner import Learner
from torch import Tensor, nn

from diagnose.errors import NotApplicable
from diagnose.faults import Fault


class TargetNotReshaped(Fault):
    """Replaces the loss by a squared error of one column against one row, of scores against (one-hot) targets."""

    cause = "loss-target-shape-broadcast"

    def inject(self, learn: Learner) -> None:
        if not isinstance(learn.loss_func, nn.Module) and not hasattr(learn.loss_func, "func"):
            raise NotApplicable("the loss is a function of unknown targets")
        learn.loss_func = _ColumnAgainstRow()


class _ColumnAgainstRow(nn.Module):
    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        if not target.is_floating_point():
            target = F.one_hot(target.long(), pred.shape[-1]).to(pred.dtype)
        return (pred.reshape(-1, 1) - target.reshape(-1)).pow(2).mean()
