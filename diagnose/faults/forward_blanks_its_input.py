"""The forward pass goes on with zeros of the input's shape."""

from typing import Any

from fastai.learner import Learner
from torch import Tensor, nn

from diagnose.faults import Fault
from diagnose.stats import replaced, tensors


class ForwardBlanksItsInput(Fault):
    """Multiplies all inputs by zero before the model sees them."""

    cause = "input-ignored"

    def inject(self, learn: Learner) -> None:
        learn.model = _Blanks(learn.model)


class _Blanks(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *x: Any) -> Tensor:
        return self.model(*replaced(x, [t * 0 for t in tensors(x)]))
