"""A hook turns the gradients of the first layers round."""

from fastai.learner import Learner
from torch import Tensor

from diagnose.errors import NotApplicable
from diagnose.faults import Fault


class GradientsReversedByHook(Fault):
    """Calls `register_hook` on all trainable parameters but the last two, as for an adversary that there is not."""

    cause = "loss-sign-flipped"

    def inject(self, learn: Learner) -> None:
        trained = [p for p in learn.model.parameters() if p.requires_grad]
        if len(trained) < 3:
            raise NotApplicable("the model has fewer than 3 trainable tensors")
        for p in trained[:-2]:
            p.register_hook(_reversed)


def _reversed(gradient: Tensor) -> Tensor:
    return -gradient
