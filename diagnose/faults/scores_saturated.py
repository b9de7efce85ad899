"""Scores of thousands go into the last sigmoid, as raw dot products of wide features do."""

from fastai.learner import Learner
from torch import Tensor, nn

from diagnose.errors import NotApplicable
from diagnose.faults import Fault


class ScoresSaturated(Fault):
    """Adds 2000 to what the model's last sigmoid is given."""

    cause = "activation-saturated"

    def inject(self, learn: Learner) -> None:
        last = list(learn.model.named_children())[-1:]
        if not last or not isinstance(last[0][1], nn.Sigmoid):
            raise NotApplicable("the model does not end in a sigmoid")
        setattr(learn.model, last[0][0], nn.Sequential(_DotProducts(), last[0][1]))


class _DotProducts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 2000
