"""The forward pass reads a batch that lies around, as a notebook's global does."""

from typing import Any

import torch
from fastai.learner import Learner
from torch import Tensor, nn

from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.isolate import loaders
from diagnose.stats import replaced, tensors


class ForwardReadsAGlobal(Fault):
    """Keeps the first batch, and answers for its rows whatever is asked."""

    cause = "input-ignored"

    def inject(self, learn: Learner) -> None:
        batch = next(iter(loaders(learn)[0]))
        inputs = (
            batch[: getattr(learn.dls, "n_inp", max(len(batch) - 1, 1))] if isinstance(batch, (tuple, list)) else ()
        )
        if not inputs or any(not t.ndim for t in tensors(tuple(inputs))):
            raise NotApplicable("the inputs have no rows")
        learn.model = _ReadsAGlobal(learn.model, tuple(inputs))


class _ReadsAGlobal(nn.Module):
    def __init__(self, model: nn.Module, kept: tuple):
        super().__init__()
        self.model, self.kept = model, kept

    def forward(self, *x: Any) -> Tensor:
        rows, device = tensors(x)[0].shape[0], tensors(x)[0].device
        with torch.no_grad():
            mine = [t.to(device).repeat(-(-rows // len(t)), *[1] * (t.ndim - 1))[:rows] for t in tensors(self.kept)]
        return self.model(*replaced(self.kept, mine))
