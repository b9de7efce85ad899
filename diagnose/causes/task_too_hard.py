"""An easier version of the same task is learned, this one is not, and no single change restores learning.

## What it is
A symptom, and the last resort: the code works on the easy version, so the difficulty is the difference.

## Why it stops learning
The step from nothing to the full task is too long for the model, the steps or the data at hand.

## How it is found
The check `easier-versions`: at least one version is learned on held-out rows to 0.3, and a later one, or the batch
itself, is not.

## How it is proven
It is not: it is evidence, and stands last.

## How to fix
Begin with the easier version and go on from its weights (a curriculum); more steps, a larger model, more data.

## What it looks like but is not
If the easiest version fails too, the fault is in the model or its training: nothing is said here.

## Source
Bengio et al. 2009, "Curriculum learning"; the notes' checklist, item 5, and 8/17.
"""

import math

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import by_place, number
from diagnose.checks import amount
from diagnose.checks.easier_versions import ENOUGH
from diagnose.diagnosis import Fix
from diagnose.lab import Lab
from diagnose.trial import LEARNED

CHECK = "easier-versions"


class TaskTooHard(Cause):
    """Reported when an easier version is learned and a harder one is not."""

    kind = "symptom"
    when_learned = True
    questions = (5,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        learned = by_place(findings, CHECK, "learned on held-out rows")
        scores = by_place(findings, CHECK, "score above the best constant")
        best = {
            w: max((x for x in (v, scores.get(w, math.nan)) if not math.isnan(x)), default=math.nan)
            for w, v in learned.items()
        }
        works = [w for w, v in best.items() if v >= ENOUGH]
        fails = [w for w, v in best.items() if v < ENOUGH]
        batch = number(findings, "overfit-one-batch", "learned")
        if not works or not (fails or batch < LEARNED):
            return None
        told = f"{fails[0]} is not" if fails else f"of the task itself {amount(batch)} of one batch is"
        return Suspicion(
            0.3, f"{works[-1]} is learned to {amount(best[works[-1]])} on held-out rows, {told}", ["the task"]
        )

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(text="Begin with the easier version, and go on from its weights.", code="")
