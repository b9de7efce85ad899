"""A wrong view hands every row features of other rows."""

import torch
from fastai.learner import Learner
from torch import Tensor, nn

from diagnose.faults import Fault, split_in_two


class WrongView(Fault):
    """Transposes rows and channels of the encoder's output, then views it back to the old shape."""

    cause = "batch-mixing"

    def inject(self, learn: Learner) -> None:
        parent, name = split_in_two(learn.model)
        setattr(parent, name, _Mixed(getattr(parent, name)))


class _Mixed(nn.Module):
    def __init__(self, part: nn.Module):
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        out = self.part(x)
        return torch.transpose(out, 0, 1).reshape(out.shape)
