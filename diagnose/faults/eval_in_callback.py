"""A callback sets the model to evaluation mode before every batch."""

from fastai.callback.core import Callback
from fastai.learner import Learner
from torch.nn.modules.batchnorm import _BatchNorm

from diagnose.errors import NotApplicable
from diagnose.faults import Fault


class EvalInCallback(Fault):
    """Calls `model.eval()` in a model that has batch norm."""

    cause = "eval-mode-in-training"

    def inject(self, learn: Learner) -> None:
        if not any(isinstance(m, _BatchNorm) for m in learn.model.modules()):
            raise NotApplicable("the model has no batch norm")
        learn.add_cb(_Evaluates())


class _Evaluates(Callback):
    def before_batch(self):
        self.learn.model.eval()
