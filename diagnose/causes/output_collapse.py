"""Predictions barely vary with the input: the model outputs a constant.

## What it is
A symptom. Whatever is wrong, this is what it looks like from outside: ".67 for everything".

## Why it stops learning
It does not; it is what a net does that has learned nothing but the base rate.

## How it is found
After the one-batch trial the outputs' spread over the rows is below a hundredth of their size, and nothing is learned.

## How it is proven
It is not: it is evidence, and stands last.

## How to fix
Read the causes before it.

## What it looks like but is not
Nearly constant targets are learned by nearly constant outputs: such a batch is learned, and is left alone.

## Source
The notes, D13; checklist items 3 and 17.
"""

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.checks.output_spread import LEARNED_SOMETHING, LEAST
from diagnose.diagnosis import Fix
from diagnose.lab import Lab


class OutputCollapse(Cause):
    """Reported when outputs do not vary and nothing is learned."""

    kind = "symptom"
    questions = (3, 17)

    def suspect(self, findings: Findings) -> Suspicion | None:
        relative = findings.value("output-spread", "relative spread", 1.0)
        learned = findings.value("output-spread", "learned", 1.0)
        if relative >= LEAST or learned >= LEARNED_SOMETHING:
            return None
        return Suspicion(
            0.3, f"after training the outputs vary by {relative:.2g} of their size over the batch", ["the output"]
        )

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(text="This is what it looks like, not why: read the causes and the failed checks.", code="")
