"""Each score gets a softmax of its own, which is 1 whatever the score."""

from fastai.learner import Learner
from torch import Tensor

from diagnose.changes import Appended
from diagnose.faults import Fault


class SoftmaxOverOne(Fault):
    """Appends a softmax over a last axis of size 1."""

    cause = "softmax-wrong-axis"

    def inject(self, learn: Learner) -> None:
        learn.model = Appended(learn.model, _one_by_one)


def _one_by_one(scores: Tensor) -> Tensor:
    return scores.unsqueeze(-1).softmax(-1).squeeze(-1)
