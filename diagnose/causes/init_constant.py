"""Weights start at zero or all alike, so that units stay copies of each other.

## What it is
A layer filled with one number, or with copies of one unit.

## Why it stops learning
Units that start alike get the same gradient at every step: the layer computes what one unit computes. All zeros in
two layers in a row pass no gradient at all.

## How it is found
Weights whose output units are all alike, by comparison of their rows.

## How it is proven
Those weights are drawn anew (Kaiming): the same batch is learned in the same steps, and as it is not.

## How to fix
    from fastai.torch_core import apply_init
    apply_init(learn.model, nn.init.kaiming_normal_)

## What it looks like but is not
A zero-initialised last layer, or last layer of a residual branch: its inputs differ, so its units part at the first
step. Such a subject learns its batch, and is left alone.

## Source
Goodfellow et al. 2016, 8.4; He et al. 2015; the notes' checklist, item 7.
"""

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.changes import Change, reinitialised
from diagnose.diagnosis import Fix
from diagnose.lab import Lab


class InitConstant(Cause):
    """Suspected when all units of a weight start alike."""

    explains = ("lr-too-low", "lr-too-high")
    questions = (7,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        alike = findings.value("initialisation", "units alike", [])
        if not alike:
            return None
        total = findings.value("initialisation", "weights", 0)
        reason = f"in {len(alike)} of {total} weights all units start alike"
        return Suspicion(0.5 + 0.5 * len(alike) / max(total, 1), reason, list(alike), {"alike": alike})

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        return reinitialised(suspicion.facts["alike"])

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Draw these weights at random instead of setting them to one value.",
            code="from fastai.torch_core import apply_init\napply_init(learn.model, nn.init.kaiming_normal_)",
        )
