"""Small seeded Learners on real data, healthy unless asked otherwise. Data come from scikit-learn."""

from __future__ import annotations

from functools import lru_cache

import torch
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from sklearn.datasets import load_diabetes, load_digits
from torch import nn
from torch.utils.data import TensorDataset

from diagnose.isolate import seed_everything


@lru_cache
def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    bunch = load_digits()
    return torch.tensor(bunch.images[:, None] / 16.0, dtype=torch.float32), torch.tensor(bunch.target)


def loaders_of(x: torch.Tensor, y: torch.Tensor, bs: int = 64, valid: int = 300) -> DataLoaders:
    train, held_out = TensorDataset(x[valid:], y[valid:]), TensorDataset(x[:valid], y[:valid])
    dl = DataLoader(train, bs=bs, shuffle=True, drop_last=True)
    return DataLoaders(dl, DataLoader(held_out, bs=bs), device=torch.device("cpu"))


def small_cnn(outputs: int = 10, dropout: float = 0.0) -> nn.Module:
    """Conv net with batch norm for 1×8×8 pictures."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Dropout(dropout)),
        nn.Linear(64, outputs),
    )


def digits(seed: int = 0, **kwargs) -> Learner:
    """Handwritten digits, ten classes, a small conv net."""
    seed_everything(seed)
    x, y = _digits()
    kwargs = {"loss_func": CrossEntropyLossFlat(), "lr": 3e-3, "metrics": accuracy, **kwargs}
    model = kwargs.pop("model", None) or small_cnn(dropout=kwargs.pop("dropout", 0.0))
    return Learner(loaders_of(x, y, bs=kwargs.pop("bs", 64)), model, **kwargs)


def diabetes(seed: int = 0, **kwargs) -> Learner:
    """Disease progression from ten measurements: regression by an MLP, targets standardised, shape (n, 1)."""
    seed_everything(seed)
    x, y = load_diabetes(return_X_y=True)
    x = torch.tensor(x / x.std(0), dtype=torch.float32)
    y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)[:, None]
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    return Learner(loaders_of(x, y, valid=100), model, **{"loss_func": nn.MSELoss(), "lr": 3e-3, **kwargs})


def probabilities(seed: int = 0) -> Learner:
    """A sigmoid before a loss that expects probabilities: healthy. Multi-label targets: odd, above 4."""
    seed_everything(seed)
    x, y = _digits()
    y = torch.stack([y % 2, (y > 4).long()], 1).float()
    model = nn.Sequential(small_cnn(2), nn.Sigmoid())
    return Learner(loaders_of(x, y), model, loss_func=nn.BCELoss(), lr=3e-3)


def softmax_and_nll(seed: int = 0) -> Learner:
    """Log-softmax inside the model, NLLLoss outside: healthy."""
    seed_everything(seed)
    return digits(seed, model=nn.Sequential(small_cnn(), nn.LogSoftmax(1)), loss_func=nn.NLLLoss())


def zero_last_layer(seed: int = 0) -> Learner:
    """The last layer starts at zero, as in many residual nets: healthy."""
    learn = digits(seed)
    nn.init.zeros_(learn.model[-1].weight)
    nn.init.zeros_(learn.model[-1].bias)
    return learn


def declared_freeze(seed: int = 0) -> Learner:
    """A frozen body under a head that trains, declared by learn.freeze(): healthy."""
    learn = digits(seed, splitter=lambda m: [list(m[:2].parameters()), list(m[2:].parameters())], lr=1e-2)
    learn.freeze()
    return learn


def summed_loss_under_adam(seed: int = 0) -> Learner:
    """A loss that sums over rows; Adam divides the factor out: healthy."""
    return digits(seed, loss_func=nn.CrossEntropyLoss(reduction="sum"))


def label_smoothing(seed: int = 0) -> Learner:
    """A loss whose floor is not zero: healthy."""
    return digits(seed, loss_func=nn.CrossEntropyLoss(label_smoothing=0.2))


def heavy_dropout(seed: int = 0) -> Learner:
    """Half of the units dropped: noisy and healthy."""
    return digits(seed, dropout=0.5)


class PairScores(nn.Module):
    """Scores every row against every row, as contrastive models do."""

    def __init__(self):
        super().__init__()
        self.encoder = small_cnn(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = nn.functional.normalize(self.encoder(x), dim=1)
        return z @ z.T * 10


class SameLabel(nn.Module):
    """Binary cross-entropy of pair scores against "have the same label"."""

    def forward(self, scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(scores, (y[:, None] == y[None]).float())


def pair_scores(seed: int = 0) -> Learner:
    """A model that mixes rows on purpose: healthy."""
    seed_everything(seed)
    return digits(seed, model=PairScores(), loss_func=SameLabel())


class StopGradient(nn.Module):
    """Two branches of one encoder, the gradient stopped on one (SimSiam): healthy."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = small_cnn(16), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.encoder(x), self.encoder(x.flip(-1)).detach()], 1))


def stop_gradient(seed: int = 0) -> Learner:
    """A detach on one of two branches: healthy."""
    seed_everything(seed)
    return digits(seed, model=StopGradient())


class NoGradBody(nn.Module):
    """A body used under no_grad, as people do for a linear probe: healthy."""

    def __init__(self):
        super().__init__()
        self.body, self.head = small_cnn(64), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            z = self.body(x)
        return self.head(z)


def no_grad_body(seed: int = 0) -> Learner:
    """A linear probe on random features: healthy, slow."""
    seed_everything(seed)
    return digits(seed, model=NoGradBody(), lr=1e-1)


def fine_tuning_rate(seed: int = 0) -> Learner:
    """A trained net fine-tuned at a tiny rate: healthy."""
    learn = digits(seed)
    with learn.no_bar(), learn.no_logging():
        learn.fit(2)
    learn.lr = 1e-5
    learn.opt = None
    return learn


class UnusedHead(nn.Module):
    """A second head that the forward pass does not use: healthy."""

    def __init__(self):
        super().__init__()
        self.body, self.extra = small_cnn(), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def unused_head(seed: int = 0) -> Learner:
    """A head that this task does not need: healthy."""
    seed_everything(seed)
    return digits(seed, model=UnusedHead())


class ThroughNumpy(nn.Module):
    """A trip through numpy between encoder and head, which no change to `detach` undoes: faulty."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = small_cnn(64), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.from_numpy(self.encoder(x).detach().numpy()))


HEALTHY = {
    f.__name__: f
    for f in (
        *(digits, diabetes, probabilities, softmax_and_nll, zero_last_layer, declared_freeze, summed_loss_under_adam),
        *(label_smoothing, heavy_dropout, pair_scores, stop_gradient, no_grad_body, fine_tuning_rate, unused_head),
    )
}
