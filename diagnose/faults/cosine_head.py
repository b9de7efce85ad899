"""The last layer gives cosines of features and class vectors, without a scale."""

import torch
from fastai.learner import Learner
from torch import Tensor, nn
from torch.nn import functional as F

from diagnose.errors import NotApplicable
from diagnose.faults import Fault, last_linear


class CosineHead(Fault):
    """Replaces the last linear layer of a classifier of five classes or more."""

    cause = "head-too-weak"

    def inject(self, learn: Learner) -> None:
        parent, name, layer = last_linear(learn.model)
        loss = type(getattr(learn.loss_func, "func", learn.loss_func)).__name__.lower()
        if "crossentropy" not in loss or layer.out_features < 5:
            raise NotApplicable("only a softmax over several classes needs scores beyond 1")
        setattr(parent, name, _Cosine(layer.in_features, layer.out_features).to(layer.weight.device))


class _Cosine(nn.Module):
    def __init__(self, features: int, classes: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, features))
        nn.init.kaiming_normal_(self.weight)

    def forward(self, z: Tensor) -> Tensor:
        return F.linear(F.normalize(z, dim=1), F.normalize(self.weight, dim=1))
