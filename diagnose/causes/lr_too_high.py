"""The learning rate is too high: a lower one learns the same batch.

## What it is
Steps so long that the loss bounces, climbs or becomes NaN.

## Why it stops learning
A step beyond twice the inverse curvature raises the loss instead of lowering it (Goodfellow et al. 2016, 8.2).

## How it is found
The learning-rate ladder: the configured rate learns less than 0.2 of the fixed batch in 60 steps, a rung below it
more than 0.3; or the one-batch trial fails while a rung below learns. Or one batch is learned, as a large enough step
may throw its rows apart, although the first step moves the weights by more than 10 times their size (the check
`optimizer-settings`).

## How it is proven
The same batch, the same random numbers, as many steps, at the lower rate: learned, and at the configured rate not.
Where one batch is learned at both, eight different batches, at a rate whose first step moves the weights by about a
hundredth of their size.

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

from diagnose.causes import Findings, Settled, Suspicion
from diagnose.causes._pairs import paired_on_several
from diagnose.causes._reading import by_place, number
from diagnose.causes._rung import LADDER, RungCause
from diagnose.checks import amount
from diagnose.checks.optimizer_settings import HUGE_STEP
from diagnose.lab import Lab
from diagnose.trial import LEARNED

SOUND_STEP = 1e-2  # of the weights' size: the first step of Adam at a rate of 1e-3 moves usual weights so far


class LrTooHigh(RungCause):
    """Suspected when a rung below the configured rate learns more."""

    verb = "Lower"
    when_learned = True  # a step that throws the rows of one batch apart does not serve several
    questions = (6,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        if number(findings, "overfit-one-batch", "learned") >= LEARNED:
            return self._although_learned(findings)
        power = number(findings, LADDER, "powers of ten to the best rung")
        here = number(findings, LADDER, "learned at the configured rate")
        best = number(findings, LADDER, "learned at the best rung")
        if not (-math.inf < power < 0 and best >= 0.3):
            return None
        rate, rung = findings.value(LADDER, "configured rate"), findings.value(LADDER, "best rung")
        reason = f"at {rate} the ladder learns {amount(here)} of the batch, at {rung} {amount(best)}"
        return Suspicion(0.9, reason, [f"lr={rate}"], {"factor": 10.0**power})

    def _although_learned(self, findings: Findings) -> Suspicion | None:
        steps = by_place(findings, "optimizer-settings", "first step / weights")
        step = max(steps.values(), default=0.0)
        if not HUGE_STEP < step < math.inf:
            return None
        rates = by_place(findings, "optimizer-settings", "lr")
        reason = f"the first step moves the weights by {step:.3g} times their size"
        factor = 10.0 ** round(math.log10(SOUND_STEP / step))
        where = [f"lr={max(rates.values()):.3g}"] if rates else []
        return Suspicion(0.7, reason, where, {"factor": factor, "several": True})

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        if suspicion.facts.get("several"):
            return paired_on_several(lab, self.cure(lab, suspicion))
        return super().settle(lab, suspicion)
