"""A checkpoint whose names begin with another prefix, loaded with `strict=False`."""

import torch
from fastai.learner import Learner
from torch import Tensor

from diagnose.errors import NotApplicable
from diagnose.faults import Fault


class WeightsUnderAPrefix(Fault):
    """Offers the model tensors of its own kind, all of them named `model.…`."""

    cause = "weights-not-loaded"

    def inject(self, learn: Learner) -> None:
        state = {f"model.{name}": t for name, t in checkpoint(learn).items()}
        if any(name in learn.model.state_dict() for name in state):
            raise NotApplicable("the model's own names begin so")
        learn.model.load_state_dict(state, strict=False)


def checkpoint(learn: Learner) -> dict[str, Tensor]:
    """The model's tensors with their values in another order: of the size of its own, and not its own.

    Raises:
        NotApplicable: every tensor is of one value, so that no order differs from another.
    """
    if not any(bool((t != t.flatten()[0]).any()) for t in learn.model.state_dict().values() if t.numel()):
        raise NotApplicable("all weights are of one value: another checkpoint would be the same")
    state = {}
    for name, t in learn.model.state_dict().items():
        state[name] = t.flatten()[torch.randperm(t.numel(), device=t.device)].view(t.shape).clone()
    return state
