"""The loss is taken out of the graph and made a fresh tensor that wants a gradient: the wrong remedy for an error."""

from collections.abc import Callable
from typing import Any

from fastai.learner import Learner
from torch import Tensor, nn

from diagnose.faults import Fault


class LossThroughNumpy(Fault):
    """Hands on a copy of the loss that has no history and `requires_grad`."""

    cause = "loss-detached"

    def inject(self, learn: Learner) -> None:
        learn.loss_func = _Fresh(learn.loss_func)


class _Fresh(nn.Module):
    def __init__(self, loss_func: Callable):
        super().__init__()
        self.loss_func = loss_func

    def forward(self, *args: Any) -> Tensor:
        return self.loss_func(*args).detach().clone().requires_grad_(True)
