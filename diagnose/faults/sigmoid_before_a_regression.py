"""A sigmoid ends the model, and most targets lie outside [0, 1]."""

from fastai.learner import Learner
from torch import nn

from diagnose.changes import Appended
from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.faults._items import as_float, indexed


class SigmoidBeforeARegression(Fault):
    """Appends a sigmoid to a regression."""

    cause = "output-range-mismatch"

    def inject(self, learn: Learner) -> None:
        loader, n, item = indexed(learn, 0)
        as_float(item[n])
        some = [loader.dataset[i][n] for i in range(min(len(loader.dataset), 200))]
        if sum(float(t.min()) < 0 or float(t.max()) > 1 for t in some) < len(some) / 2:
            raise NotApplicable("most targets lie in [0, 1]")
        learn.model = Appended(learn.model, nn.Sigmoid())
