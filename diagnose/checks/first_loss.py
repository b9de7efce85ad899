"""The first loss stands near that of the best constant output (the init-bias trick).

## What it does
Compares the loss before any step, in training mode, with the loss of the best constant output (one output vector for
all rows, optimised under the user's own loss) and with the floor of free outputs.

## Why it matters
A net that knows nothing should start at the best constant. One that starts far above spends its first steps on
learning the last bias; one that starts far below has seen the answers.

## How it is judged
Fails if the first loss is not finite. Warns if it lies above the best constant by more than 25 times the distance
from there to the floor. Most healthy subjects start 0 to 0.4 of that distance above it
(reports/thresholds.md); for squared errors it is (mean / standard deviation)² of the target, 2 to 3 for
pictures scaled to [0, 1]; 25 is a mean of five standard deviations.

## What to do
Set the last bias to the base rate (logit of the class frequencies, or mean of the targets), or standardise the targets.

## Source
Karpathy 2019, "A Recipe for Training Neural Networks" (init well; verify loss at init); the notes' checklist, item 17.
"""

import math

from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.checks._numbers import number
from diagnose.lab import Lab

ABOVE = 25.0  # first loss above the best constant, as a share of the distance from there to the floor


class FirstLoss(Check):
    """Places the first loss on the subject's own scale."""

    stage = "probe"
    order = 20
    cost = "1 forward pass, the loss some hundred times"

    def measure(self, lab: Lab) -> EvidenceList:
        scale, first = lab.scale, lab.gradients.loss
        found = [
            Evidence(name="first loss", value=first, unit="loss", expected=f"about {scale.best_constant:.4g}"),
            Evidence(name="best constant", value=scale.best_constant, unit="loss"),
            Evidence(name="floor", value=scale.floor, unit="loss"),
            Evidence(name="above the best constant", value=-scale.learned(first), unit="share", expected=f"<= {ABOVE}"),
        ]
        theory = lab.task.best_constant() if lab.task else None
        if theory is not None:
            found.append(Evidence(name="best constant in theory", value=theory, unit="loss"))
        return EvidenceList(found)

    def judge(self, evidence: EvidenceList) -> Judgement:
        first, constant = number(evidence, "first loss"), number(evidence, "best constant")
        above, floor = number(evidence, "above the best constant"), number(evidence, "floor")
        if not math.isfinite(first):
            return Judgement("fail", f"the first loss is {first}")
        told = f"first loss {first:.4g}, best constant {constant:.4g}, floor {floor:.4g}"
        if not math.isfinite(floor):
            return Judgement("warn", f"the loss has no lower bound for these targets ({told})")
        if constant == floor or math.isnan(above):
            return Judgement("warn", f"the loss cannot tell the best constant from a perfect output ({told})")
        return Judgement("pass" if above <= ABOVE else "warn", told)
