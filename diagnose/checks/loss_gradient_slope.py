"""How the loss rises around its target: as the error, or as its square.

## What it does
Puts predictions at a distance δ from the target, for δ from 1e-3 to 1 of the target's spread, and fits the slope of
log(loss above its value at the target) against log δ, and that of the length of its gradient.

## Why it matters
A loss of slope 2 has a gradient that shrinks with the error and settles; one of slope 1, the error itself, pulls as
hard at an error of 0.001 as at 1, and jitters around the target by a step at the end.

## How it is judged
Tells the slope and passes: both are good losses. Warns if the loss is named for a square (MSE, squared) and rises with
slope 1, below 1.5. Not judged where the target does not minimise the loss, as in classification, or under an activation
that the loss applies itself: any outputs whose loss lies further below the target's than the smallest δ lifts it.

## What to do
Square the error (nn.MSELoss), use nn.SmoothL1Loss, or let the learning rate fall to the end.

## Source
Real failure F24 of the notes: a loss called "basically MSE" was the norm without its square, gradient length 1.0000 for
errors from 1 to 0.001.
"""

import math

import torch
from torch import Tensor

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, stated
from diagnose.checks._numbers import number
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import floats, tensors

DISTANCES = (1e-3, 1e-2, 1e-1, 1.0)
BETWEEN = 1.5
SQUARES = ("mse", "square", "l2")
ROOTS = ("rmse", "root")


class LossGradientSlope(Check):
    """Loss and gradient at four distances from the target."""

    stage = "probe"
    order = 8
    cost = "5 evaluations of the loss"

    def measure(self, lab: Lab) -> EvidenceList:
        outs, targets = tensors(lab.output), floats(lab.yb)
        if len(outs) != 1 or len(targets) != 1 or outs[0].shape != targets[0].shape or not outs[0].is_floating_point():
            raise NotApplicable("the target is no tensor of floating-point numbers in the shape of the output")
        target = targets[0].detach().float()
        copy, generator = lab.twin(), torch.Generator().manual_seed(lab.seed)
        size = float(target.std()) or 1.0
        aside = torch.randn(target.shape, generator=generator).sign().to(target) * size

        def loss_and_gradient(distance: float) -> tuple[float, float]:
            at = (target + distance * aside).requires_grad_(True)
            loss = lab.loss_of(copy, at)
            loss.backward()
            return float(loss.detach()), math.nan if at.grad is None else float(at.grad.norm())

        try:
            bottom = loss_and_gradient(0.0)[0]
            found = [loss_and_gradient(d) for d in DISTANCES]
        except NotApplicable:
            raise
        except Exception as e:
            raise NotApplicable(f"the loss of a prediction at the target raised {type(e).__name__}: {e}") from e
        rises = [loss - bottom for loss, _ in found]
        if not all(r > 0 for r in rises) or not bottom - lab.scale.floor <= min(rises):
            raise NotApplicable("the target itself is not the prediction of the least loss")
        name = type(copy.loss_func).__name__
        name = getattr(copy.loss_func, "__name__", name)
        return EvidenceList(
            [
                Evidence(name="slope of the loss", value=_slope(rises), expected="1 or 2"),
                Evidence(name="slope of the gradient", value=_slope([g for _, g in found]), expected="0 or 1"),
                Evidence(name="gradient", value=found[0][1], unit="norm", where=f"δ = {DISTANCES[0]:g}"),
                Evidence(name="gradient", value=found[-1][1], unit="norm", where=f"δ = {DISTANCES[-1]:g}"),
                Evidence(name="loss", value=name),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        if evidence.get("slope of the loss") is None:
            return Judgement("skip", "not measured")
        slope = number(evidence, "slope of the loss")
        near = number(evidence, "gradient", f"δ = {DISTANCES[0]:g}")
        far = number(evidence, "gradient", f"δ = {DISTANCES[-1]:g}")
        told = f"the loss rises as the error to the power of {stated(slope, 2)}"
        lengths = f"gradient {stated(near, 2)} at an error of {DISTANCES[0]:g}, {stated(far, 2)} at {DISTANCES[-1]:g}"
        if math.isnan(slope):
            return Judgement("warn", f"{told} ({lengths})")
        name = str(evidence.get("loss")).lower()
        called = any(w in name for w in SQUARES) and not any(w in name for w in ROOTS)
        if slope < BETWEEN and called:
            return Judgement("warn", f"{told}, not as its square, as the name {evidence.get('loss')} says ({lengths})")
        note = ": its gradient does not shrink near the target" if slope < BETWEEN else ""
        return Judgement("pass", f"{told}{note} ({lengths})")


def _slope(values: list[float]) -> float:
    "Least-squares slope of log value against log distance; NaN if a value is not positive."
    if not all(v > 0 and math.isfinite(v) for v in values):
        return math.nan
    x = torch.tensor(DISTANCES, dtype=torch.float64).log()
    y = torch.tensor(values, dtype=torch.float64).log()
    x = x - x.mean()
    return _ratio(x, y)


def _ratio(x: Tensor, y: Tensor) -> float:
    return float((x * (y - y.mean())).sum() / (x * x).sum())
