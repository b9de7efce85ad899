"""The biases before every ReLU start at -100, so that no input lifts a unit above zero."""

from itertools import pairwise

import torch
from fastai.learner import Learner
from torch import nn

from diagnose.errors import NotApplicable
from diagnose.faults import Fault


class UnitsDead(Fault):
    """Sets the bias of each layer that stands right before a ReLU."""

    cause = "dead-units"

    def inject(self, learn: Learner) -> None:
        found = []
        for parent in learn.model.modules():
            children = list(parent.children())
            pairs = pairwise(children) if isinstance(parent, nn.Sequential) else ()
            found += [a for a, b in pairs if isinstance(b, nn.ReLU) and getattr(a, "bias", None) is not None]
        if not found:
            raise NotApplicable("no layer with a bias stands before a ReLU")
        with torch.no_grad():
            for layer in found:
                layer.bias.fill_(-100.0)
