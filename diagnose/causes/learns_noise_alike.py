"""Training on real inputs looks no better than on noise: what the model learns does not come from the inputs.

## What it is
A symptom: with noise for inputs, or labels permuted anew at every step, as much is learned as from the real batch.

## Why it stops learning
There is nothing to learn in what reaches the model, or it does not look.

## How it is found
The check `real-against-random`: the real batch is learned by less than 0.3 more than noise or permuted labels.

## How it is proven
It is not: it is evidence, and stands last.

## How to fix
Read the causes before it: the inputs, the labels, the forward pass.

## What it looks like but is not
A fixed batch of noise can be memorised by any net with enough capacity: the check draws it anew at every step.

## Source
Zhang et al. 2017, "Understanding deep learning requires rethinking generalization"; the notes, D1 and D17.
"""

import math

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import number
from diagnose.checks import amount
from diagnose.checks.real_against_random import MARGIN
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "real-against-random"


class LearnsNoiseAlike(Cause):
    """Reported when random inputs or labels do as well."""

    kind = "symptom"

    def suspect(self, findings: Findings) -> Suspicion | None:
        real = number(findings, CHECK, "learned from the real batch")
        random = [number(findings, CHECK, f"learned from {name}") for name in ("noise inputs", "permuted labels")]
        random = [v for v in random if math.isfinite(v)]
        if not random or not real - max(*random, 0.0) < MARGIN:
            return None
        reason = f"{amount(real)} is learned of the real batch, {amount(max(random))} without its content"
        return Suspicion(0.3, reason, ["the inputs"])

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(text="This is what it looks like, not why: read the causes and the failed checks.", code="")
