"""Binary cross-entropy on class indices, under a single output: settings of a binary task that were left over."""

import torch.nn.functional as F
from fastai.learner import Learner
from torch import Tensor, nn

from diagnose.errors import NotApplicable
from diagnose.faults import Fault, last_linear
from diagnose.faults._items import labels


class BinaryLossOnClasses(Fault):
    """Gives the model one output, and compares it with the class index by binary cross-entropy."""

    cause = "loss-wrong-for-task"

    def inject(self, learn: Learner) -> None:
        if max(labels(learn, 0)) < 2:
            raise NotApplicable("with two classes the index is a flag")
        parent, name, old = last_linear(learn.model)
        setattr(parent, name, nn.Linear(old.in_features, 1).to(old.weight))
        learn.loss_func, learn.opt = _Binary(), None


class _Binary(nn.Module):
    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(pred, target[:, None].to(pred.dtype))
