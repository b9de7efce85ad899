"""The layers stand in a plain Python list, and only an output bias is registered."""

from typing import Any

import torch
from fastai.learner import Learner
from torch import Tensor, nn

from diagnose.faults import Fault, last_linear


class LayersInAList(Fault):
    """Moves the model into a list of another one."""

    cause = "params-outside-module"

    def inject(self, learn: Learner) -> None:
        _, _, layer = last_linear(learn.model)
        learn.model = _Lists(learn.model, layer.out_features, layer.weight.device)


class _Lists(nn.Module):
    def __init__(self, model: nn.Module, outputs: int, device: torch.device):
        super().__init__()
        self.parts, self.bias = [model], nn.Parameter(torch.zeros(outputs, device=device))

    def forward(self, *x: Any) -> Tensor:
        return self.parts[0](*x) + self.bias
