"""Every activation of a perceptron is gone."""

from fastai.learner import Learner
from torch import nn
from torch.nn.modules.conv import _ConvNd

from diagnose.errors import NotApplicable
from diagnose.faults import Fault, linears
from diagnose.faults._harm import must_harm

KINDS = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.ELU)


class ActivationsRemoved(Fault):
    """Replaces activations by the identity, in a net of three or more linear layers and no convolution."""

    cause = "activation-missing"

    def inject(self, learn: Learner) -> None:
        if any(isinstance(m, _ConvNd) for m in learn.model.modules()) or len(linears(learn.model)) < 3:
            raise NotApplicable("convolutions and pooling already tell a few rows apart, whatever stands between them")
        if not any(isinstance(m, KINDS) for m in learn.model.modules()):
            raise NotApplicable("the model has no activation module")
        must_harm(learn, _spoil, "without activations it learns as well: a linear model is enough")
        _spoil(learn)


def _spoil(learn: Learner) -> None:
    for parent in list(learn.model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, KINDS):
                setattr(parent, name, nn.Identity())
