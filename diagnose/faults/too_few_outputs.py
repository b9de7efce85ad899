"""The last layer has one output less than there are classes."""

from fastai.learner import Learner
from torch import nn

from diagnose.errors import NotApplicable
from diagnose.faults import Fault, last_linear
from diagnose.faults._items import labels


class TooFewOutputs(Fault):
    """Replaces the last linear layer by one that lacks the output of the last class."""

    cause = "labels-out-of-range"

    def inject(self, learn: Learner) -> None:
        parent, name, old = last_linear(learn.model)
        if old.out_features != max(labels(learn, 0)) + 1 or old.out_features < 3:
            raise NotApplicable("the outputs are not one for each class")
        new = nn.Linear(old.in_features, old.out_features - 1, bias=old.bias is not None)
        setattr(parent, name, new.to(old.weight.device))
        learn.opt = None
