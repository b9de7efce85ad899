"""Adam's epsilon outweighs the gradients, so that steps shrink to a fraction of the learning rate.

## What it is
eps=1e-3, or 1, in an optimizer of Adam's kin, with gradients that are smaller.

## Why it stops learning
Adam's step is rate × m / (sqrt(v) + eps). Where eps is a hundred times the gradient the step is a hundredth of the
rate, and follows the gradient's size again, which is what Adam was taken to avoid.

## How it is found
From the settings and one gradient: eps above 1e-4 (PyTorch's default is 1e-8, fastai's 1e-5: somebody chose it) and
above four times the median absolute gradient, so that the median step is a fifth of what it would be.

## How it is proven
The same batch, as many steps, with eps = 1e-8: learned, and as it is not.

## How to fix
    learn.opt = None
    learn.opt_func = partial(Adam, eps=1e-8)

## What it looks like but is not
A large eps that a large rate makes up for learns, and is left alone. A rate that is too low is not cured by eps.

## Source
Kingma & Ba 2015, "Adam"; real failure F6 (eps=1e-3 with gradients of 1e-4: steps 11 times smaller); the check
`optimizer-settings`.
"""

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import by_place
from diagnose.changes import Change, settings
from diagnose.checks.optimizer_settings import DAMPED, LARGE_EPS
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "optimizer-settings"


class OptimizerEpsilonTooLarge(Cause):
    """Suspected when a chosen eps stands above the gradients."""

    explains = ("lr-too-low",)

    def suspect(self, findings: Findings) -> Suspicion | None:
        grads = by_place(findings, CHECK, "median |gradient|")
        every = by_place(findings, CHECK, "eps")
        large = {g: v for g, v in every.items() if v > LARGE_EPS and g in grads and v > DAMPED * grads[g]}
        if not large:
            return None
        group = max(large, key=lambda g: large[g])
        reason = f"eps {large[group]:g} of {group} is above the median absolute gradient {grads[group]:.2g}"
        return Suspicion(0.85, reason, list(large))

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        return settings("eps 1e-8", eps=1e-8)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(text="Use the default eps.", code="learn.opt = None\nlearn.opt_func = partial(Adam, eps=1e-8)")
