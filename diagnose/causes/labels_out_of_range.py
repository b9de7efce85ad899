"""Class indices do not fit the model's outputs.

## What it is
Classes numbered from 1, one class more than the head has outputs, a class that only validation has, or -1 for
"unknown".

## Why it stops learning
The loss has no output to raise for such a label. On a CPU it raises an IndexError; on a GPU the run dies of
"device-side assert triggered", in the middle of an epoch, with no hint of the item.

## How it is found
Class indices of the items read in each split against the number of outputs; whether the loss takes class indices is
measured: it refuses the index one past the last output.

## How it is proven
By that inspection, with the items that are at fault. There is no threshold: one label is too many.

## How to fix
    learn.model[-1] = nn.Linear(64, dls.c)       # one output for each class
    y = y - y.min()                              # classes numbered from 0

## What it looks like but is not
Labels that the loss is told to ignore (`ignore_index`, -100), and outputs that no label names: rare classes look so.

## Source
fastai#1835 and fastai#2428 (device-side assertions); the notes' checklist, item 4.
"""

from diagnose.causes import Cause, Findings, Settled, Suspicion, inspected
from diagnose.causes._reading import number, places, text, texts
from diagnose.checks import listed
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "label-range"


class LabelsOutOfRange(Cause):
    """Suspected when a class index has no output."""

    settled_by = "inspection"
    when_learned = True
    questions = (4,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        outputs = number(findings, CHECK, "outputs")
        beyond = [
            f"{where} {t}"
            for where in places(findings, CHECK, "labels out of range")
            for t in texts(findings, CHECK, "labels out of range", where)
        ]
        if outputs >= 1 and beyond:
            reason = f"{len(beyond)} labels have no output among {outputs:.0f}: {listed(beyond)}"
            return Suspicion(1.0, reason, beyond[:3], {"outputs": outputs, "labels": beyond})
        raised = text(findings, "loss-fits-targets", "loss raised")
        least, largest, outputs = (
            number(findings, "loss-fits-targets", n) for n in ("least target", "largest target", "outputs")
        )
        if not raised or not outputs >= 1 or not (least < 0 or largest >= outputs):
            return None
        labels = [f"class {v:.0f}" for v, out in ((least, least < 0), (largest, largest >= outputs)) if out]
        reason = (
            f"the model has {outputs:.0f} outputs and the batch has {' and '.join(labels)}: the loss raised {raised}"
        )
        return Suspicion(1.0, reason, labels, {"outputs": outputs, "labels": labels})

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        outputs, labels = suspicion.facts["outputs"], suspicion.facts["labels"]
        proof = inspected(
            "class indices compared with the model's outputs",
            f"{listed(labels)}: no such output",
            f"with {outputs:.0f} outputs every class index is from 0 to {outputs - 1:.0f}",
            {"labels out of range": len(labels), "outputs": outputs},
            **{"labels out of range": 0},
        )
        return Settled(True, False, proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        outputs = suspicion.facts["outputs"]
        return Fix(
            text=f"Number the classes from 0 to {outputs - 1:.0f}, or give the model an output for each class.",
            code="# the last layer:\nnn.Linear(features, dls.c)\n# or, if the classes are numbered from 1:\ny = y - 1",
        )
