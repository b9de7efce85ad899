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

from typing import Any

from fastai.data.load import DataLoader
from fastai.vision.augment import RandTransform

from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.checks._comparison import compared
from diagnose.checks._probing import trial_on
from diagnose.errors import NotApplicable
from diagnose.isolate import loaders
from diagnose.lab import ROWS, Lab, few_rows

STAGES = ("after_item", "before_batch", "after_batch")


class WithoutTransforms(Check):
    """The batch read without random transforms."""

    stage = "trial"
    order = 74
    extra = True
    cost = "up to 200 steps on 16 rows"

    def measure(self, lab: Lab) -> EvidenceList:
        loader = loaders(lab.learn)[0]
        left_out = [type(t).__name__ for stage in STAGES for t in _transforms(loader, stage) if _is_random(t)]
        if not left_out or not isinstance(loader, DataLoader):
            raise NotApplicable("the training loader has no random transform of fastai's")
        plain = loader.new(dataset=loader.dataset, num_workers=0)
        for stage in STAGES:
            if random := [t for t in _transforms(loader, stage) if _is_random(t)]:
                kept = [t for t in _transforms(loader, stage) if t not in random]
                setattr(plain, stage, type(getattr(loader, stage))(kept))  # fastai's Pipeline
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


def _transforms(loader: Any, stage: str) -> list:
    return list(getattr(getattr(loader, stage, None), "fs", []))


def _is_random(transform: Any) -> bool:
    return isinstance(transform, RandTransform)
