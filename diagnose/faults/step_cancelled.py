"""A callback cancels every optimizer step."""

from fastai.callback.core import Callback, CancelStepException
from fastai.learner import Learner

from diagnose.faults import Fault


class StepCancelled(Fault):
    """Adds a callback that raises CancelStepException before each step, as one that skips bad batches may."""

    cause = "optimizer-not-stepping"

    def inject(self, learn: Learner) -> None:
        learn.add_cb(_SkipsEveryStep())


class _SkipsEveryStep(Callback):
    def before_step(self):
        raise CancelStepException
