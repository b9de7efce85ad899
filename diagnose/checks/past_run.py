"""The last run made enough steps to say anything.

## What it does
Reads what fastai's recorder kept of the Learner's last `fit`: how many optimizer steps it made, and its losses; on the
scale of the fixed batch, where it began and where it ended.

## Why it matters
Six to twenty steps, and the verdict "does not learn": nothing learns in twenty steps. Epochs hide it: an "epoch" of one
batch is one step.

## How it is judged
Warns if the last run made fewer than 200 steps, the length of this tool's own trial, and ended with less than a tenth
of the way from the best constant to the floor. A run that got somewhere in fewer steps passes. A Learner that has not
been trained, was validated since (which empties the recorder), or has searched for its rate (`lr_find`: rates that only
rise, by a factor of 1000 or more), is not judged.

## What to do
Count steps, not epochs: at least a few hundred before a verdict.

## Source
Real failure F6 of the notes: experiments of 6 to 20 steps, judged as "same constant for everything".
"""

import math
from itertools import pairwise

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, amount
from diagnose.checks._numbers import number
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.trial import STEPS, WINDOW

NOTHING = 0.1  # of the way from the best constant to the floor
RISE = 1e3  # of the rate over a search for it; fastai's goes from 1e-7 to 10


class PastRun(Check):
    """Reads the recorder of the last fit."""

    stage = "probe"
    order = 22
    cost = "none beyond the scale of the loss"

    def measure(self, lab: Lab) -> EvidenceList:
        losses = [float(v) for v in getattr(getattr(lab.learn, "recorder", None), "losses", None) or []]
        if not losses:
            raise NotApplicable("the Learner keeps no losses of an earlier run")
        if _is_search(getattr(lab.learn.recorder, "lrs", None)):
            raise NotApplicable("the last run was a search for the learning rate (lr_find)")
        last = losses[-min(WINDOW, max(len(losses) // 2, 1)) :]
        return EvidenceList(
            [
                Evidence(name="steps", value=len(losses), unit="steps", expected=f">= {STEPS}"),
                Evidence(name="first loss", value=losses[0], unit="loss"),
                Evidence(name="last loss", value=sum(last) / len(last), unit="loss"),
                Evidence(name="learned by its end", value=lab.scale.learned(sum(last) / len(last)), unit="share"),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        steps, learned = number(evidence, "steps"), number(evidence, "learned by its end")
        first, last = number(evidence, "first loss"), number(evidence, "last loss")
        if not steps >= 1:
            return Judgement("skip", "not measured")
        told = f"the last run made {steps:.6g} steps, its loss went from {first:.4g} to {last:.4g}"
        if math.isnan(learned):
            return Judgement("skip", f"{told}; its loss has no place on the scale")
        if steps < STEPS and learned < NOTHING:
            return Judgement("warn", f"{told}: {amount(learned)} learned, in fewer than {STEPS} steps")
        return Judgement("pass", f"{told}: {amount(learned)} learned")


def _is_search(rates: object) -> bool:
    "Rates that only rise, by orders of magnitude, as no schedule that is played to its end does."
    rates = [float(r) for r in rates or []]
    rising = all(a < b for a, b in pairwise(rates))
    return len(rates) > 2 and rates[0] > 0 and rising and rates[-1] >= RISE * rates[0]
