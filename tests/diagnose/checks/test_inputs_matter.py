"""inputs-matter: F3, and models that use what they are given."""

import torch
from judging import judge_never_raises, judged, measured, nan_never_passes
from learners import digits, loaders_of, small_cnn
from torch import nn

ID = "inputs-matter"
NOTEBOOK = torch.rand(16, 1, 8, 8)  # a variable left over in the notebook


class ReadsGlobal(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = small_cnn()

    def forward(self, x):
        return self.body(NOTEBOOK[: len(x)])


class TwoInputs(nn.Module):
    def __init__(self, ignores_second=False):
        super().__init__()
        self.a, self.b, self.ignores = small_cnn(), small_cnn(), ignores_second

    def forward(self, x, z):
        return self.a(x) + self.b(x if self.ignores else z)


def two_inputs(ignores=False, mask=False):
    learn = digits(model=TwoInputs(ignores))
    x, y = torch.rand(400, 1, 8, 8), torch.randint(10, (400,))
    second = torch.ones_like(x) if mask else x.flip(-1)
    learn.dls = loaders_of(x, y, valid=100)
    for dl in learn.dls.loaders:
        tensors = dl.dataset.tensors
        dl.dataset.tensors = (tensors[0], second[: len(tensors[0])], tensors[1])
    learn.dls.n_inp = 2
    for dl in learn.dls.loaders:
        dl.n_inp = 2
    return learn


def test_two_inputs_that_both_matter():
    status, summary = judged(ID, two_inputs())
    assert status == "pass"
    assert "each of 2 inputs" in summary


def test_mask_of_ones_is_not_judged():
    assert judged(ID, two_inputs(ignores=True, mask=True)).status == "pass"


def test_f3_forward_that_reads_a_global():
    status, summary = judged(ID, digits(model=ReadsGlobal()))
    assert status == "fail"
    assert "by 0" in summary


def test_one_of_two_inputs_is_ignored():
    status, summary = judged(ID, two_inputs(ignores=True))
    assert status == "warn"
    assert "input 2" in summary


def test_judge():
    evidence = measured(ID, two_inputs())
    judge_never_raises(ID, evidence)
    nan_never_passes(ID, evidence)
