"""Training and validation map class names to different indices.

## What it is
Each `ImageFolder` numbers its own folders: a validation folder with half of the classes has other numbers for them.
Or `class_to_idx` was set after the labels had been made.

## Why it stops learning
The model learns, and validation scores it below chance: every right answer counts as a wrong one.

## How it is found
Names and indices of each split: what the data set declares, and which label the files of each class folder have.

## How it is proven
By inspection: one name with two indices is enough. The remapping that would make the splits agree is shown.

## How to fix
    valid = ImageFolder(path / "val")
    valid.samples = [(f, train.class_to_idx[Path(f).parent.name]) for f, _ in valid.samples]

## What it looks like but is not
Validation on classes that training never saw (metric learning): none of its names has two indices. A validation
split without some of the classes is fine as long as those it has keep their index.

## Source
Real failure F10 of the notes: four runs "worse than chance", void for this reason.
"""

from diagnose.causes import Cause, Findings, Settled, Suspicion, inspected
from diagnose.causes._reading import number, texts
from diagnose.checks import listed
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "class-names"


class LabelsMisalignedBetweenSplits(Cause):
    """Suspected when a class name has two indices."""

    settled_by = "inspection"
    when_learned = True

    def suspect(self, findings: Findings) -> Suspicion | None:
        differ = texts(findings, CHECK, "other index in validation")
        if not differ:
            return None
        valid = number(findings, CHECK, "classes by name", "validation")
        of = f" of {valid:.0f}" if valid >= len(differ) else ""
        reason = f"{len(differ)}{of} class names have another index in validation: {listed(differ)}"
        return Suspicion(1.0, reason, differ[:3], {"differ": differ})

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        differ = suspicion.facts["differ"]
        proof = inspected(
            "class names of both splits compared",
            listed(differ),
            "with validation's indices looked up by name in training's mapping, none differs",
            {"names with two indices": len(differ)},
            **{"names with two indices": 0},
        )
        return Settled(True, False, proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Number the classes once, from the training split, and look validation's labels up by name before "
            "its items are made.",
            code="names = {index: name for name, index in valid.class_to_idx.items()}\n"
            "valid.targets = [train.class_to_idx[names[t]] for t in valid.targets]\n"
            "valid.samples = [(f, train.class_to_idx[names[t]]) for f, t in valid.samples]",
        )
