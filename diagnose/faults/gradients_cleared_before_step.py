"""A callback zeroes the gradients after the backward pass, before the step."""

from fastai.callback.core import Callback
from fastai.learner import Learner

from diagnose.faults import Fault


class GradientsClearedBeforeStep(Fault):
    """Adds a callback that zeroes gradients in `before_step`, as one does that clears them in the wrong event."""

    cause = "optimizer-not-stepping"

    def inject(self, learn: Learner) -> None:
        learn.add_cb(_ClearsTooLate())


class _ClearsTooLate(Callback):
    def before_step(self):
        for p in self.learn.model.parameters():
            if p.grad is not None:
                p.grad.zero_()
