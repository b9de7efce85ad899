"""A larger model fits the same batch; this one cannot.

## What it is
Hidden layers of a few units, in front of a task with many answers.

## Why it stops learning
What one unit lets through is one number: ten classes cannot be told apart by it.

## How it is found
The check `wider-narrower`: with twice or eight times the width more is learned of a batch that is not learned as it is.

## How it is proven
The same net with every hidden width times eight learns the same batch in as many steps. As it is, and drawn anew at its
own width, it does not: else it would be the initialisation.

## How to fix
    nn.Linear(128, 64)               # wider hidden layers, and more of them

## What it looks like but is not
Nets of usual width memorise any sixteen rows (Zhang et al. 2017): if a wider one learns no more it is something else,
and this cause is refuted.

## Source
Zhang et al. 2017, "Understanding deep learning requires rethinking generalization"; the notes' checklist, item 16.
"""

from diagnose.causes import NO_DIFFERENCE, Cause, Findings, Settled, Suspicion
from diagnose.causes._pairs import paired_with_control
from diagnose.causes._reading import number
from diagnose.changes import Change
from diagnose.checks.wider_narrower import hidden_widths
from diagnose.diagnosis import Fix
from diagnose.lab import Lab
from diagnose.trial import LEARNED

CHECK = "wider-narrower"
WIDER = 8.0


class CapacityTooSmall(Cause):
    """Suspected when a wider net learns more."""

    explains = ("lr-too-high", "lr-too-low", "head-too-weak")
    questions = (16,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        before = max(number(findings, CHECK, "learned", "as it is"), 0.0)
        for times, told in ((2, "twice"), (8, "eight times")):
            after = number(findings, CHECK, "learned", f"hidden widths times {times}")
            if before < LEARNED and after - before >= NO_DIFFERENCE:
                reason = f"{before:.0%} of the batch is learned, {after:.0%} with hidden layers {told} as wide"
                return Suspicion(0.6, reason, ["hidden widths"])
        return None

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        return hidden_widths(lab, WIDER)

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        return paired_with_control(
            lab, self.cure(lab, suspicion), hidden_widths(lab, 1.0), "learned when drawn anew at the same width"
        )

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(text="Widen the hidden layers.", code="nn.Linear(in_features, 64)  # eight times as wide was enough")
