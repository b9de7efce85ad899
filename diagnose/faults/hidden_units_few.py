"""Every hidden layer has one unit."""

from fastai.learner import Learner

from diagnose.checks.wider_narrower import resized
from diagnose.faults import Fault


class HiddenUnitsFew(Fault):
    """Builds a plain nn.Sequential anew with hidden widths of 1."""

    cause = "capacity-too-small"

    def inject(self, learn: Learner) -> None:
        device = next(learn.model.parameters()).device
        learn.model, learn.opt = resized(learn.model, 1e-9).to(device), None
