"""A rate that is too high is named, where one batch is learned with it too; a high one that learns is left alone."""

import torch
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from learners import digits, loaders_of
from naming import CauseTests
from sklearn.datasets import load_breast_cancer
from torch import nn

from diagnose.isolate import seed_everything

ID = "lr-too-high"
ONLY = ("overfit-one-batch", "optimizer-settings", "learning-rate-ladder")


def tumours(seed, lr=3e-3):
    "Rows of one batch are so far apart that any large step separates them."
    seed_everything(seed)
    x, y = load_breast_cancer(return_X_y=True)
    x = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
    model = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))
    return Learner(loaders_of(x, torch.from_numpy(y), valid=100), model, loss_func=CrossEntropyLossFlat(), lr=lr)


NAMED = [("lr-too-high", digits), ("lr-too-high", tumours)]
HEALTHY = {"as it is": digits, "ten times as high, and it learns": lambda seed: tumours(seed, lr=3e-2)}


class TestCause(CauseTests):
    id, named, healthy, only = ID, NAMED, HEALTHY, ONLY
