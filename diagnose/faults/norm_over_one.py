"""A GroupNorm with one channel in each group, before the last layer: every mean is taken over one number."""

from fastai.learner import Learner
from torch import nn

from diagnose.errors import NotApplicable
from diagnose.faults import Fault, last_linear, places_before


class NormOverOne(Fault):
    """Puts the norm before the last linear layer."""

    cause = "norm-wrong-axis"

    def inject(self, learn: Learner) -> None:
        parent, name, layer = last_linear(learn.model)
        if places_before(learn, layer):
            raise NotApplicable("its last linear layer answers for several places of a row: the norm takes one")
        if layer.in_features < 2:
            raise NotApplicable("the last layer has one input")
        norm = nn.GroupNorm(layer.in_features, layer.in_features).to(layer.weight.device)
        setattr(parent, name, nn.Sequential(nn.Flatten(), norm, layer))
