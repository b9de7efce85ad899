"""Gradients fade by orders of magnitude from the last layers to the first.

## What it is
A symptom: the gradient that arrives at the first layer is a ten-thousandth of what arrives at the last.

## Why it stops learning
The first layers stay as they were drawn, and the last ones learn from noise.

## How it is found
The check `signal-through-depth`: the gradient at the last layer with weights over that at the first is above 1e4.
Healthy subjects span at most three orders of magnitude.

## How it is proven
It is not: it is evidence, and stands last.

## How to fix
Read the causes before it: initialisation, saturated activations, missing norm layers.

## What it looks like but is not
A trained net with a tiny loss has small gradients everywhere, which is no fading. A branch that starts at zero passes
exactly nothing at first: zeros are left out.

## Source
Glorot & Bengio 2010; the notes' checklist, item 7.
"""

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import by_place
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "signal-through-depth"
RATIO = 1e4


class GradientsVanishing(Cause):
    """Reported when the first layer gets a ten-thousandth of the last one's gradient."""

    kind = "symptom"
    questions = (7,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        sizes = {w: v for w, v in by_place(findings, CHECK, "gradient").items() if v > 0}
        if len(sizes) < 2:
            return None
        first, last = next(iter(sizes)), list(sizes)[-1]
        if not sizes[last] > RATIO * sizes[first]:
            return None
        return Suspicion(0.3, f"the gradient is {sizes[last]:.2g} at {last} and {sizes[first]:.2g} at {first}", [first])

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(text="This is what it looks like, not why: read the causes and the failed checks.", code="")
