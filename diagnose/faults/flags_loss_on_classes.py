"""Binary cross-entropy on class indices, under one output for each class: it raises."""

from fastai.learner import Learner
from torch import nn

from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.faults._items import labels


class FlagsLossOnClasses(Fault):
    """Replaces the loss of a classifier by the one for several labels in a row."""

    cause = "loss-wrong-for-task"

    def inject(self, learn: Learner) -> None:
        if max(labels(learn, 0)) < 2:
            raise NotApplicable("with two classes the index is a flag")
        learn.loss_func = nn.BCEWithLogitsLoss()
