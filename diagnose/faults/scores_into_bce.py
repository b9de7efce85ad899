"""BCELoss in place of BCEWithLogitsLoss: it expects probabilities and gets raw scores."""

from fastai.learner import Learner
from torch import nn

from diagnose.errors import NotApplicable
from diagnose.faults import Fault


class ScoresIntoBce(Fault):
    """Replaces a binary cross-entropy with logits by one without."""

    cause = "loss-missing-activation"

    def inject(self, learn: Learner) -> None:
        if "bcewithlogits" not in type(getattr(learn.loss_func, "func", learn.loss_func)).__name__.lower():
            raise NotApplicable("the loss is no binary cross-entropy with logits")
        learn.loss_func = nn.BCELoss()
