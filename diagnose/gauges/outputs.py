"""What the model answers: spread, constancy, confidence, entropy, agreement with the base rate.

## What is recorded
`output_variance` over the batch, averaged over units; `output_spread` and `output_spread_within`, the standard
deviation between items and between the units of one item; `output_constant`, the share of items whose answer is the
batch's mean answer to 1e-6; and where the loss takes outputs for probabilities: `output_confidence` (of the most
likely class, or of 1) and `output_confidence_std`, `output_entropy` (1 is undecided), `output_top_class` and
`target_top_class` (largest share of one class among answers and targets), `output_calibration` (total variation between
the mean prediction and the targets' frequencies, 0 to 1).

## How it is measured
From up to 64 items or places of the step's first output, in training mode; softmax or sigmoid as the loss implies.

## What it costs
About 30 µs a step on one core.

## What it looks like but is not
A spread of zero before the first step is right where the last layer starts at zero.

## Source
The notes' own gauges (mean soft prediction and its standard deviation); Guo et al. 2017 for calibration.
"""

import math

import torch
from torch import Tensor

from diagnose.gauges import Block, Columns, Gauge
from diagnose.gauges._predictions import Kept, by_place, keep, probabilities, stacked


class Outputs(Gauge):
    """Statistics of the predictions."""

    def after_loss(self, moment, learn) -> None:
        if kept := keep(moment, learn):
            moment.kept[self.id] = kept

    def rows(self, block: Block) -> Columns:
        found: dict[str, list] = {}
        for places, kept in stacked(block.kept(self.id)):
            for name, values in by_place(places, _of(kept)).items():
                found.setdefault(name, []).extend(values)
        return {name: block.column(values) for name, values in found.items()}


def _of(kept: Kept) -> dict[str, Tensor]:
    pred = kept.pred  # [moments, items, units]
    centre = pred.mean(1, keepdim=True)
    away = pred - centre
    variance = away.square().mean(1)  # [moments, units]
    scale = centre.abs().amax((1, 2)).clamp_min(1e-30)
    found = {
        "output_variance": variance.mean(1),
        "output_spread": variance.sqrt().mean(1),
        "output_constant": (away.abs().amax(2) <= 1e-6 * scale[:, None]).float().mean(1),
    }
    if pred.shape[2] > 1:
        within = pred - pred.mean(2, keepdim=True)  # `std` over an axis as short takes six times as long
        found["output_spread_within"] = within.square_().mean(2).sqrt_().mean(1)
    p = probabilities(pred, kept.link)
    if p is None:
        return found
    many = kept.link in ("softmax", "exp") and p.shape[2] > 1
    confidence = p.amax(2) if many else p.mean(2)
    found |= {"output_confidence": confidence.mean(1), "output_confidence_std": confidence.std(1, unbiased=False)}
    if many:
        entropy = -(p * p.clamp_min(1e-30).log()).sum(2) / math.log(p.shape[2])
        answers = p.argmax(2)
        found["output_top_class"] = _top_share(answers, p.shape[2])
    else:
        q = p.clamp(1e-7, 1 - 1e-7)
        entropy = (-(q * q.log() + (1 - q) * (1 - q).log()) / math.log(2)).mean(2)
    found["output_entropy"] = entropy.mean(1)
    if kept.target is None:
        return found
    if many and kept.target.ndim == 2:
        share = _shares(kept.target, p.shape[2])
        found["target_top_class"] = share.amax(1)
        found["output_calibration"] = (p.mean(1) - share).abs().sum(1) / 2
    elif kept.target.shape == p.shape:
        found["output_calibration"] = (p.mean(1) - kept.target.float().mean(1)).abs().mean(1)
    return found


def _shares(classes: Tensor, count: int) -> Tensor:
    "[moments, count] share of each class; what is no class (padding, −100) counts for none."
    known = (classes >= 0) & (classes < count)
    shares = torch.zeros((len(classes), count), device=classes.device)
    shares.scatter_add_(1, torch.where(known, classes, 0).long(), known.float())
    return shares / known.sum(1, keepdim=True).clamp_min(1)


def _top_share(classes: Tensor, count: int) -> Tensor:
    return _shares(classes, count).amax(1)
