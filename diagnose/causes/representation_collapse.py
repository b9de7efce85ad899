"""The encoder maps different inputs to nearly the same vector.

## What it is
Features that differ in their fifth digit: a constant that drowns them, a division by something huge, a checkpoint that
collapsed.

## Why it stops learning
The head has to tell rows apart by differences a hundred thousand times smaller than what they have in common.

## How it is found
The check `feature-collapse`: in both modes the features of different rows are apart by less than 1e-4 of their size,
while the inputs are apart by at least ten times as much. Healthy subjects start at 0.04 or more.

## How it is proven
The features are standardised, each by its mean and deviation over the first batch: the same batch is learned in as many
steps, and as it is not.

## How to fix
    z = self.norm(z)                 # a norm layer between encoder and head, and look for what drowns z

## What it looks like but is not
Positive features of an untrained net all point one way (cosine near 1) and are apart by much more. Features that are
equal to the last bit have another cause (saturated or dead units, a norm over one number), and no scale brings them
back: left to that cause.

## Source
Chen & He 2021, "Exploring simple Siamese representation learning" (collapse as spread zero); the notes, 9/3.
"""

import torch
from fastai.learner import Learner
from torch import Tensor, nn

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import number
from diagnose.changes import Change
from diagnose.checks.feature_collapse import APART, LESS
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

CHECK = "feature-collapse"
PLACE = "the input of "


class RepresentationCollapse(Cause):
    """Suspected when features of different rows hardly differ in either mode."""

    explains = ("lr-too-low", "lr-too-high", "capacity-too-small", "head-too-weak")

    def suspect(self, findings: Findings) -> Suspicion | None:
        train, apart, inputs = (number(findings, CHECK, "spread over rows", w) for w in ("train", "eval", "inputs"))
        if not (apart < APART and train < APART and apart < LESS * inputs):
            return None
        place = str(findings.value(CHECK, "features of", ""))
        reason = f"features of different rows are apart by {apart:.2g} of their size, the inputs by {inputs:.2g}"
        return Suspicion(0.85, reason, [place], {"place": place})

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        place = suspicion.facts["place"]
        if not place.startswith(PLACE):
            raise NotApplicable("the layer after the features is not known")
        name = place.removeprefix(PLACE)

        def apply(twin: Learner) -> None:
            parent, _, child = name.rpartition(".")
            setattr(twin.model.get_submodule(parent), child, _Standardises(twin.model.get_submodule(name)))

        return Change(f"features standardised before {name}", apply)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text=f"Look for what drowns the features at {suspicion.where[0]}: a constant, a division, a collapsed "
            "checkpoint. A norm layer there brings them back.",
            code="z = F.layer_norm(z, z.shape[-1:])  # before the head",
        )


class _Standardises(nn.Module):
    "A layer whose first input in training mode sets mean and deviation of all inputs."

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer, self.moments = layer, []

    def forward(self, z: Tensor) -> Tensor:
        if self.training and not self.moments:
            std = z.detach().std(0, keepdim=True, unbiased=False)
            self.moments += [z.detach().mean(0, keepdim=True), torch.where(std > 0, std, torch.ones_like(std))]
        return self.layer((z - self.moments[0]) / self.moments[1] if self.moments else z)
