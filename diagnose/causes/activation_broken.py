"""A hand-written activation is wrong or unfit for the model; a built-in one learns.

## What it is
A Mish or Swish with a slip in the formula, one that is flat where the inputs are, one that answers with almost nothing.

## Why it stops learning
Every layer passes through it, forward and backward: what it loses is lost for the whole net.

## How it is found
A module without parameters and children that treats each number by itself and does not come from PyTorch or fastai, in
a subject that does not learn its batch.

## How it is proven
LeakyReLU in its place throughout: the same batch is learned in as many steps, and as it is not.

## How to fix
    self.act = nn.Mish()         # or compare the own one with its formula by torch.autograd.gradcheck

## What it looks like but is not
An own activation with which the batch is learned is left alone. One that cuts the graph (rounding, numpy) is that
cause.

## Source
The notes' checklist, item 18; the check `builtin-activation`.
"""

import math

from diagnose.causes import CLEAR, Cause, Findings, Suspicion
from diagnose.causes._reading import number
from diagnose.changes import Change
from diagnose.checks.builtin_activation import BuiltinActivation
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "builtin-activation"


class ActivationBroken(Cause):
    """Suspected when built-in activations learn more than the own ones."""

    explains = ("lr-too-high", "lr-too-low", "capacity-too-small", "head-too-weak")
    questions = (18,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        before, after = number(findings, CHECK, "learned", "as it is"), number(findings, CHECK, "learned", "changed")
        low = 0.0 if math.isnan(before) else max(before, 0.0)
        if not after - low >= CLEAR:
            return None
        change = findings.value(CHECK, "change", "LeakyReLU")
        return Suspicion(0.9, f"{low:.0%} of the batch is learned, {after:.0%} with {change}", ["the activations"])

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        return BuiltinActivation().change(lab)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Use a built-in activation, or compare values and gradient of the own one with its formula.",
            code="self.act = nn.LeakyReLU()  # or nn.Mish(), nn.SiLU()",
        )
