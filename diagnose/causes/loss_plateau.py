"""The loss stays at the level of the best constant prediction.

## What it is
A symptom: ".67 for everything". The model has found the base rate, and nothing else.

## Why it stops learning
It does not; it is what a net does that learns nothing from its inputs.

## How it is found
After the full one-batch trial the loss lies within a twentieth of the way from the best constant to the floor.
Healthy subjects reach 0.95 of that way.

## How it is proven
It is not: it is evidence, and stands last.

## How to fix
Read the causes before it.

## What it looks like but is not
A loss whose floor equals that of the best constant has no way to go: nothing is said there.

## Source
The notes' checklist, item 17 and D12.
"""

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import number
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "overfit-one-batch"
NEAR = 0.05  # of the way from the best constant to the floor


class LossPlateau(Cause):
    """Reported when the loss ends where a constant stands."""

    kind = "symptom"
    questions = (17,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        learned, steps = number(findings, CHECK, "learned"), number(findings, CHECK, "steps")
        constant, floor = number(findings, CHECK, "best constant"), number(findings, CHECK, "floor")
        if not (abs(learned) < NEAR and steps >= 1 and constant > floor):
            return None
        last = number(findings, CHECK, "last loss")
        return Suspicion(
            0.3, f"after {steps:.0f} steps the loss is {last:.4g}, a constant has {constant:.4g}", ["the loss"]
        )

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(text="This is what it looks like, not why: read the causes and the failed checks.", code="")
