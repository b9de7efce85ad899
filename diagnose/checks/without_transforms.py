"""Without random transforms, no more is learned.

## What it does
Reads the first batch again with fastai's random transforms taken out (those of the items and those of the batch), in a
loader of its own, and learns it beside the fixed batch as it is.

## Why it matters
An augmentation that is too strong, or that moves an image without its target, leaves nothing to be learned.

## How it is judged
Warns if less than 0.8 of the batch is learned as it is, and 0.3 more without random transforms. It only locates a
fault, and never fails.

## What to do
Put the transforms back one by one, and look at `learn.dls.show_batch()` each time.

## Source
Karpathy 2019, "A Recipe for Training Neural Networks" (visualise just before the net).
"""

from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.checks._comparison import compared
from diagnose.checks._items import without_random
from diagnose.checks._probing import trial_on
from diagnose.isolate import loaders
from diagnose.lab import ROWS, Lab, few_rows


class WithoutTransforms(Check):
    """The batch read without random transforms."""

    stage = "trial"
    order = 74
    extra = True
    cost = "up to 200 steps on 16 rows"

    def measure(self, lab: Lab) -> EvidenceList:
        plain, left_out = without_random(loaders(lab.learn)[0])
        batch = few_rows(lab.read(plain, 1)[0], ROWS)
        lab.say("without random transforms")
        trial = trial_on(lab, [batch])
        return EvidenceList(
            [
                Evidence(name="change", value=f"no {', '.join(left_out)}"),
                Evidence(name="learned", value=lab.baseline.learned, unit="share", where="as it is"),
                Evidence(name="learned", value=trial.learned, unit="share", where="changed"),
                Evidence(name="loss", value=trial.loss, unit="loss", where="changed, every step"),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        return compared(evidence)
