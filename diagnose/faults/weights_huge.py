"""Every weight starts a thousand times as large."""

import torch
from fastai.learner import Learner

from diagnose.faults import Fault


class WeightsHuge(Fault):
    """Multiplies every weight of two or more dimensions by 1000."""

    cause = "init-scale-too-large"

    def inject(self, learn: Learner) -> None:
        with torch.no_grad():
            for p in learn.model.parameters():
                if p.ndim > 1:
                    p *= 1000
