"""A hand-written Mish with a slip: the softplus is subtracted from itself, and next to nothing is left."""

from fastai.learner import Learner
from torch import Tensor, nn
from torch.nn import functional as F

from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.faults.activations_removed import KINDS


class ActivationWrong(Fault):
    """Replaces every activation by an own one of a millionth of the size."""

    cause = "activation-broken"

    def inject(self, learn: Learner) -> None:
        found = [(m, n) for m in learn.model.modules() for n, c in m.named_children() if isinstance(c, KINDS)]
        if not found:
            raise NotApplicable("the model has no activation module")
        for parent, name in found:
            setattr(parent, name, _Mish())


class _Mish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.tanh() * (F.softplus(x) - F.softplus(x + 1e-6))
