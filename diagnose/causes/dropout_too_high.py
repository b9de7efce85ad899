"""Dropout removes so much that a single batch cannot be fitted.

## What it is
A rate of 0.95, or one that was meant as the share to keep; several drop-outs in a row.

## Why it stops learning
At rate p a share of 1 - p comes through, scaled by 1 / (1 - p): close to 1 every step sees another net, and its noise
outweighs what the labels say.

## How it is found
The check `dropout` finds rates of 0.5 or more, or `without-dropout` learns more than the subject as it is. The usual
rates are 0.1 to 0.5.

## How it is proven
Every drop-out off, those inside recurrent and attention modules included: the same batch is learned in as many steps,
and as it is not.

## How to fix
    for m in learn.model.modules():
        if isinstance(m, nn.Dropout): m.p = 0.2

## What it looks like but is not
Half of the units dropped makes learning slower, and the batch is learned: left alone.

## Source
Srivastava et al. 2014, "Dropout", 7.3 (rates of 0.2 to 0.5); real failure F28; the checks `dropout`, `without-dropout`.
"""

from diagnose.causes import CLEAR, Cause, Findings, Suspicion
from diagnose.causes._reading import by_place, number
from diagnose.changes import Change
from diagnose.checks.without_dropout import WithoutDropout
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

HIGH = 0.5


class DropoutTooHigh(Cause):
    """Suspected from rates of a half on, or if more is learned without."""

    explains = ("lr-too-high", "lr-too-low", "capacity-too-small", "head-too-weak")

    def suspect(self, findings: Findings) -> Suspicion | None:
        rates = {w: v for w, v in by_place(findings, "dropout", "rate").items() if v >= HIGH}
        if rates:
            worst = max(rates, key=lambda w: rates[w])
            strength = min(max(rates[worst], HIGH), 0.95)
            return Suspicion(strength, f"drop-out of {rates[worst]:.3g} at {worst}", list(rates))
        before = number(findings, "without-dropout", "learned", "as it is")
        after = number(findings, "without-dropout", "learned", "changed")
        if not after - max(before, 0.0) >= CLEAR:
            return None
        return Suspicion(
            0.9, f"{max(before, 0.0):.0%} of the batch is learned, {after:.0%} without drop-out", ["drop-out"]
        )

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        return WithoutDropout().change(lab)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Lower the drop-out rate; set it to 0 while you look for faults.",
            code="for m in learn.model.modules():\n    if isinstance(m, nn.Dropout):\n        m.p = 0.2",
        )
