"""Rows that mix: named and proven, with a fix for the inputs at hand; batch norm and scores of pairs are left alone."""

import torch
from learners import digits, small_cnn
from naming import examined, is_left_alone, is_named
from torch import nn

from diagnose.examination import examine
from diagnose.subject import from_task

ID = "batch-mixing"


class Exchanged(nn.Module):
    """Channels and rows are exchanged before they are flattened."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU())
        self.out = nn.Linear(16 * 16, 10)

    def forward(self, x):
        return self.out(self.conv(x).permute(1, 0, 2, 3).reshape(len(x), -1))


class Centred(nn.Module):
    """The mean over the batch is taken away, also in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.net = small_cnn(10)

    def forward(self, x):
        outputs = self.net(x)
        return outputs - outputs.mean(0)


def test_an_exchange_of_rows_and_channels_is_named_with_its_place():
    first = is_named(examined(digits(model=Exchanged())), ID)
    assert "apart after conv, mixed at the input of out" in first.summary
    assert "x.flatten(1)" in first.fix.code
    assert "roles" not in first.fix.code


def test_a_mean_over_the_batch_is_named():
    is_named(examined(digits(model=Centred())), ID)


def test_roles_stacked_the_wrong_way_are_told_how_to_stack_them(monkeypatch):
    subject = from_task("unmix", {}, 0, "cpu")

    def catenated(self, *images):
        maps = self.encoder(torch.cat(images)).mean((-2, -1))
        return maps.view(len(images[0]), len(images), -1).sum(2)[:, 1:]

    monkeypatch.setattr(type(subject.learner.model), "forward", catenated)
    first = is_named(examine(subject, only=["row-independence"]), ID)
    assert "unflatten(0, (rows, roles))" in first.fix.code


def test_batch_norm_in_training_mode_is_left_alone():
    net = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))
    is_left_alone(examined(digits(model=net)), ID)
