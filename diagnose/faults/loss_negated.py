"""The loss has the other sign, as a log-likelihood that is returned as it is."""

from fastai.learner import Learner

from diagnose.changes import scaled_loss
from diagnose.faults import Fault


class LossNegated(Fault):
    """Multiplies the loss by -1."""

    cause = "loss-sign-flipped"

    def inject(self, learn: Learner) -> None:
        scaled_loss(-1.0, "loss negated").apply(learn)
