"""The features that reach the last layer are one, plus a hundred-thousandth of what they were."""

from fastai.learner import Learner
from torch import Tensor, nn

from diagnose.faults import Fault, last_linear


class FeaturesDrowned(Fault):
    """Puts the drowning constant before the last linear layer."""

    cause = "representation-collapse"

    def inject(self, learn: Learner) -> None:
        parent, name, layer = last_linear(learn.model)
        setattr(parent, name, nn.Sequential(_Drowns(), layer))


class _Drowns(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 1 + 1e-5 * x
