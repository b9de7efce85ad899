"""Regression targets are far from unit scale, so that the head has to grow before anything is learned.

## What it is
Prices in cents, temperatures in kelvin, counts in millions, under a head that starts with outputs of about 1.

## Why it stops learning
The last layer must grow by the scale of the targets. Adam moves each weight by the learning rate a step, whatever the
gradient; plain gradient descent gets gradients as many times too large and diverges.

## How it is found
Targets are numbers of which the largest magnitude in the batch is above 20, or all below 0.01, as for inputs.

## How it is proven
The same trial with targets standardised by the batch's own mean and standard deviation: learned, and as it is not.

## How to fix
    y = (y - y_train.mean()) / y_train.std()     # and undo it on the predictions
    y_range = (y_train.min(), y_train.max())     # or give a tabular_learner the range

## What it looks like but is not
Targets with a mean of two or three standard deviations, or counts under a Poisson loss, are learned as they are: a
batch that is learned is left alone.

## Source
Bishop 1995, "Neural Networks for Pattern Recognition", 8.2; LeCun et al. 1998, "Efficient BackProp", 4.5.
"""

import torch
from fastai.learner import Learner
from torch import Tensor, nn

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import number, text, texts
from diagnose.changes import Change
from diagnose.checks.input_scale import MOST
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

CHECK = "loss-fits-targets"
LEAST = 0.01  # all targets below it in magnitude


class TargetsNotScaled(Cause):
    """Suspected when floating-point targets are of an odd size."""

    explains = ("lr-too-high", "lr-too-low", "loss-scale", "init-constant")

    def suspect(self, findings: Findings) -> Suspicion | None:
        least, largest = number(findings, CHECK, "least target"), number(findings, CHECK, "largest target")
        kind = (texts(findings, CHECK, "target") or [text(findings, CHECK, "target")])[0]
        size = max(abs(least), abs(largest))
        if "float" not in kind or not (MOST < size < float("inf") or 0 < size < LEAST):
            return None
        reason = f"targets go from {least:.3g} to {largest:.3g}, and outputs start at about 1"
        return Suspicion(0.9, reason, ["targets"], {"least": least, "largest": largest})

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        if len(lab.yb) != 1 or not isinstance(lab.yb[0], Tensor) or not lab.yb[0].is_floating_point():
            raise NotApplicable("it takes one floating-point target")
        y = lab.yb[0].detach().float()
        axes = 0 if y.ndim == 2 and y.shape[1] <= 16 else tuple(range(y.ndim))  # a column is a quantity of its own
        mean, std = y.mean(axes, keepdim=True), y.std(axes, keepdim=True)
        std = torch.where(std > 0, std, torch.ones_like(std))

        def apply(twin: Learner) -> None:
            twin.loss_func = _Standardised(twin.loss_func, mean, std)

        return Change("targets standardised", apply, "y = (y - mean) / std")

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text=f"Standardise the targets ({suspicion.reason}), and undo it on the predictions.",
            code="mean, std = y_train.mean(), y_train.std()\ny = (y - mean) / std\n# later: predictions * std + mean",
        )


class _Standardised(nn.Module):
    def __init__(self, loss_func, mean: Tensor, std: Tensor):
        super().__init__()
        self.loss_func, self.mean, self.std = loss_func, mean, std

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return self.loss_func(pred, ((target - self.mean.to(target)) / self.std.to(target)).to(target.dtype))
