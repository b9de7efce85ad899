"""modes-agree: F7 and F28, batch norm on few rows."""

import pytest
import torch
from judging import judge_never_raises, judged, measured, nan_never_passes, passes_as_odd
from learners import digits, small_cnn
from torch import nn

from diagnose.checks._draws import DrawsAtTheirMean

ID = "modes-agree"


def head_on_pooled(norm=nn.BatchNorm1d):
    "fastai's head: batch norm, drop-out and Linear twice, on pooled features."
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        *(norm(64), nn.Dropout(0.25), nn.Linear(64, 32), nn.ReLU(), norm(32), nn.Dropout(0.5), nn.Linear(32, 10)),
    )


class OwnMode(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = small_cnn()

    def forward(self, x):
        return self.body(x) if self.training else self.body(torch.zeros_like(x) + x.mean() + 0.1 * x)


@pytest.mark.parametrize("bs", [16, 64])
def test_head_on_enough_rows(bs):
    assert judged(ID, digits(model=head_on_pooled(), bs=bs)).status == "pass"


def test_f7_batch_norm_on_two_rows():
    status, summary = judged(ID, digits(model=head_on_pooled(), bs=2))
    assert status == "warn"
    assert "batches of 2 rows" in summary
    assert judged(ID, digits(model=head_on_pooled(nn.LayerNorm), bs=2)).status == "pass"


def test_f28_head_on_eight_rows():
    status, summary = judged(ID, digits(model=head_on_pooled(), bs=8))
    assert status == "warn"
    assert "batches of 8 rows" in summary


def test_code_that_reads_training():
    status, summary = judged(ID, digits(model=OwnMode()))
    assert status == "warn"
    assert "64 rows" in summary


class Sampled(nn.Module):
    "A code of each picture, drawn around its mean in training mode, and the picture from it."

    def __init__(self, norm=nn.Identity):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), norm(32), nn.ReLU(), nn.Linear(32, 8), norm(8))
        self.decoder = nn.Sequential(nn.Linear(8, 32), norm(32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x):
        mean = self.encoder(x)
        return self.decoder(mean + torch.randn_like(mean) if self.training else mean)


class LeftOut(nn.Module):
    "A branch that is left out of rows at random, by hand."

    def __init__(self, mean=1.0):
        super().__init__()
        self.stem, self.branch, self.mean = nn.Linear(64, 10), nn.Linear(64, 10), mean

    def forward(self, x):
        x = x.flatten(1)
        kept = (torch.rand(len(x), 1) < 0.6) / 0.6 * self.mean if self.training else 1.0
        return self.stem(x) + 2 * kept * self.branch(x)


def test_a_model_that_draws_while_it_trains():
    fine = "with its random draws at their mean 0 is left of it"
    passes_as_odd(ID, digits(model=Sampled()), "batch statistics", fine)


def test_draws_whose_mean_is_not_the_mean_of_what_follows():
    passes_as_odd(ID, digits(model=LeftOut()), "batch statistics", "over 16 draws")


def test_draws_hide_no_batch_norm_on_two_rows():
    status, summary = judged(ID, digits(model=Sampled(nn.BatchNorm1d), bs=2))
    assert status == "warn"
    assert "batches of 2 rows" in summary
    assert judged(ID, digits(model=Sampled(nn.LayerNorm), bs=2)).status == "pass"


def test_draws_that_shift_the_output_on_average():
    assert judged(ID, digits(model=LeftOut(mean=3.0))).status == "warn"


def test_draws_at_their_mean():
    x, p = torch.full((2, 3), 0.5), torch.tensor([0.2, 0.8])
    with DrawsAtTheirMean():
        assert torch.randn_like(x).eq(0).all()
        assert torch.rand(3).eq(0.5).all()
        assert torch.normal(x, 1.0).equal(x)
        assert torch.bernoulli(p).equal(p)
        assert torch.empty(2).bernoulli_(0.3).eq(0.3).all()
        assert torch.empty(2).uniform_(1, 4).eq(2.5).all()
        assert torch.distributions.Normal(x, 1.0).rsample().equal(x)
        assert nn.functional.dropout(x, 0.5).equal(x)
    assert not torch.randn_like(x).eq(0).all()


def test_judge():
    evidence = measured(ID, digits())
    judge_never_raises(ID, evidence)
    nan_never_passes(ID, evidence)
