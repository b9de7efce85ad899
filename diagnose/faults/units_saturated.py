"""The last hidden layer is a sigmoid whose inputs are a hundred too large."""

from fastai.learner import Learner
from torch import Tensor, nn

from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.faults.activations_removed import KINDS


class UnitsSaturated(Fault):
    """Replaces the last activation by a sigmoid of the input plus 100."""

    cause = "activation-saturated"

    def inject(self, learn: Learner) -> None:
        found = [(m, n) for m in learn.model.modules() for n, c in m.named_children() if isinstance(c, KINDS)]
        if not found:
            raise NotApplicable("the model has no activation module")
        parent, name = found[-1]
        setattr(parent, name, nn.Sequential(_Plus(100.0), nn.Sigmoid()))


class _Plus(nn.Module):
    def __init__(self, offset: float):
        super().__init__()
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        return x + self.offset
