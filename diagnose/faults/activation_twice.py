"""A softmax or sigmoid at the end of the model, before a loss that applies its own."""

from fastai.learner import Learner
from torch import nn

from diagnose.changes import Appended
from diagnose.errors import NotApplicable
from diagnose.faults import Fault


class ActivationTwice(Fault):
    """Appends the activation that the loss applies: softmax for cross-entropy, sigmoid for binary cross-entropy."""

    cause = "loss-double-activation"

    def inject(self, learn: Learner) -> None:
        name = type(getattr(learn.loss_func, "func", learn.loss_func)).__name__.lower()
        if "bcewithlogits" in name:
            learn.model = Appended(learn.model, nn.Sigmoid())
        elif "crossentropy" in name:
            learn.model = Appended(learn.model, nn.Softmax(dim=1))
        else:
            raise NotApplicable(f"{name} applies no activation that is known here")
