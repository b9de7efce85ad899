"""Losses as modules, each with the reduction of PyTorch: `mean` or `sum`."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class BCEWithLogits(nn.BCEWithLogitsLoss):
    """Binary cross-entropy of logits (B, n) against labels (B, n) of 0 and 1; `mean` is over all B x n labels."""

    def __init__(self, reduction: str = "mean"):
        super().__init__(reduction=reduction)


class SoftCrossEntropy(nn.Module):
    """Cross-entropy of softmax(logits) (B, n) against target distributions (B, n); `mean` is over the B rows."""

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Scalar loss in nats."""
        return F.cross_entropy(logits, target, reduction=self.reduction)


class SoftmaxMSE(nn.Module):
    """Squared error of softmax(logits) (B, n) against weights (B, n); `mean` is over all B x n weights."""

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Scalar loss."""
        return F.mse_loss(logits.softmax(-1), target, reduction=self.reduction)


LOSSES = {"bce": BCEWithLogits, "soft-ce": SoftCrossEntropy, "mse": SoftmaxMSE}
