"""Regularisation pulls the weights to zero faster than the loss can build them.

## What it is
A weight decay of 10 where 0.01 was meant, or one that was chosen for another learning rate or another optimizer.

## Why it stops learning
Decoupled decay takes rate × decay of every weight at each step; an optimizer like Adam adds about one rate: weights
settle near 1 / decay. As an L2 term within Adam it outweighs the gradient of the loss, and only shrinks.

## How it is found
From the settings of the parameter groups: rate × decay of 1e-3 or more, a fifth of each weight over 200 steps, or a
decay of 0.1 or more, which as an L2 term is of the size of usual gradients. The usual 0.01 at 1e-3 takes 1e-5 a step.
Where the rate alone moves the weights by more than 10 times their size in the first step, a decay below 0.1 takes much
because of the rate, which is the defect then.

## How it is proven
The same batch, as many steps, with weight decay off: learned, and as it is not.

## How to fix
    learn.wd = 0.01          # or Learner(..., wd=0.01)

## What it looks like but is not
Decay of 0.1 in the training of large language models learns its batch, and is left alone. A rate that is too high
takes as much: it is the rate that has to change, even where one batch is learned with decay off.

## Source
Loshchilov & Hutter 2019, "Decoupled weight decay regularization"; the check `optimizer-settings`.
"""

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import by_place
from diagnose.changes import Change, settings
from diagnose.checks.optimizer_settings import HUGE_STEP
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "optimizer-settings"
SHARE = 1e-3  # of each weight, taken by one step
COUPLED = 0.1


class WeightDecayTooHigh(Cause):
    """Suspected when a group's decay takes a visible share of its weights within a trial."""

    explains = ("lr-too-high", "lr-too-low")

    def suspect(self, findings: Findings) -> Suspicion | None:
        rates, decays = by_place(findings, CHECK, "lr"), by_place(findings, CHECK, "wd")
        taken = {g: (rates.get(g, 0.0) * wd, wd) for g, wd in decays.items()}
        moves = by_place(findings, CHECK, "first step / weights")
        by_rate = {g for g, step in moves.items() if step > HUGE_STEP}
        high = {
            g: (share, wd) for g, (share, wd) in taken.items() if wd >= COUPLED or (share >= SHARE and g not in by_rate)
        }
        if not high:
            return None
        group = max(high, key=lambda g: high[g])
        share, wd = high[group]
        reason = f"weight decay {wd:.3g} takes {share:.2g} of each weight of {group} at every step"
        return Suspicion(0.9 if share >= SHARE else 0.6, reason, list(high))

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        return settings("weight decay off", "learn.wd = 0.", wd=0.0)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Lower the weight decay; 0.01 is a usual value, 0 while you look for faults.", code="learn.wd = 0.01"
        )
