"""NLLLoss in place of cross-entropy: it expects log-probabilities and gets raw scores."""

from fastai.learner import Learner
from torch import nn

from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.faults._items import class_label, indexed


class ScoresIntoNll(Fault):
    """Replaces a cross-entropy by its second half."""

    cause = "loss-missing-activation"

    def inject(self, learn: Learner) -> None:
        _, n, item = indexed(learn, 0)
        if getattr(learn.loss_func, "axis", -1) != 1:  # else maps of classes, with their axis in the usual place
            class_label(item, n)
        if "crossentropy" not in type(getattr(learn.loss_func, "func", learn.loss_func)).__name__.lower():
            raise NotApplicable("the loss is no cross-entropy")
        learn.loss_func = nn.NLLLoss()
