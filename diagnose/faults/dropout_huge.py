"""Drop-out of 0.98 before the last layer and wherever there is one."""

from fastai.learner import Learner
from torch import nn

from diagnose.faults import Fault, last_linear


class DropoutHuge(Fault):
    """Puts a drop-out before the last linear layer, and raises the rates of the others."""

    cause = "dropout-too-high"

    def inject(self, learn: Learner) -> None:
        parent, name, layer = last_linear(learn.model)
        for module in learn.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.98
        setattr(parent, name, nn.Sequential(nn.Dropout(0.98), layer))
