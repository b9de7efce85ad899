"""gradient-flow: a part that is kept by no_grad, and one that is cut off."""

import torch
from judging import check_of, judge_never_raises, judged, measured, nan_never_passes, passes_as_odd
from learners import NoGradBody, digits, no_grad_body, small_cnn
from torch import nn

ID = "gradient-flow"


class DetachedBody(NoGradBody):
    "The same body with its output detached."

    def forward(self, x):
        return self.head(self.body(x).detach())


class NarrowBody(nn.Module):
    "A body under no_grad that gives two numbers, from which a linear head learns little."

    def __init__(self):
        super().__init__()
        self.body, self.head = small_cnn(2), nn.Linear(2, 10)

    def forward(self, x):
        with torch.no_grad():
            z = self.body(x)
        return self.head(z)


def test_linear_probe():
    summary = passes_as_odd(
        ID, no_grad_body(), "a cut graph: 10 of 14 trainable tensors", "97% is learned of one batch"
    )
    assert "it stops after body.3; is fine because that part runs under no_grad" in summary


def test_a_body_under_no_grad_that_had_to_learn():
    status, summary = judged(ID, digits(model=NarrowBody(), lr=1e-1))
    assert status == "fail"
    assert "10 of 14 trainable tensors move the output and get no gradient" in summary


def test_a_detached_body_is_cut_off_however_much_its_head_learns():
    evidence = measured(ID, digits(model=DetachedBody(), lr=1e-1))
    assert check_of(ID).judge(evidence).status == "fail"
    assert evidence.get("cut under no_grad") is False


def test_judge():
    evidence = measured(ID, no_grad_body())
    judge_never_raises(ID, evidence)
    nan_never_passes(ID, evidence, "learned without them")
