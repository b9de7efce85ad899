"""Gradients grow without bound, or outweigh the weights they update.

## What it is
A symptom: the gradient at the first layer is ten thousand times that at the last, or it grows ten-thousand-fold within
the one-batch trial, or is not finite.

## Why it stops learning
A single step throws away what was learned.

## How it is found
The checks `signal-through-depth` and `gradient-flow`, and the length of the gradient over the one-batch trial: more
than 1e4 times the first. Healthy subjects stay within a factor of a hundred.

## How it is proven
It is not: it is evidence, and stands last.

## How to fix
Read the causes before it: the learning rate, the initialisation, inputs or targets that are not scaled.

## What it looks like but is not
A single large gradient at the first step, which falls: only growth counts.

## Source
Pascanu et al. 2013, "On the difficulty of training recurrent neural networks"; the notes' checklist, item 7.
"""

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import by_place, texts
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "signal-through-depth"
RATIO = 1e4


class GradientsExploding(Cause):
    """Reported when gradients grow ten-thousand-fold, over the layers or the steps."""

    kind = "symptom"
    questions = (7,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        sizes = {w: v for w, v in by_place(findings, CHECK, "gradient").items() if v > 0}
        if len(sizes) > 1:
            first, last = next(iter(sizes)), list(sizes)[-1]
            if sizes[first] > RATIO * sizes[last]:
                reason = f"the gradient is {sizes[last]:.2g} at {last} and {sizes[first]:.2g} at {first}"
                return Suspicion(0.3, reason, [first])
        if broken := texts(findings, "gradient-flow", "gradient not finite"):
            return Suspicion(0.3, f"{len(broken)} gradients are not finite", broken)
        norms = findings.value("overfit-one-batch", "gradient norm", [])
        norms = [float(v) for v in norms if isinstance(v, (int, float))] if isinstance(norms, list) else []
        if len(norms) > 1 and norms[0] > 0 and max(norms) > RATIO * norms[0]:
            return Suspicion(
                0.3, f"the gradient grows from {norms[0]:.2g} to {max(norms):.2g} within the trial", ["the gradient"]
            )
        return None

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(text="This is what it looks like, not why: read the causes and the failed checks.", code="")
