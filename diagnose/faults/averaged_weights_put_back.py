"""Averaged weights replace the trained ones at every step."""

import torch
from fastai.callback.core import Callback
from fastai.learner import Learner

from diagnose.faults import Fault


class AveragedWeightsPutBack(Fault):
    """Adds a moving average of the weights, 0.999 a step, that is copied into the model after every step in place of
    for validation."""

    cause = "optimizer-not-stepping"
    also = ("lr-too-low",)  # of every step a thousandth is left

    def inject(self, learn: Learner) -> None:
        learn.add_cb(_PutsAverageBack())


class _PutsAverageBack(Callback):
    def before_fit(self):
        self.average = [p.detach().clone() for p in self.learn.model.parameters()]

    def after_step(self):
        with torch.no_grad():
            for p, mean in zip(self.learn.model.parameters(), self.average):
                p.copy_(mean.lerp_(p, 1e-3))
