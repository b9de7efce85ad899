"""The scores of classes are cosines, and nothing makes them larger before the loss."""

from fastai.learner import Learner
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from diagnose.errors import NotApplicable
from diagnose.faults import Fault, last_linear
from diagnose.faults._harm import must_harm


class CosinesWithoutTemperature(Fault):
    """Puts a layer of cosines in the place of the linear one that ends the model, as metric learning has it."""

    cause = "output-range-mismatch"

    def inject(self, learn: Learner) -> None:
        must_harm(learn, _spoil, "cosines are learned as well")
        _spoil(learn)


def _spoil(learn: Learner) -> None:
    parent, name, layer = last_linear(learn.model)
    if layer.out_features < 3:
        raise NotApplicable("cosines are enough for fewer than three classes")
    setattr(parent, name, _Cosines(layer))
    learn.opt = None


class _Cosines(nn.Module):
    def __init__(self, last: nn.Linear):
        super().__init__()
        self.weight = last.weight

    def forward(self, x: Tensor) -> Tensor:
        return linear(normalize(x, dim=-1), normalize(self.weight, dim=-1))
