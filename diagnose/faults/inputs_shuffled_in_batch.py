"""A callback shuffles the inputs of a batch, and not their targets."""

import torch
from fastai.callback.core import Callback
from fastai.learner import Learner
from torch import Tensor

from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.stats import replaced, tensors


class InputsShuffledInBatch(Fault):
    """Adds a callback that draws another order for the inputs at every batch, as half of an own MixUp."""

    cause = "labels-uninformative"

    def inject(self, learn: Learner) -> None:
        batch, inputs = learn.dls.train.one_batch(), getattr(learn.dls, "n_inp", 1)
        xb, yb = batch[:inputs], tensors(batch[inputs:])
        if not yb or all(bool((t == t[:1]).all()) for t in yb):
            raise NotApplicable("the targets are the same in every row")
        if not all(isinstance(t, Tensor) and t.ndim > 1 for t in tensors(xb)):
            raise NotApplicable("the inputs are not rows of tensors")
        learn.add_cb(_ShufflesInputs())


class _ShufflesInputs(Callback):
    def before_batch(self):
        parts = tensors(self.learn.xb)
        order = torch.randperm(len(parts[0]))
        self.learn.xb = replaced(self.learn.xb, [t[order.to(t.device)] for t in parts])
