"""Linear layers drawn from normal_(0, 10), whatever their width, under gradient descent."""

from functools import partial

from fastai.learner import Learner
from fastai.optimizer import SGD
from torch import nn

from diagnose.errors import NotApplicable
from diagnose.faults import Fault, linears


class WeightsOfUnitVariance(Fault):
    """Draws every linear layer at a scale that does not know its width; SGD at 0.02, which learns without that."""

    cause = "init-scale-too-large"

    def inject(self, learn: Learner) -> None:
        found = linears(learn.model)
        if not found:
            raise NotApplicable("the model has no linear layer")
        for _, _, layer in found:
            nn.init.normal_(layer.weight, 0.0, 10.0)
        learn.opt, learn.opt_func, learn.lr = None, partial(SGD, mom=0.9), 0.02
