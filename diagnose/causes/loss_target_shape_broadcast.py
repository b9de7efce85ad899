"""Prediction and target differ in shape, and broadcast silently.

## What it is
(n, 1) against (n,): the loss compares every prediction with every target, n × n.

## Why it stops learning
The best answer for all targets at once is their mean. No output is rewarded for following its own target.

## How it is found
Every operation inside the loss is watched for two tensors of equally many elements and different ranks.

## How it is proven
The same trial with the target brought to the prediction's shape inside the loss: learned, and as it is not.

## How to fix
    loss = F.mse_loss(pred.squeeze(-1), target)      # or target[:, None]

## What it looks like but is not
A pairwise comparison on purpose, (n, 1, d) against (1, n, d), has equal ranks. A weight per class, (c,) against (n,
c), has fewer elements. Both are left alone.

## Source
PyTorch's warning "Using a target size that is different to the input size"; the notes' checklist, items 1 and 4.
"""

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.changes import Change, aligned_loss
from diagnose.diagnosis import Fix
from diagnose.lab import Lab


class LossTargetShapeBroadcast(Cause):
    """Suspected when a tensor of rank r meets one of rank r + 1 and as many elements inside the loss."""

    explains = ("lr-too-high", "lr-too-low", "init-constant", "loss-double-activation")
    questions = (1, 4)

    def suspect(self, findings: Findings) -> Suspicion | None:
        seen = findings.value("loss-contract", "accidental broadcasts", [])
        if not seen:
            return None
        return Suspicion(1.0, f"inside the loss, {seen[0]} broadcasts", ["the loss"], {"seen": seen[0]})

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        return aligned_loss()

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text=f"Give prediction and target one shape before they meet ({suspicion.facts['seen']}).",
            code="loss = F.mse_loss(pred.squeeze(-1), target)   # or target.unsqueeze(-1)",
        )
