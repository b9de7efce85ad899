"""Layers run in evaluation mode while training, or in training mode while validating.

## What it is
A `model.eval()` in a callback or in `forward`, a `train()` that is overridden.

## Why it stops learning
Batch norm then divides by the 1 that it began with: the net trains without any normalisation, drop-out does nothing,
and nobody notices, as both modes agree.

## How it is found
The check `modes-in-fit` notes the mode of every batch norm and drop-out in both phases of a short fit.

## How it is proven
By inspection, for batch norms whose own parameters train, which run in evaluation mode while training, and whose
statistics are exactly the zeros and ones that they began with: they have never measured anything, and never will.

## How to fix
    # take model.eval() out of forward and callbacks; fastai sets the modes before every epoch
    learn.model.train()

## What it looks like but is not
A frozen body, or fine-tuning with the statistics of a pretrained one, runs its norms in evaluation mode on purpose: the
statistics are measured ones. Drop-out while validating may be Monte-Carlo drop-out: told, and not proven.

## Source
Ioffe & Szegedy 2015, "Batch normalization", algorithm 2; fastai's TrainEvalCallback. The comparison is exact.
"""

from diagnose.causes import Cause, Findings, Settled, Suspicion, inspected
from diagnose.causes._reading import texts
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

CHECK = "modes-in-fit"


class EvalModeInTraining(Cause):
    """Suspected when norms that should learn statistics never do, or layers train while validating."""

    settled_by = "inspection"
    when_learned = True
    explains = ("norm-statistics-gap",)

    def suspect(self, findings: Findings) -> Suspicion | None:
        if empty := texts(findings, CHECK, "of them norms that never measured anything"):
            reason = f"{empty[0]} runs in evaluation mode while training, on statistics that it never measured"
            return Suspicion(1.0, reason, empty, {"empty": len(empty)})
        if late := texts(findings, CHECK, "in training mode while validating"):
            return Suspicion(0.4, f"{late[0]} runs in training mode while validating", late, {"empty": 0})
        return None

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        count = suspicion.facts["empty"]
        if not count:
            raise NotApplicable("layers that train while validating may be meant, as in Monte-Carlo drop-out")
        found = inspected(
            "two batches trained, one validated",
            f"{count} batch norms run in evaluation mode while training, their statistics still zeros and ones",
            "in a sound model they run in training mode, and measure",
            {"norms that never measured anything": count},
            **{"norms that never measured anything": 0},
        )
        return Settled(True, False, found)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Take `eval()` out of forward and callbacks: fastai sets the modes before every epoch.",
            code="learn.model.train()  # and no self.eval() in forward",
        )
