"""One encoder under batch norm, called on a picture and, apart, on a much brighter copy of it."""

import torch
from fastai.learner import Learner
from torch import Tensor, nn

from diagnose.checks._probing import batch_norms
from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.stats import tensors


class EncoderOnUnlikeInputs(Fault):
    """Adds to the output what a second call makes of the mirrored picture, eight standard deviations brighter."""

    cause = "shared-encoder-norm-drift"

    def inject(self, learn: Learner) -> None:
        batch = tensors(learn.dls.one_batch())
        if not batch_norms(learn.model) or batch[0].ndim != 4 or len(batch) != 2:
            raise NotApplicable("it needs one picture as input, and batch norm")
        learn.model = _Twice(learn.model, 8 * float(batch[0].float().std()))
        learn.opt = None


class _Twice(nn.Module):
    def __init__(self, net: nn.Module, brighter: float):
        super().__init__()
        self.net, self.brighter = net, brighter

    def forward(self, x: Tensor) -> Tensor:
        outputs = [self.net(x), self.net(x.flip(-1) + self.brighter)]
        return torch.stack(outputs).sum(0)
