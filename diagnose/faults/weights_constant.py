"""Every weight starts at the same number, and every bias at zero."""

import torch
from fastai.learner import Learner

from diagnose.faults import Fault


class WeightsConstant(Fault):
    """Fills weights with 0.01 and biases with 0: random biases alone would tell the units apart."""

    cause = "init-constant"

    def inject(self, learn: Learner) -> None:
        with torch.no_grad():
            for name, p in learn.model.named_parameters():
                if p.ndim > 1:
                    p.fill_(0.01)
                elif name.endswith("bias"):
                    p.zero_()
