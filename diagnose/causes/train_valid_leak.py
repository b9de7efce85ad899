"""The same items stand in the training and the validation split.

## What it is
A random split over crops, windows or frames of one source; a table with repeated rows; a validation folder that was
copied from training.

## Why it stops learning
Nothing stops: the leaked items are answered from memory, the validation loss looks better than the truth, and the best
model is chosen for what it has memorised.

## How it is found
Content hashes of the items read in both splits, and the files that the data sets name: more than 1 % of validation
among training, after what items of a few values share by chance.

## How it is proven
By that inspection: equal bits, or the same file, with both places named.

## How to fix
    train, valid = GroupShuffleSplit(1).split(rows, groups=rows.patient)   # split by source, then cut

## What it looks like but is not
Validation on the training set itself, item for item: that was chosen, and is said. Short rows of categories or tokens
repeat by chance. Other crops of one photograph have other bits.

## Source
Barz and Denzler 2020, "Do we train on test data?" (3.3 % of CIFAR-10's test images are near duplicates).
"""

from diagnose.causes import Cause, Findings, Settled, Suspicion, inspected
from diagnose.causes._reading import number, texts, truth
from diagnose.checks import listed
from diagnose.checks.duplicates import MOST
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "duplicates"


class TrainValidLeak(Cause):
    """Suspected when validation items are among the training items."""

    settled_by = "inspection"
    when_learned = True

    def suspect(self, findings: Findings) -> Suspicion | None:
        if truth(findings, CHECK, "validation is the training set") is not False:
            return None
        share, chance = (
            number(findings, CHECK, n) for n in ("share of validation in training", "share possible by chance")
        )
        files = number(findings, CHECK, "share of validation files in training")
        items = share - chance if chance >= 0 else share
        leaked = max(v for v in (items, files, 0.0) if v == v)
        if not MOST < leaked <= 1:
            return None
        places = texts(findings, CHECK, "in both splits")
        how = listed(places) if places else "by their files"
        reason = f"{leaked:.1%} of validation items are among the training items: {how}"
        return Suspicion(1.0, reason, places[:3], {"share": leaked, "how": how})

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        share, how = suspicion.facts["share"], suspicion.facts["how"]
        proof = inspected(
            "content and files of both splits compared",
            f"{share:.1%} of validation in both: {how}",
            "split by source, none is in both",
            {"share of validation in training": share},
            **{"share of validation in training": 0.0},
        )
        return Settled(True, False, proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Split by the source of an item (photograph, patient, recording) before anything is cut out of it, "
            "and drop what is in both splits.",
            code="from sklearn.model_selection import GroupShuffleSplit\n"
            "train, valid = next(GroupShuffleSplit(1, test_size=0.2).split(items, groups=sources))",
        )
