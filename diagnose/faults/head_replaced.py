"""The last layer is replaced after the optimizer was built, so that the optimizer steps the old one."""

from fastai.learner import Learner
from torch import nn

from diagnose.faults import Fault, last_linear


class HeadReplaced(Fault):
    """Builds the optimizer, then replaces the last linear layer by a fresh one."""

    cause = "params-missing-from-optimizer"

    def inject(self, learn: Learner) -> None:
        parent, name, old = last_linear(learn.model)
        learn.create_opt()
        new = nn.Linear(old.in_features, old.out_features, bias=old.bias is not None)
        setattr(parent, name, new.to(old.weight.device))
