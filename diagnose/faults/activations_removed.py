"""Every activation of a perceptron is gone."""

from fastai.learner import Learner
from torch import nn
from torch.nn.modules.conv import _ConvNd

from diagnose.errors import NotApplicable
from diagnose.faults import Fault, linears

KINDS = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.ELU)


class ActivationsRemoved(Fault):
    """Replaces activations by the identity, in a net of three or more linear layers and no convolution."""

    cause = "activation-missing"

    def inject(self, learn: Learner) -> None:
        if any(isinstance(m, _ConvNd) for m in learn.model.modules()) or len(linears(learn.model)) < 3:
            raise NotApplicable("convolutions and pooling already tell a few rows apart, whatever stands between them")
        found = [(m, n) for m in learn.model.modules() for n, c in m.named_children() if isinstance(c, KINDS)]
        if not found:
            raise NotApplicable("the model has no activation module")
        for parent, name in found:
            setattr(parent, name, nn.Identity())
