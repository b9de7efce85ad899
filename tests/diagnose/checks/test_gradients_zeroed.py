"""gradients-zeroed: an optimizer that forgets to zero."""

from functools import partial

import pytest
import torch
from fastai.callback.training import GradientAccumulation
from fastai.optimizer import Adam, Optimizer, OptimWrapper
from learners import HEALTHY, digits
from verdicts import judge_never_raises, judged, measured, nan_never_passes, passes

from diagnose.checks.gradients_zeroed import GradientsZeroed

CHECK = GradientsZeroed()


class Forgetful(Optimizer):
    def zero_grad(self):
        pass


def forgetful(params, lr, **kwargs):
    made = Adam(params, lr=lr, **kwargs)
    made.__class__ = Forgetful
    return made


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy(name):
    passes(CHECK, HEALTHY[name]())


@pytest.mark.parametrize("kwargs", [{"cbs": GradientAccumulation(128)}, {}])
def test_accumulation_and_torch_optimizers(kwargs):
    passes(CHECK, digits(opt_func=partial(OptimWrapper, opt=torch.optim.AdamW), **kwargs))


def test_gradients_that_are_not_zeroed():
    status, summary = judged(CHECK, digits(opt_func=forgetful))
    assert status == "warn"
    assert "in 12 tensors" in summary


def test_judge():
    evidence = measured(CHECK, digits())
    judge_never_raises(CHECK, evidence)
    nan_never_passes(CHECK, evidence)
