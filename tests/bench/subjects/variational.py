"""A variational autoencoder of digits: a draw in the middle, a second term in the loss (Kingma and Welling 2014)."""

import torch
from _support import over, seeded
from learners import _digits
from torch import nn
from torch.nn import functional as F

odd = "outputs are random, and the loss has a floor that no free output reaches"
held_out = False


class Variational(nn.Module):
    """Mean and log-variance of eight numbers, a draw of them, and the picture."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 16))
        self.decoder = nn.Sequential(nn.Linear(8, 96), nn.ReLU(), nn.Linear(96, 64), nn.Unflatten(1, (1, 8, 8)))

    def forward(self, x):
        mean, log_variance = self.encoder(x).chunk(2, 1)
        drawn = mean + torch.randn_like(mean) * (log_variance / 2).exp() if self.training else mean
        return self.decoder(drawn), mean, log_variance


def loss(outputs, x):
    """Squared error of the picture plus a little of the divergence from the prior, per row."""
    picture, mean, log_variance = outputs
    divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
    return F.mse_loss(picture, x) + 2e-4 * divergence


def build(seed=0):
    seeded(seed)
    x, _ = _digits()
    return over((x,), (x,), Variational(), loss, lr=5e-3)
