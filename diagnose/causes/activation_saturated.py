"""Units sit in the flat part of a sigmoid, tanh or softmax and pass no gradient.

## What it is
Inputs of an activation that are a hundred times too large or too far from zero: raw dot products, a missing norm layer,
a bias far off.

## Why it stops learning
At 20 a sigmoid answers 1 in single precision, and its slope is exactly 0: no rate moves anything before it.

## How it is found
The check `activations`: at least nine of ten values of a hidden layer stand at their limits, or at least half of the
outputs while the whole gradient is exactly 0. Healthy layers stay below a fifth.

## How it is proven
What goes into the saturated activations is standardised, unit by unit, with the mean and the deviation of the first
pass: the same batch is learned in as many steps, and as it is not.

## How to fix
    x = self.norm(x)                 # or x / math.sqrt(x.shape[-1]), before the sigmoid

## What it looks like but is not
A trained classifier that is sure of its answers has saturated outputs and a small loss: left alone. Where the weights
start too large, or the inputs are not scaled, those causes stand first.

## Source
Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks"; real failure F2.
"""

from collections.abc import Callable
from typing import Any

import torch
from fastai.learner import Learner
from torch import Tensor
from torch.nn import functional as F

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._functions import Calling
from diagnose.causes._reading import by_place, number
from diagnose.changes import Change
from diagnose.checks.activations import HALF, MOST
from diagnose.diagnosis import Fix
from diagnose.lab import Lab
from diagnose.stats import AT_LIMIT

CHECK = "activations"
SIGMOIDS = {torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_, F.sigmoid, F.hardsigmoid}
TANHS = {torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_, F.tanh, F.hardtanh}
SOFTMAXES = {torch.softmax, Tensor.softmax, F.softmax, torch.log_softmax, Tensor.log_softmax, F.log_softmax}


class ActivationSaturated(Cause):
    """Suspected when nearly all values of an activation stand at their limits."""

    explains = ("lr-too-high", "lr-too-low", "representation-collapse", "capacity-too-small", "head-too-weak")
    questions = (18,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        layers = {w: v for w, v in by_place(findings, CHECK, "saturated").items() if v >= MOST}
        if layers:
            worst = max(layers, key=lambda w: layers[w])
            return Suspicion(
                0.8, f"{layers[worst]:.0%} of the values after {worst} stand at their limits", list(layers)
            )
        outputs, gradient = number(findings, CHECK, "saturated outputs"), number(findings, CHECK, "gradient")
        before = number(findings, CHECK, "learned before training")
        if (outputs >= HALF and gradient == 0) or (outputs >= MOST and before <= 0):
            reason = f"{outputs:.0%} of the outputs stand at their limits, the whole gradient is {gradient:.2g}"
            return Suspicion(0.8, reason, ["the output"])
        return None

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        def apply(twin: Learner) -> None:
            twin.model = Calling(twin.model, _Standardises())

        return Change("inputs of saturated activations standardised", apply)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text=f"Scale what goes into the activation at {suspicion.where[0]}: a norm layer, or a division by the "
            "square root of the width. At the output: return the scores, and leave the activation to the loss.",
            code="x = F.layer_norm(x, x.shape[-1:])  # before the activation",
        )


class _Standardises:
    "Standardises the input of each call that was saturated in the first pass in training mode, by that pass's numbers."

    def __init__(self):
        self.call, self.training, self.measured = 0, False, {}

    def begin(self, training: bool) -> None:
        self.call, self.training = 0, training

    def __call__(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        known = func in SIGMOIDS or func in TANHS or func in SOFTMAXES
        if not known or not args or not isinstance(args[0], Tensor):
            return func(*args, **kwargs)
        self.call += 1
        x = args[0]
        if self.training and self.call not in self.measured:
            self.measured[self.call] = _moments(x) if _saturated(func, x) else None
        moments = self.measured.get(self.call)
        if moments is not None and moments[0].shape[1:] == x.mean(0, keepdim=True).shape[1:]:
            args = ((x - moments[0]) / moments[1], *args[1:])
        return func(*args, **kwargs)


def _saturated(func: Callable, x: Tensor) -> bool:
    x = x.detach().float()
    if func in SOFTMAXES:
        return x.ndim > 1 and x.shape[-1] > 1 and float((x.softmax(-1).amax(-1) >= 1 - AT_LIMIT).float().mean()) >= HALF
    out = x.sigmoid() if func in SIGMOIDS else (x.tanh() + 1) / 2
    return float(((out <= AT_LIMIT) | (out >= 1 - AT_LIMIT)).float().mean()) >= HALF


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach()
    std = x.std(0, keepdim=True, unbiased=False)
    return x.mean(0, keepdim=True), torch.where(std > 0, std, torch.ones_like(std))
