"""gradients-zeroed: an optimizer that forgets to zero."""

from functools import partial

import pytest
import torch
from fastai.callback.training import GradientAccumulation
from fastai.optimizer import Adam, Optimizer, OptimWrapper
from judging import judge_never_raises, judged, measured, nan_never_passes, passes
from learners import digits

ID = "gradients-zeroed"


class Forgetful(Optimizer):
    def zero_grad(self):
        pass


def forgetful(params, lr, **kwargs):
    made = Adam(params, lr=lr, **kwargs)
    made.__class__ = Forgetful
    return made


@pytest.mark.parametrize("kwargs", [{"cbs": GradientAccumulation(128)}, {}])
def test_accumulation_and_torch_optimizers(kwargs):
    passes(ID, digits(opt_func=partial(OptimWrapper, opt=torch.optim.AdamW), **kwargs))


def test_gradients_that_are_not_zeroed():
    status, summary = judged(ID, digits(opt_func=forgetful))
    assert status == "warn"
    assert "in 12 tensors" in summary


def test_judge():
    evidence = measured(ID, digits())
    judge_never_raises(ID, evidence)
    nan_never_passes(ID, evidence)
