"""The loss becomes NaN or infinite.

## What it is
A symptom: somewhere a number overflowed, or was divided by zero.

## Why it stops learning
One NaN in one gradient makes every weight NaN, for good.

## How it is found
The one-batch trial stopped because the loss was not finite, or the first loss already is not.

## How it is proven
It is not: it is evidence, and stands last.

## How to fix
Read the causes before it; torch.autograd.set_detect_anomaly(True) names the operation.

## What it looks like but is not
A loss scaler of mixed precision skips steps with infinite gradients on purpose; the loss itself stays finite.

## Source
The notes' checklist, item 6.
"""

import math

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import number
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "overfit-one-batch"


class LossNonfinite(Cause):
    """Reported when the loss is not finite."""

    kind = "symptom"
    questions = (6,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        if findings.value(CHECK, "stopped") == "not finite":
            steps = number(findings, CHECK, "steps")
            return Suspicion(
                0.3, f"the loss became {number(findings, CHECK, 'last loss')} at step {steps:.0f}", ["the loss"]
            )
        first = findings.value("first-loss", "first loss")
        if isinstance(first, float) and not math.isfinite(first):
            return Suspicion(0.3, f"the first loss is {first}", ["the loss"])
        return None

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(text="This is what it looks like, not why: read the causes and the failed checks.", code="")
