"""The output of the first part of the model is detached from the graph."""

from typing import Any

from fastai.learner import Learner
from torch import nn

from diagnose.faults import Fault, split_in_two


class DetachedEncoder(Fault):
    """Wraps the part before the last so that its output is detached."""

    cause = "graph-broken"

    def inject(self, learn: Learner) -> None:
        parent, name = split_in_two(learn.model)
        setattr(parent, name, _Detached(getattr(parent, name)))


class _Detached(nn.Module):
    def __init__(self, part: nn.Module):
        super().__init__()
        self.part = part

    def forward(self, *inputs: Any) -> Any:
        return self.part(*inputs).detach()
