"""Solvers that look at a few numbers of each picture instead of the picture: probes for statistical shortcuts."""

from __future__ import annotations

import torch

FOLDS = 4
RIDGE = 1e-3  # of the standardised features' variance, so that features that are all alike do no harm


def fitted(features: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Target (B, K) as least squares over features (B, F), their squares and products predict it, held out in 4 folds.

    Rows are in random order already, so folds take every fourth.
    """
    spread = features.std(0, keepdim=True)
    z = (features - features.mean(0, keepdim=True)) / spread.clamp_min(1e-4)
    upper = torch.triu_indices(z.shape[1], z.shape[1], device=z.device)
    products = (z[:, :, None] * z[:, None])[:, upper[0], upper[1]]
    x = torch.cat([torch.ones_like(z[:, :1]), z, products], 1).double()
    y = target.double()
    result = torch.zeros_like(y)
    fold = torch.arange(len(x), device=x.device) % FOLDS
    for k in range(FOLDS):
        known, held_out = x[fold != k], x[fold == k]
        square = known.T @ known + RIDGE * len(known) * torch.eye(x.shape[1], device=x.device, dtype=x.dtype)
        result[fold == k] = held_out @ torch.linalg.solve(square, known.T @ y[fold != k])
    return result.float()


def fitted_classes(features: torch.Tensor, target: torch.Tensor) -> float:
    """Share of classes (B,), or labels of 0 and 1, that `fitted` finds in features (B, F)."""
    one_hot = torch.nn.functional.one_hot(target.long())
    return (fitted(features, one_hot).argmax(1) == target.long()).float().mean().item()


def sharpness(images: torch.Tensor) -> torch.Tensor:
    """How much of each image's detail is of the finest scale, and of the next: features (B, 4) of (B, 3, S, S).

    Logarithms of the mean squared second differences across and down, at 1 px and at 2 px, over those at 2 px and at
    4 px. Interpolation between pixels lowers the first.
    """
    found = []
    for axis in (-1, -2):
        detail = []
        for step in (1, 2, 4):
            size = images.shape[axis] - 2 * step
            a, b, c = (images.narrow(axis, k * step, size) for k in range(3))
            detail.append((a - 2 * b + c).square().mean((-3, -2, -1)).clamp_min(1e-9).log())
        found += [detail[0] - detail[1], detail[1] - detail[2]]
    return torch.stack(found, 1)
