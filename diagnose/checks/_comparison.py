"""What the trials that locate a fault share: the subject as it is against the subject under one change."""

from __future__ import annotations

import math

from diagnose.changes import Change
from diagnose.checks import Check, Evidence, EvidenceList, Judgement, amount
from diagnose.checks._numbers import number
from diagnose.lab import Lab
from diagnose.trial import LEARNED, Scale, Trial

CLEAR = 0.3  # by how much a change must raise what is learned to point anywhere


class ComparedTrial(Check):
    """One batch learned under one change, beside the subject as it is. Locates a fault; never fails by itself."""

    stage = "trial"
    extra = True
    cost = "up to 200 steps on 16 rows"

    def change(self, lab: Lab) -> Change:
        """The one difference. Raises NotApplicable if it cannot be made."""
        raise NotImplementedError

    def scale(self, lab: Lab) -> Scale | None:
        """What the changed trial is measured against."""
        return lab.scale

    def measure(self, lab: Lab) -> EvidenceList:
        change = self.change(lab)
        lab.say(change.name)
        return told_of(lab, change, lab.trial(change, scale=self.scale(lab)))

    def judge(self, evidence: EvidenceList) -> Judgement:
        return compared(evidence)


def told_of(lab: Lab, change: Change, trial: Trial) -> EvidenceList:
    """What `compared` reads, and the curve."""
    return EvidenceList(
        [
            Evidence(name="change", value=change.name),
            Evidence(name="learned", value=lab.baseline.learned, unit="share", where="as it is"),
            Evidence(name="learned", value=trial.learned, unit="share", where="changed"),
            Evidence(name="steps", value=len(trial.loss), unit="steps", where="changed"),
            Evidence(name="loss", value=trial.loss, unit="loss", where="changed, every step"),
        ]
    )


def compared(evidence: EvidenceList) -> Judgement:
    """A change that lifts what is learned from below the mark by a clear margin is a pointer, hence a warning."""
    if evidence.get("learned", "as it is") is None or evidence.get("learned", "changed") is None:
        return Judgement("skip", "not measured")
    before, after = number(evidence, "learned", "as it is"), number(evidence, "learned", "changed")
    name = evidence.get("change")
    told = f"learned {amount(before)} of one batch as it is; {name}: {amount(after)}"
    if math.isnan(after):
        return Judgement("skip", f"{told}; the changed trial ended without a number")
    low = max(before, 0.0) if not math.isnan(before) else 0.0
    if not before >= LEARNED and after - low >= CLEAR:
        return Judgement(
            "warn", f"{told}: the fault may lie there (the mark is {LEARNED:g}, a clear difference {CLEAR:g})"
        )
    if math.isnan(before):
        return Judgement("skip", f"{told}; nothing to compare with")
    return Judgement("pass", told if before >= LEARNED else f"{told}: not the way out")
