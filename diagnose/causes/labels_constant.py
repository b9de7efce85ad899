"""Every target is the same.

## What it is
A label function that always answers alike, a filter that left one class, a default that was never overwritten.

## Why it stops learning
Any bias is a perfect answer. The loss goes to zero at once, which looks like success and proves nothing.

## How it is found
Labels of the training items, read on until a second one turns up: at least 500, or all there are. The loss is asked
whether it depends on the label at all.

## How it is proven
By that inspection. 500 labels alike leave a label that 1 % of the items have unseen in 0.7 % of cases; a model that
learns from the other 99 % is not what was meant either.

## How to fix
    Counter(int(y) for _, y in dls.train_ds)     # look at what makes the labels

## What it looks like but is not
A contrastive loss that reads no label: a dummy label of zero in every row is fine, as the loss does not depend on it.
Heavy imbalance has a second label. One item that is fitted alone (a deep image prior) has one target.

## Source
Real failure F17 of the notes (all labels 1: "succeeded in overfitting!").
"""

from diagnose.causes import Cause, Findings, Settled, Suspicion, inspected
from diagnose.causes._reading import evidence, number, truth
from diagnose.checks.label_histogram import ENOUGH
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK, SPLIT = "label-histogram", "training"


class LabelsConstant(Cause):
    """Suspected when all training labels are alike and the loss reads them."""

    settled_by = "inspection"
    when_learned = True
    explains = ("lr-too-high", "lr-too-low", "init-constant", "params-frozen")

    def suspect(self, findings: Findings) -> Suspicion | None:
        read, distinct, size = (
            number(findings, CHECK, n, SPLIT) for n in ("labels read", "distinct labels", "items in all")
        )
        if number(findings, "items-vary", "distinct items", SPLIT) == 1:  # one item that is fitted, with its one target
            return None
        if distinct != 1 or not read >= 2 or truth(findings, CHECK, "the loss depends on the label", SPLIT) is False:
            return None
        histogram = evidence(findings, CHECK).get("histogram", SPLIT)
        label = str(histogram[0]).rpartition(":")[0] if isinstance(histogram, list) and histogram else "?"
        enough = read >= ENOUGH or read >= size > 0
        reason = f"all {read:.0f} training labels that were read are alike: {label}"
        return Suspicion(1.0 if enough else 0.5, reason, ["targets"], {"read": read, "label": label, "enough": enough})

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        read, label = suspicion.facts["read"], suspicion.facts["label"]
        proof = inspected(
            "the labels counted",
            f"{read:.0f} training labels, one distinct: {label}",
            "something to learn needs at least two",
            {"labels read": read, "distinct labels": 1},
            **{"distinct labels": 2},
        )
        return Settled(suspicion.facts["enough"], False, proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text=f"Every label is {suspicion.facts['label']}: look at what makes the labels, and at the split.",
            code="from collections import Counter\nCounter(str(y) for *_, y in learn.dls.train_ds)",
        )
