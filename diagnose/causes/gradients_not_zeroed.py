"""Gradients of earlier steps stay and add up.

## What it is
`zero_grad` is never called, or overridden: every step follows the sum of all gradients since the beginning.

## Why it stops learning
It is a momentum that never forgets. The weights run through the minimum and out at the other side, further each time.

## How it is found
Just before the backward pass that follows a step, parameters that the optimizer holds still have a gradient. In a
healthy subject it is exactly zero.

## How it is proven
The same batch, as many steps, with the gradients zeroed after each step: learned, and as it is not. Where one batch is
learned all the same, as under Adam, the same over eight different batches: without zeroing a digits net learns 0.31 of
them in 200 steps, with it 0.995 (two seeds); the mark is 0.8 and a difference of 0.3.

## How to fix
    learn.opt.zero_grad()     # after each step; fastai's Learner calls it: do not override it

## What it looks like but is not
Gradient accumulation on purpose keeps gradients between steps, not over a step. A subject that keeps them and learns
(fewer steps, a low rate) is warned of, not failed.

## Source
PyTorch documentation, "Zeroing out gradients in PyTorch"; the check `gradients-zeroed`. The comparison is with zero.
"""

from fastai.callback.core import Callback

from diagnose.causes import Cause, Findings, Settled, Suspicion, paired_trial
from diagnose.causes._pairs import paired_on_several
from diagnose.causes._reading import number, texts
from diagnose.changes import Change
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "gradients-zeroed"


class GradientsNotZeroed(Cause):
    """Suspected when a gradient is left after a step."""

    explains = ("lr-too-high", "lr-too-low", "momentum-too-high")
    when_learned = True

    def suspect(self, findings: Findings) -> Suspicion | None:
        left, first = number(findings, CHECK, "gradient left after a step"), number(findings, CHECK, "first gradient")
        if not left > 0:
            return None
        names = texts(findings, CHECK, "parameters with one left")
        reason = f"a gradient of {left:.2g} is left after a step (the first was {first:.2g}), in {len(names)} tensors"
        return Suspicion(0.95, reason, names)

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        return Change("gradients zeroed after each step", lambda twin: twin.add_cb(_Zeroes()), "learn.opt.zero_grad()")

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        change = self.cure(lab, suspicion)
        return paired_on_several(lab, change) if lab.baseline.is_learned else paired_trial(lab, change)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Zero the gradients after each step: fastai's Learner calls `opt.zero_grad()`, so look for what "
            "overrides or cancels it.",
            code="learn.opt.zero_grad()  # once after each learn.opt.step()",
        )


class _Zeroes(Callback):
    order = 1000

    def after_step(self):
        for p in self.learn.model.parameters():
            p.grad = None
