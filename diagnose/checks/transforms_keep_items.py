"""Random transforms leave items recognisable.

## What it does
Reads up to 64 training items with the loader's random transforms and without, and looks for each transformed item which
of the plain ones is nearest to it (each averaged to 8×8 cells): its own, or another.

## Why it matters
An augmentation that takes away what the label depends on leaves noise with labels: one batch of it can be learned by
heart, and nothing else.

## How it is judged
Warns if no more than 3 of 64 are nearest to themselves: by chance it is 1, and more than 3 in 1 of 50 cases. Of 64
digits of 8×8 pixels a crop leaves 53 nearest to themselves, rotation by up to 30° 43, zoom 37, an erased rectangle 20,
rotation by any angle 9, and a flip of every one 5.

## What to do
`learn.dls.show_batch()`, and put the transforms back one by one.

## Source
Karpathy 2019, "A Recipe for Training Neural Networks" (visualise just before the net).
"""

from dataclasses import replace

import numpy as np

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._items import batches_at, without_random
from diagnose.checks._numbers import number, texts
from diagnose.data import halves, indices_of, part, splits_of, spread_over
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

ITEMS, BY_CHANCE = 64, 3
LEAST = 16  # items, below which chance and recognition cannot be told apart


class TransformsKeepItems(Check):
    """Compares items with and without random transforms."""

    stage = "inspection"
    order = 54
    cost = "64 items, read twice, where the loader has random transforms"

    def measure(self, lab: Lab) -> EvidenceList:
        split = splits_of(lab)[0]
        plain, names = without_random(split.loader)
        indices = indices_of(split)
        if indices is None or len(indices) < LEAST:
            raise NotApplicable(f"fewer than {LEAST} items can be read by their index")
        chosen = [indices[k] for k in spread_over(len(indices), ITEMS)]
        seen, kept = (
            self._cells(lab, batches_at(lab, s, chosen, len(chosen))[0]) for s in (split, replace(split, loader=plain))
        )
        gaps = np.square(seen[:, None] - kept[None]).sum(2)
        own = gaps.argmin(1) == np.arange(len(chosen))
        apart = np.square(kept[:, None] - kept[None]).sum(2)
        moved = float(np.sqrt(np.diag(gaps)).mean() / max(np.sqrt(apart).sum() / (len(kept) * (len(kept) - 1)), 1e-12))
        return EvidenceList(
            [
                Evidence(name="random transforms", value=names),
                Evidence(name="items compared", value=len(chosen)),
                Evidence(name="nearest to themselves", value=int(own.sum()), expected=f"> {_most(len(chosen)):.3g}"),
                Evidence(name="moved by", value=moved, unit="distances between items"),
            ]
        )

    def _cells(self, lab: Lab, batch: object) -> np.ndarray:
        inputs = halves(lab.learn, batch)[0]
        if len(inputs) != 1 or inputs[0].ndim < 3:
            raise NotApplicable("it takes one picture an item")
        cells = [part(x, 0).thumbnail for x in inputs[0]]
        if any(c is None or not np.isfinite(c).all() for c in cells) or len({c.shape for c in cells}) != 1:
            raise NotApplicable("the items are no pictures, or of several sizes")
        return np.stack(cells)

    def judge(self, evidence: EvidenceList) -> Judgement:
        items, own = number(evidence, "items compared"), number(evidence, "nearest to themselves")
        moved = number(evidence, "moved by")
        if not items >= 1 or not own >= 0:
            return Judgement("skip", "not measured")
        names = listed(texts(evidence, "random transforms")) or "random transforms"
        told = (
            f"after {names} {own:.0f} of {items:.0f} items are nearest to themselves, moved by {moved:.2g} of the "
            "distance between items"
        )
        return Judgement("warn" if own <= _most(items) else "pass", told)


def _most(items: float) -> float:
    "Items nearest to themselves that chance explains: it gives one, however many there are."
    return min(BY_CHANCE, items / 4)
