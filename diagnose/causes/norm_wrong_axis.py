"""A normalisation layer treats the wrong dimension as features.

## What it is
GroupNorm with as many groups as channels behind a Linear layer, LayerNorm over a last axis of size 1, BatchNorm1d of a
(rows, slots, features) tensor, which takes the slots for features.

## Why it stops learning
A mean that is taken over one number leaves zero, whatever the input was: what comes after sees only the layer's bias.
Statistics per slot leave features of wildly different sizes.

## How it is found
The check `norm-axes`: a mean over a single number, or a BatchNorm1d that counts slots, as the Linear layer beside it
shows.

## How it is proven
That norm over the feature axis in its place: the same batch is learned in as many steps, and as it is not.

## How to fix
    nn.LayerNorm(features)               # (rows, ..., features)
    # or x.flatten(0, 1) before nn.BatchNorm1d(features), unflatten after it

## What it looks like but is not
Channels first, as Conv1d makes them, are right for BatchNorm1d. Slots taken for features often do harm and let the
batch be learned: warned of, not failed (real failure F8).

## Source
PyTorch's documentation of GroupNorm and BatchNorm1d; real failures F8 and F9; the notes' checklist, item 8.
"""

from fastai.learner import Learner
from torch import Tensor, nn
from torch.nn import functional as F

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import texts
from diagnose.changes import Change
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "norm-axes"


class NormWrongAxis(Cause):
    """Suspected when a norm takes means over one number, or slots for features."""

    explains = ("lr-too-high", "lr-too-low", "representation-collapse", "input-ignored", "head-too-weak")
    questions = (8,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        single, slots = (
            texts(findings, CHECK, "mean over one number"),
            texts(findings, CHECK, "slots taken for features"),
        )
        if single:
            return Suspicion(
                0.9, f"{single[0]} takes the mean of one number, which leaves 0", single, _names(single, slots)
            )
        if slots:
            return Suspicion(0.6, f"a norm counts slots for features: {slots[0]}", slots, _names(single, slots))
        return None

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        single, slots = suspicion.facts["single"], suspicion.facts["slots"]

        def apply(twin: Learner) -> None:
            for name in (*single, *slots):
                parent, _, child = name.rpartition(".")
                setattr(twin.model.get_submodule(parent), child, _OverFeatures(name in slots))

        return Change(f"norm over the features at {', '.join([*single, *slots])}", apply)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text=f"Normalise over the features: {suspicion.where[0]}.",
            code="nn.LayerNorm(features)  # or flatten to (rows, features) before nn.BatchNorm1d(features)",
        )


class _OverFeatures(nn.Module):
    "Normalises the last axis, or all axes but the rows."

    def __init__(self, last: bool):
        super().__init__()
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:] if self.last else x.shape[1:])


def _names(single: list[str], slots: list[str]) -> dict[str, list[str]]:
    return {"single": [t.split(" (", 1)[0] for t in single], "slots": [t.split(",", 1)[0] for t in slots]}
