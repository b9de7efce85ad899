"""Input scale or offset is far from what the initialisation expects.

## What it is
Bytes of 0 to 255, columns in raw units (incomes, timestamps), or numbers that were divided twice.

## Why it stops learning
The first layer's outputs and gradients scale with its input. A common offset makes all rows look alike to it, and the
loss surface a long ravine: no one rate suits both its directions (LeCun et al. 1998, 4.3).

## How it is found
What goes into the first layer with weights: a mean or standard deviation of a channel or column beyond 20 (raw bytes
have about 120, standardised inputs 1), or all of them below 0.01.

## How it is proven
The same trial with that input standardised by the batch's own statistics: learned, and as it is not.

## How to fix
    Normalize.from_stats(*imagenet_stats)        # a batch transform for pictures
    procs = [Categorify, FillMissing, Normalize] # of a table

## What it looks like but is not
With a norm layer right behind the first layer, raw bytes are learned as well (measured for real failure F25): such a
batch is learned, and left alone. Bytes that the model scales itself are looked at behind that.

## Source
LeCun et al. 1998, "Efficient BackProp", 4.3; the notes' checklist, item 10; real failure F25.
"""

import torch
from fastai.learner import Learner
from torch import Tensor, nn

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import number, places, texts
from diagnose.changes import Change
from diagnose.checks.input_scale import MOST, by_channel
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

CHECK = "input-scale"
LEAST = 0.01  # mean and standard deviation of every channel below it: an hundredth of what is expected


class InputsNotNormalised(Cause):
    """Suspected when what reaches the first layer is of an odd size."""

    explains = ("lr-too-high", "lr-too-low", "init-constant")
    questions = (10,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        mean, std = number(findings, CHECK, "largest mean"), number(findings, CHECK, "largest standard deviation")
        layer = next(iter(places(findings, CHECK, "largest mean")), "")
        size = max(mean, std)
        if not (MOST < size < float("inf") or 0 < size < LEAST):
            return None
        norms = texts(findings, CHECK, "norm layers that ran")
        reason = f"what reaches {layer} has means up to {mean:.3g} and standard deviations up to {std:.3g}"
        return Suspicion(0.5 if norms else 0.9, reason, [layer], {"layer": layer})

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        name, seen = suspicion.facts["layer"], []
        model = lab.twin().model
        hook = _layer(model, name).register_forward_pre_hook(lambda m, args: seen.append(args[0].detach()))
        try:
            lab.forward(model)
        finally:
            hook.remove()
        if not seen or not seen[0].is_floating_point():
            raise NotApplicable(f"{name} takes no floating-point input")
        means, stds = by_channel(seen[0].float())
        stds = torch.where(stds > 1e-6 * means.abs().clamp_min(1e-6), stds, torch.ones_like(stds))
        shape = [1, -1, *[1] * (seen[0].ndim - 2)] if seen[0].ndim > 3 else [-1]

        def standardised(module: nn.Module, args: tuple) -> tuple[Tensor, ...]:
            x = args[0]
            return ((x - means.reshape(shape).to(x)) / stds.reshape(shape).to(x), *args[1:])

        def apply(twin: Learner) -> None:
            _layer(twin.model, name).register_forward_pre_hook(standardised)

        return Change(f"input of {name} standardised", apply, "x = (x - mean) / std")

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text=f"Standardise the inputs ({suspicion.reason}): subtract the mean and divide by the standard deviation "
            "of the training split, the same for validation.",
            code="Normalize.from_stats(mean, std)  # a batch transform; for a table, Normalize among its procs",
        )


def _layer(model: nn.Module, name: str) -> nn.Module:
    return dict(model.named_modules()).get(name, model)
