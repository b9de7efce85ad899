"""Every weight starts at a ten-thousandth of its size, under gradient descent."""

from functools import partial

import torch
from fastai.learner import Learner
from fastai.optimizer import SGD

from diagnose.faults import Fault


class WeightsTiny(Fault):
    """Divides weights by 10,000 and sets biases to zero. SGD at 0.02: Adam grows a few layers anew."""

    cause = "init-scale-too-small"

    def inject(self, learn: Learner) -> None:
        learn.opt, learn.opt_func, learn.lr = None, partial(SGD, mom=0.9), 0.02
        with torch.no_grad():
            for name, p in learn.model.named_parameters():
                if p.ndim > 1:
                    p /= 10_000
                elif name.endswith("bias"):
                    p.zero_()
