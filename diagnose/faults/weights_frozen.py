"""Every parameter is frozen by hand but the last bias."""

from fastai.learner import Learner

from diagnose.errors import NotApplicable
from diagnose.faults import Fault


class WeightsFrozen(Fault):
    """Sets requires_grad=False on every tensor but the last bias."""

    cause = "params-frozen"

    def inject(self, learn: Learner) -> None:
        params = list(learn.model.parameters())
        biases = [p for p in params if p.ndim == 1]
        if not biases:
            raise NotApplicable("the model has no bias to leave trainable")
        for p in params:
            p.requires_grad_(p is biases[-1])
