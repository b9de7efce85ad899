"""Items differ from each other, and are not blank.

## What it does
Compares up to 192 items of each split: how many are distinct bit for bit, how large the variance from item to item is
against the variance inside an item (each averaged to at most 64 cells), and how many are blank (one value throughout).

## Why it matters
A wrong path, index, crop or cast makes every input alike, and the best that a net can learn then is a constant.

## How it is judged
Fails if all items read are the same bits. Warns if the variance between items is less than 1e-6 of that inside them
(below what float32 carries through a few layers), or if more than half of the items are blank: empty tiles are common,
mostly empty data are not. Inputs of fewer than 16 values are never called blank.

## What to do
Look at a few items: `dls.show_batch()`; read the data set's `__getitem__` with two different indices.

## Source
Karpathy 2019, "A Recipe for Training Neural Networks" (visualise what goes into the net); the notes, where a forward
pass that read a global looked like data that never vary (real failure F3).
"""

import math

import numpy as np

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, stated
from diagnose.checks._numbers import number
from diagnose.data import Split, splits_of
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

LEAST = 1e-6  # variance between items over variance inside them
MOST_BLANK = 0.5
LEAST_VALUES = 16  # an input of fewer values may be all alike by chance


class ItemsVary(Check):
    """Compares items with each other."""

    stage = "inspection"
    order = 43
    cost = "the items read for all checks of the data"

    def measure(self, lab: Lab) -> EvidenceList:
        splits = [s for s in splits_of(lab) if len(s.items) > 1]
        if not splits:
            raise NotApplicable("fewer than two items could be read")
        found = EvidenceList()
        for split in splits:
            blank = [i.place for i in split.items if i.constant and i.numbers >= LEAST_VALUES]
            found += [
                Evidence(name="items read", value=len(split.items), where=split.name),
                Evidence(name="distinct items", value=len({i.digest for i in split.items}), where=split.name),
                Evidence(name="blank items", value=len(blank), where=split.name, expected=f"<= {MOST_BLANK} of them"),
                Evidence(name="first blank item", value=blank[0] if blank else "none", where=split.name),
                Evidence(
                    name="variance between items / inside items",
                    value=_ratio(split),
                    where=split.name,
                    expected=f">= {LEAST:g}",
                ),
            ]
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        doubts, said = [], []
        for e in evidence.all("items read"):
            total = number(EvidenceList([e]), "items read")
            distinct, blank = (number(evidence, n, e.where) for n in ("distinct items", "blank items"))
            ratio = number(evidence, "variance between items / inside items", e.where)
            if distinct <= 1 < total:
                return Judgement("fail", f"all {total:.0f} {e.where} items that were read are the same bits")
            if not (distinct > 1 and total > 1):
                continue
            if ratio < LEAST:
                doubts.append(
                    f"{e.where} items hardly differ: variance between them {ratio:.2g} of that inside them "
                    f"(at least {LEAST:g})"
                )
            elif blank > MOST_BLANK * total:
                first = evidence.get("first blank item", e.where)
                doubts.append(
                    f"{blank:.0f} of {total:.0f} {e.where} items are blank (at most {MOST_BLANK:.0%}), first {first}"
                )
            elif evidence.get("variance between items / inside items", e.where) is not None and math.isnan(ratio):
                doubts.append(f"the variance between {e.where} items is not a number")
            said.append(f"{distinct:.0f} of {total:.0f} {e.where} items are distinct, variance {_of_inside(ratio)}")
        if doubts:
            return Judgement("warn", "; ".join(doubts))
        return Judgement("pass", "; ".join(said)) if said else Judgement("skip", "not measured")


def _of_inside(ratio: float) -> str:
    return f"between them {stated(ratio)} of that inside them" if ratio >= 0 else "not comparable"


def _ratio(split: Split) -> float | None:
    "The largest ratio over all inputs that have one size; None if there is none."
    found = []
    for k in range(len(split.items[0].inputs)):
        cells = [i.inputs[k].thumbnail for i in split.items if k < len(i.inputs)]
        cells = [c for c in cells if c is not None and np.isfinite(c).all()]
        cells = [c for c in cells if c.shape == cells[0].shape and c.size > 1]
        if len(cells) < 2:
            continue
        stacked = np.stack(cells)
        inside = float(stacked.var(1).mean())
        between = float(stacked.var(0).mean())
        if inside or between:
            found.append(between / inside if inside else math.inf)
    return max(found, default=None)
