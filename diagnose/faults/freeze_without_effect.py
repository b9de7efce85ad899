"""`requires_grad = False` on a module, which freezes nothing."""

from fastai.learner import Learner

from diagnose.faults import Fault, split_in_two


class FreezeWithoutEffect(Fault):
    """Sets the attribute on the part before the last."""

    cause = "frozen-still-training"

    def inject(self, learn: Learner) -> None:
        parent, name = split_in_two(learn.model)
        getattr(parent, name).requires_grad = False
