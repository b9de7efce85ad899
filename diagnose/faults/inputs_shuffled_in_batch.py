"""A callback shuffles the inputs of a batch, and not their targets."""

import torch
from fastai.callback.core import Callback
from fastai.learner import Learner
from torch import Tensor

from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.faults._harm import must_harm
from diagnose.stats import replaced, tensors


class InputsShuffledInBatch(Fault):
    """Adds a callback that draws another order for the inputs at every batch, as half of an own MixUp."""

    cause = "labels-uninformative"

    def inject(self, learn: Learner) -> None:
        xb = learn.dls.train.one_batch()[: getattr(learn.dls, "n_inp", 1)]
        if not all(isinstance(t, Tensor) and t.ndim > 1 for t in tensors(xb)):
            raise NotApplicable("the inputs are not rows of tensors")
        must_harm(
            learn,
            lambda twin: twin.add_cb(_ShufflesInputs()),
            "in another order it learns as well: there are no labels",
        )
        learn.add_cb(_ShufflesInputs())


class _ShufflesInputs(Callback):
    def before_batch(self):
        parts = tensors(self.learn.xb)
        order = torch.randperm(len(parts[0]))
        self.learn.xb = replaced(self.learn.xb, [t[order.to(t.device)] for t in parts])
