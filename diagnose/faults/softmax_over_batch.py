"""A log-softmax over the rows before a loss that expects one over the classes."""

from fastai.learner import Learner
from torch import nn

from diagnose.changes import Appended
from diagnose.errors import NotApplicable
from diagnose.faults import Fault


class SoftmaxOverBatch(Fault):
    """Takes cross-entropy apart into LogSoftmax and NLLLoss, with dim=0."""

    cause = "softmax-wrong-axis"

    def inject(self, learn: Learner) -> None:
        name = type(getattr(learn.loss_func, "func", learn.loss_func)).__name__.lower()
        if "crossentropy" not in name:
            raise NotApplicable(f"{name} is no cross-entropy")
        learn.model, learn.loss_func = Appended(learn.model, nn.LogSoftmax(dim=0)), nn.NLLLoss()
