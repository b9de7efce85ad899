"""Lab: what would be an assertion on a CUDA device is asked on the CPU first."""

import pytest
import torch
from fastai.callback.mixup import MixUp
from learners import _digits, digits, loaders_of, small_cnn
from odd_subjects import fixed_batch_size, text
from torch import nn

from diagnose import lab as labs
from diagnose.errors import SubjectError
from diagnose.lab import ROWS, Lab
from diagnose.subject import from_learner


@pytest.fixture
def device(monkeypatch):
    "A Lab that takes its device for CUDA, and fails the test if the subject's loss or model is run there."
    monkeypatch.setattr(Lab, "_on_cuda", property(lambda lab: True))
    asked = []
    for name in ("measure_scale", "run_trial"):
        monkeypatch.setattr(labs.trials, name, lambda *args, **kwargs: asked.append(args))
    return asked


def out_of_range():
    return digits(model=small_cnn(7))


def test_a_label_out_of_range_is_told_before_the_device_is_asked(device):
    lab = Lab(from_learner(out_of_range()), 0)
    assert lab.output.shape[1] == 7
    for ask in (lambda: lab.scale, lambda: lab.trial(), lambda: lab.gradients, lambda: lab.loss_of(lab.twin(), 0)):
        with pytest.raises(SubjectError, match=r"computing the loss.*out of bounds"):
            ask()
    assert not device


def test_a_token_out_of_range_is_told_before_the_device_is_asked(device):
    learn = text()
    learn.model.embedding = nn.Embedding(12, 16)
    lab = Lab(from_learner(learn), 0)
    with pytest.raises(SubjectError, match=r"forward pass.*out of range"):
        _ = lab.output
    with pytest.raises(SubjectError, match="out of range"):
        lab.trial()
    assert not device


@pytest.mark.parametrize("make", [digits, text, lambda: digits(cbs=MixUp())])
def test_healthy_subjects_are_asked_on_the_device(device, make):
    lab = Lab(from_learner(make()), 0)
    assert lab.gradients.has_gradient
    lab.trial()
    assert len(device) == 1


def test_another_error_on_the_cpu_is_not_taken_for_an_assertion(device):
    class OnItsDevice(nn.Module):
        def forward(self, out, y):
            if not torch.is_grad_enabled():
                raise RuntimeError("Expected all tensors to be on the same device")
            return nn.functional.cross_entropy(out, y)

    learn = digits(loss_func=OnItsDevice())
    learn.dls = loaders_of(*_digits(), bs=ROWS)
    lab = Lab(from_learner(learn), 0)
    lab.trial()
    assert len(device) == 1


def test_a_model_made_for_one_batch_size_gets_it():
    assert Lab(from_learner(fixed_batch_size()), 0).rows == 32
    assert Lab(from_learner(digits()), 0).rows == ROWS
