"""The learning rate is too high: a lower one learns the same batch.

## What it is
Steps so long that the loss bounces, climbs or becomes NaN.

## Why it stops learning
A step beyond twice the inverse curvature raises the loss instead of lowering it (Goodfellow et al. 2016, 8.2).

## How it is found
The learning-rate ladder: the configured rate learns less than 0.2 of the fixed batch in 60 steps, a rung below it
more than 0.3; or the one-batch trial fails while a rung below learns.

## How it is proven
The same batch, the same random numbers, as many steps, at the lower rate: learned, and at the configured rate not.

## How to fix
    learn.lr = 1e-3          # the rung that the report names
    learn.fit_one_cycle(5, lr_max=1e-3)

## What it looks like but is not
An initialisation or a loss many times too large also learns at a lower rate. If one of those is proven it stands
first. A GAN-like oscillation is not judged by one batch.

## Source
The notes' checklist, item 6; real failure F22.
"""

import math

from diagnose.causes import Findings, Suspicion
from diagnose.causes._rung import LADDER, RungCause
from diagnose.checks import amount


class LrTooHigh(RungCause):
    """Suspected when a rung below the configured rate learns more."""

    verb = "Lower"
    questions = (6,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        power = findings.value(LADDER, "powers of ten to the best rung", 0)
        here = findings.value(LADDER, "learned at the configured rate", math.nan)
        best = findings.value(LADDER, "learned at the best rung", math.nan)
        if not (power < 0 and best >= 0.3):
            return None
        rate, rung = findings.value(LADDER, "configured rate"), findings.value(LADDER, "best rung")
        reason = f"at {rate} the ladder learns {amount(here)} of the batch, at {rung} {amount(best)}"
        return Suspicion(0.9, reason, [f"lr={rate}"], {"factor": 10.0**power})
