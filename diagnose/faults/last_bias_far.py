"""The last bias starts a thousand away from where the targets are."""

import torch
from fastai.learner import Learner

from diagnose.errors import NotApplicable
from diagnose.faults import Fault, last_linear


class LastBiasFar(Fault):
    """Adds 1000 to the first bias of the last linear layer."""

    cause = "init-output-bias"

    def inject(self, learn: Learner) -> None:
        _, _, layer = last_linear(learn.model)
        if layer.bias is None:
            raise NotApplicable("the last linear layer has no bias")
        with torch.no_grad():
            layer.bias[0] += 1000
