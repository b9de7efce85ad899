"""A ReLU ends the model, and half of the targets are negative."""

from fastai.learner import Learner
from torch import nn

from diagnose.changes import Appended
from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.faults._items import as_float, indexed


class ReluBeforeTheLoss(Fault):
    """Appends a ReLU to a regression whose targets go below zero."""

    cause = "output-range-mismatch"

    def inject(self, learn: Learner) -> None:
        loader, n, item = indexed(learn, 0)
        as_float(item[n])
        some = [float(loader.dataset[i][n].min()) for i in range(min(len(loader.dataset), 200))]
        if sum(v < 0 for v in some) < len(some) / 3:
            raise NotApplicable("less than a third of the targets go below zero")
        learn.model = Appended(learn.model, nn.ReLU())
