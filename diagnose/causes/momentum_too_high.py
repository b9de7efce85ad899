"""Momentum or a beta is so high that updates overshoot or lag.

## What it is
A momentum of 0.999 in place of 0.9, or the two betas the wrong way round.

## Why it stops learning
Momentum m adds up 1 / (1 - m) steps: at 0.999 the same rate is a thousand times as long, and goes on in the old
direction for a thousand steps after the gradient has turned.

## How it is found
From the settings of the parameter groups: momentum above 0.97 (steps of more than 33 batches), or a second beta above
0.9995 or below 0.9. The usual values are 0.9 to 0.95 and 0.99 to 0.999.

## How it is proven
The same batch, as many steps, with momentum 0.9 and second beta 0.99: learned, and as it is not. One batch may be
learned on the first swing: then the same over eight different batches, to the last step.

## How to fix
    learn.opt_func = partial(Adam, mom=0.9, sqr_mom=0.99)

## What it looks like but is not
A high momentum with a rate that is as many times lower learns, and is left alone. A rate that is too high for momentum
0.9 is another cause.

## Source
Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning"; Kingma & Ba 2015.
"""

from diagnose.causes import Cause, Findings, Settled, Suspicion, paired_trial
from diagnose.causes._pairs import paired_on_several
from diagnose.causes._reading import by_place
from diagnose.changes import Change, settings
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "optimizer-settings"
MOST = 0.97
SQUARES = (0.9, 0.9995)


class MomentumTooHigh(Cause):
    """Suspected when momentum or a beta lies beyond the usual."""

    explains = ("lr-too-high", "lr-too-low", "gradient-clip-too-tight")
    when_learned = True

    def suspect(self, findings: Findings) -> Suspicion | None:
        odd = {f"momentum {v:g} of {g}": g for g, v in by_place(findings, CHECK, "mom").items() if v > MOST}
        low, high = SQUARES
        squares = by_place(findings, CHECK, "sqr_mom").items()
        odd |= {f"second beta {v:g} of {g}": g for g, v in squares if v < low or v > high}
        if not odd:
            return None
        strong = any(text.startswith("momentum") for text in odd)
        reason = f"{next(iter(odd))}, where 0.9 and 0.99 are usual"
        return Suspicion(0.85 if strong else 0.5, reason, list(dict.fromkeys(odd.values())))

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        return settings("momentum 0.9, second beta 0.99", mom=0.9, sqr_mom=0.99)

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        change = self.cure(lab, suspicion)
        return paired_on_several(lab, change) if lab.baseline.is_learned else paired_trial(lab, change)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Go back to the usual momentum and betas.",
            code="learn.opt = None\nlearn.opt_func = partial(Adam, mom=0.9, sqr_mom=0.99)  # SGD: mom=0.9",
        )
