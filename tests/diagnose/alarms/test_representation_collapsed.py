"""Alarm representation-collapsed."""

import learners
import torch
import watched
from torch import nn


class Alike(nn.Module):
    """Two views of an item are to have the same features, and nothing keeps those of different items apart."""

    def forward(self, pred, y):
        first, second = nn.functional.normalize(pred, dim=1), nn.functional.normalize(pred.roll(1, 0), dim=1)
        return (first - second).square().sum(1).mean()


class OneDirection(nn.Module):
    """Keeps what varies along the first unit only, from a pass on."""

    def __init__(self, passes):
        super().__init__()
        self.left = passes

    def forward(self, x):
        self.left -= self.training
        return x if self.left > 0 else x * torch.eye(x.shape[1])[0] + 0.5


class Encoded(nn.Module):
    def __init__(self, encoder, head):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, x):
        return self.head(self.encoder(x))


def test_a_loss_without_negatives():
    torch.manual_seed(0)
    learn = watched.digits(model=Encoded(watched.mlp(64, 32, 16), nn.Identity()), loss_func=Alike(), lr=3e-2)
    watch = watched.fit(learn, 200, features="encoder")
    (alarm,) = watch.raised
    assert alarm.id == "representation-collapsed"
    assert "the features of different items point the same way" in alarm.message


def test_one_direction_is_left():
    torch.manual_seed(0)
    encoder = nn.Sequential(watched.mlp(64, 32), OneDirection(20))
    learn = watched.digits(model=Encoded(encoder, nn.Linear(32, 10)))
    (alarm,) = watched.fit(learn, 60).raised
    assert (alarm.id, alarm.step) == ("representation-collapsed", 40)
    assert "the features vary along one direction only" in alarm.message


def test_one_direction_is_enough_for_one_output():
    learn = learners.diabetes(0)
    learn.model = Encoded(nn.Sequential(*learn.model[:-1], OneDirection(20)), learn.model[-1])
    assert watched.fit(learn, 60, alarms=["representation-collapsed"]).raised == []


def test_features_equal_in_every_bit():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Hardtanh(2.0, 3.0))
    learn = watched.digits(model=Encoded(encoder, nn.Linear(32, 10)))
    (alarm,) = watched.fit(learn, 40, alarms=["representation-collapsed"]).raised
    assert alarm.step == 30  # the reading before the first step does not count
