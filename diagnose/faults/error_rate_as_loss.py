"""The error rate in place of a loss: an argmax has no gradient."""

from fastai.learner import Learner
from torch import Tensor, nn

from diagnose.faults import Fault
from diagnose.faults._items import class_label, indexed


class ErrorRateAsLoss(Fault):
    """Replaces the loss of a classifier by its share of wrong answers."""

    cause = "loss-detached"

    def inject(self, learn: Learner) -> None:
        _, n, item = indexed(learn, 0)
        class_label(item, n)
        learn.loss_func = _ErrorRate()


class _ErrorRate(nn.Module):
    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return (pred.argmax(1) != target).float().mean()
