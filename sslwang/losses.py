"""Losses as modules, each with PyTorch's reduction (`mean`, `sum`, `none`) and fastai's `activation` and `decodes`.

`activation` turns the network's outputs into what a person reads, and fastai's `get_preds` applies it; `decodes` turns
that into the answer. Half-precision outputs are taken to float32 before anything is summed or exponentiated.

Losses of metric learning look at scores (B, n): how much like the anchor each of n others is, the higher the more, as
the heads `embed-...` give them; labels (B, n) are 1 for positives and 0 for negatives.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from lightly.loss import NTXentLoss, VICRegLoss
from torch import nn
from torch.nn import functional as F

IGNORED = -100  # label of a cell that no loss looks at, as in PyTorch


def _precise(outputs: torch.Tensor) -> torch.Tensor:
    """Outputs in float32, or float64 if they are."""
    return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs


def _mean(values: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
    """Sum over `count`; 0, with gradients of 0, where nothing counts."""
    return values.sum() / torch.as_tensor(count, device=values.device).clamp_min(1)


class Loss(nn.Module):
    """What all losses share.

    Args:
        reduction: `mean` (each loss says over what), `sum` or `none`.

    Raises:
        ValueError: another reduction.
    """

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction {reduction!r}: give mean, sum or none")
        self.reduction = reduction

    def reduced(self, values: torch.Tensor, count: torch.Tensor | int | None = None) -> torch.Tensor:
        """Values under the reduction; `mean` divides by `count` where not all values count."""
        if self.reduction == "none":
            return values
        if self.reduction == "sum":
            return values.sum()
        return _mean(values, values.numel() if count is None else count)


class BCEWithLogits(Loss):
    """Binary cross-entropy -(y log s + (1 - y) log(1 - s)), s = sigmoid(logit).

    Logits and labels are (B, ...), labels in [0, 1]; `mean` is over all labels.
    """

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Loss in nats."""
        logits = _precise(logits)
        values = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
        return self.reduced(values)

    def activation(self, logits: torch.Tensor) -> torch.Tensor:
        """Probabilities."""
        return _precise(logits).sigmoid()

    def decodes(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Which labels are more likely than not."""
        return probabilities > 0.5


class CellCrossEntropy(Loss):
    """Cross-entropy -log softmax(logits)[y] of logits (B, ..., K) against classes (B, ...) int64.

    Classes of -100 are ignored; `mean` is over those that are not, and 0 where all are.
    """

    axis = -1  # of the classes, as fastai's losses call it

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Loss in nats."""
        flat = _precise(logits).flatten(0, -2)
        values = F.cross_entropy(flat, target.flatten(), ignore_index=IGNORED, reduction="none").reshape(target.shape)
        return self.reduced(values, (target != IGNORED).sum())

    def activation(self, logits: torch.Tensor) -> torch.Tensor:
        """Probabilities of the classes."""
        return _precise(logits).softmax(-1)

    def decodes(self, probabilities: torch.Tensor) -> torch.Tensor:
        """The likeliest class of each cell."""
        return probabilities.argmax(-1)


class SoftCrossEntropy(Loss):
    """Cross-entropy -sum_i y_i log softmax(logits / T)_i of logits (B, ..., n) against distributions (B, ..., n).

    `mean` is over the distributions. Softmax cannot say "none of them", so that the targets must sum to 1.

    Args:
        temperature: T > 0; `auto` is the square root of n (Vaswani et al. 2017), which keeps the softmax of wide
            outputs from saturating.
    """

    def __init__(self, reduction: str = "mean", temperature: float | Literal["auto"] = 1.0):
        super().__init__(reduction)
        self.temperature = _positive("temperature", temperature) if temperature != "auto" else temperature

    def _scaled(self, logits: torch.Tensor) -> torch.Tensor:
        auto = self.temperature == "auto"
        return _precise(logits) / (math.sqrt(logits.shape[-1]) if auto else self.temperature)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Loss in nats."""
        logits = self._scaled(logits)
        flat, shares = logits.flatten(0, -2), target.to(logits.dtype).flatten(0, -2)
        return self.reduced(F.cross_entropy(flat, shares, reduction="none").reshape(logits.shape[:-1]))

    def activation(self, logits: torch.Tensor) -> torch.Tensor:
        """Shares, which sum to 1."""
        return self._scaled(logits).softmax(-1)


class Regression(Loss):
    """A distance between what the activation makes of outputs and a target of the same shape.

    Args:
        activation: `softmax` (shares that sum to 1 over the last axis), `sigmoid` (each in [low, high]) or `none`.
        low, high: where `sigmoid` ends.

    Raises:
        ValueError: another activation, or high not above low.
    """

    def __init__(
        self,
        reduction: str = "mean",
        activation: Literal["softmax", "sigmoid", "none"] = "softmax",
        low: float = 0.0,
        high: float = 1.0,
    ):
        super().__init__(reduction)
        if activation not in ("softmax", "sigmoid", "none"):
            raise ValueError(f"activation {activation!r}: give softmax, sigmoid or none")
        if not low < high:
            raise ValueError(f"low {low} must be below high {high}")
        self.kind, self.low, self.high = activation, low, high

    def activation(self, outputs: torch.Tensor) -> torch.Tensor:
        """The predictions."""
        outputs = _precise(outputs)
        if self.kind == "softmax":
            return outputs.softmax(-1)
        return self.low + (self.high - self.low) * outputs.sigmoid() if self.kind == "sigmoid" else outputs

    def distance(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Distances before the reduction."""
        raise NotImplementedError

    def forward(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss.

        Raises:
            ValueError: outputs and target differ in shape; PyTorch would compare each row with every other.
        """
        if outputs.shape != target.shape:
            raise ValueError(f"outputs {tuple(outputs.shape)} and target {tuple(target.shape)} differ in shape")
        prediction = self.activation(outputs)
        return self.reduced(self.distance(prediction, target.to(prediction.dtype)))


class MSE(Regression):
    """Squared error (p - y)^2; `mean` is over all elements."""

    def distance(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Squared errors, element by element."""
        return (prediction - target).square()


class L1(Regression):
    """Absolute error abs(p - y); `mean` is over all elements. Its best constant is the median."""

    def distance(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Absolute errors, element by element."""
        return (prediction - target).abs()


class RowDistance(Regression):
    """Euclidean distance of a row's outputs from its target, sqrt(sum_i (p_i - y_i + 1e-6)^2); `mean` is over rows.

    `torch.nn.PairwiseDistance` as a loss; its small number keeps the slope finite where they are equal.
    """

    def distance(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Distances, row by row."""
        return F.pairwise_distance(prediction.flatten(1), target.flatten(1))


class MetricLoss(Loss):
    """What losses over scores (B, n) and labels (B, n) of 0 and 1 share: fastai shows the scores as they are."""

    def activation(self, scores: torch.Tensor) -> torch.Tensor:
        """The scores."""
        return _precise(scores)


class Contrastive(MetricLoss):
    """y d^2 / 2 + (1 - y) max(0, margin - d)^2 / 2 with the distance d = -score: positives are drawn to the anchor,
    negatives pushed as far as the margin.

    Hadsell, Chopra and LeCun 2006, equation 4. `mean` is over all B x n pairs.

    Args:
        margin: > 0; unit vectors are at most 2 apart.
    """

    def __init__(self, reduction: str = "mean", margin: float = 1.0):
        super().__init__(reduction)
        self.margin = _positive("margin", margin)

    def forward(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss."""
        d = -_precise(scores)
        y = target.to(d.dtype)
        return self.reduced((y * d.square() + (1 - y) * (self.margin - d).clamp_min(0).square()) / 2)


class Triplet(MetricLoss):
    """max(0, margin + s_n - s_p) over every pair of a positive p and a negative n of a row.

    Schroff, Kalenichenko and Philbin 2015 with scores in place of negative distances. `mean` is over the pairs of all
    rows, those without loss among them; a row without a positive or without a negative has no pair. `none` gives the
    sum of each row, (B,).

    Args:
        margin: > 0.
    """

    def __init__(self, reduction: str = "mean", margin: float = 0.2):
        super().__init__(reduction)
        self.margin = _positive("margin", margin)

    def forward(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss."""
        s, positive = _precise(scores), target > 0.5
        pairs = positive[:, :, None] & ~positive[:, None, :]
        excess = (self.margin + (s[:, None, :] - s[:, :, None])).clamp_min(0)
        return self.reduced(torch.where(pairs, excess, 0).sum((1, 2)), pairs.sum())


class NPair(MetricLoss):
    """log(1 + sum over the negatives n of exp(s_n - s_p)), for each positive p of a row.

    Sohn 2016, equation 6, scores being dot products; there a row has one positive, here `mean` is over the positives of
    all rows. `none` gives the sum of each row, (B,).
    """

    def forward(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Loss in nats."""
        s, positive = _precise(scores), target > 0.5
        differences = (s[:, None, :] - s[:, :, None]).masked_fill(positive[:, None, :], -torch.inf)
        values = F.pad(differences, (1, 0)).logsumexp(2)  # (B, positive, 0 and the negatives)
        return self.reduced(torch.where(positive, values, 0).sum(1), positive.sum())


class NTXent(MetricLoss):
    """-log of exp(s_p / T) over the sum of exp(s_i / T) of all n others, s being cosines.

    Chen et al. 2020, equation 1. With several positives a row's loss is the mean over them, which is cross-entropy
    against equal shares (L_out of Khosla et al. 2020). `mean` is over rows with a positive; the others have no loss.

    Args:
        temperature: T > 0.
    """

    def __init__(self, reduction: str = "mean", temperature: float = 0.1):
        super().__init__(reduction)
        self.temperature = _positive("temperature", temperature)

    def forward(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Loss in nats."""
        log_shares = (_precise(scores) / self.temperature).log_softmax(1)
        positive = (target > 0.5).to(log_shares.dtype)
        count = positive.sum(1)
        return self.reduced(-(positive * log_shares).sum(1) / count.clamp_min(1), (count > 0).sum())

    def activation(self, scores: torch.Tensor) -> torch.Tensor:
        """Shares of the others, which sum to 1."""
        return (_precise(scores) / self.temperature).softmax(1)


class Variational(Loss):
    """Negative evidence bound of a variational autoencoder, per pixel, in nats and less a constant:
    (sum of squared errors / 2 + beta KL) / pixels; KL sums (mean^2 + variance - 1 - log variance) / 2 over the code.

    Kingma and Welling 2014, a Gaussian decoder of variance 1; beta as in Higgins et al. 2017. `mean` is over the rows.

    Args:
        beta: >= 0, the weight of KL.
    """

    def __init__(self, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction)
        if beta < 0:
            raise ValueError(f"beta {beta} must not be below 0")
        self.beta = beta

    def forward(self, outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """Loss of (images (B, 3, H, W), means (B, D), log variances (B, D)) against images (B, 3, H, W)."""
        images, mean, log_variance = map(_precise, outputs)
        error = (images - target.to(images.dtype)).square().flatten(1).sum(1)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        return self.reduced((error + self.beta * divergence) / 2 / target[0].numel())

    def activation(self, outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """The images."""
        return _precise(outputs[0])


class ViewLoss(Loss):
    """What losses over whole batches of projections (B, 2, D) share, two views an image; targets are not looked at.

    `sum` is `mean` times B; the loss of one row alone does not exist.
    """

    compare: nn.Module

    def forward(self, projections: torch.Tensor, *targets: torch.Tensor) -> torch.Tensor:
        """The loss.

        Raises:
            ValueError: reduction `none`, or not two views.
        """
        if self.reduction == "none" or projections.ndim != 3 or projections.shape[1] != 2:
            raise ValueError(f"needs projections (B, 2, D) and mean or sum, got {tuple(projections.shape)}")
        with torch.autocast(projections.device.type, enabled=False):
            loss = self.compare(*_precise(projections).unbind(1))
        return loss * len(projections) if self.reduction == "sum" else loss


class SimCLR(ViewLoss):
    """NT-Xent over all 2 B views of a batch, each to find its other view among 2 B - 1 (lightly's `NTXentLoss`).

    Chen et al. 2020, equation 1; `mean` is over the views. Equal projections have ln(2 B - 1).

    Args:
        temperature: T > 0.
    """

    def __init__(self, reduction: str = "mean", temperature: float = 0.1):
        super().__init__(reduction)
        self.compare = NTXentLoss(_positive("temperature", temperature))


class VICReg(ViewLoss):
    """Invariance, variance and covariance of two batches of projections (lightly's `VICRegLoss`).

    25 times the mean squared difference of the views, 25 times the mean of max(0, 1 - standard deviation) of each
    feature, and the sum of squared covariances between features over D (Bardes et al. 2022, equation 6). Needs B > 1.
    Equal projections have 25 x 0.99: their variance is 0, and lightly adds 1e-4 under the root.
    """

    def __init__(self, reduction: str = "mean"):
        super().__init__(reduction)
        self.compare = VICRegLoss()


def _positive(name: str, value: float) -> float:
    if not value > 0 or math.isinf(value):
        raise ValueError(f"{name} {value} must be above 0")
    return value


LOSSES: dict[str, type[Loss]] = {
    "bce": BCEWithLogits,
    "ce": CellCrossEntropy,
    "soft-ce": SoftCrossEntropy,
    "mse": MSE,
    "l1": L1,
    "distance": RowDistance,
    "contrastive": Contrastive,
    "triplet": Triplet,
    "n-pair": NPair,
    "nt-xent": NTXent,
    "vae": Variational,
    "simclr": SimCLR,
    "vicreg": VICReg,
}
