"""Early stopping on a validation loss that should rise."""

import numpy as np
from fastai.callback.tracker import EarlyStoppingCallback
from fastai.learner import Learner

from diagnose.faults import Fault


class PatienceOnTheWrongSide(Fault):
    """Adds early stopping that waits for the first metric, or the loss, to get worse."""

    cause = "early-stopping-misconfigured"

    def inject(self, learn: Learner) -> None:
        names = [m.name for m in learn.metrics]
        accuracy = "accuracy" in names
        cb = EarlyStoppingCallback(
            monitor="accuracy" if accuracy else "valid_loss", comp=np.less if accuracy else np.greater, patience=3
        )
        learn.add_cb(cb)
