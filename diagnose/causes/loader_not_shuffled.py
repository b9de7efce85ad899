"""Training batches come in a fixed, label-sorted order.

## What it is
Files read folder by folder, a sorted table, `shuffle=False` on the training loader.

## Why it stops learning
Every batch pulls the net to the constant that fits its one label, and the next label undoes it. Batch norm sees one
class at a time.

## How it is found
The order of the next pass: half of the batches hold one label where by chance fewer than 5 % would; or the loader reads
in order and neighbours share their label far more often than by chance, or a number hardly varies inside a batch.

## How it is proven
An epoch in small: items spread over the data set, in the loader's own order against shuffled, as many steps, both
scored on the same rows held out. Shuffled, at least 0.3 of what can be known is known, and in order 0.3 less.

## How to fix
    DataLoader(train, bs=64, shuffle=True)

## What it looks like but is not
A loader that reads in order over items that are in no order; a sampler that puts several of each class into a batch;
text in order of length.

## Source
Bengio 2012, "Practical recommendations for gradient-based training", 3.1; the notes' checklist, item 12.
"""

from diagnose.causes import Cause, Findings, Settled, Suspicion
from diagnose.causes._held_out import compared, held_out, order, split_named
from diagnose.causes._reading import number, truth
from diagnose.checks._items import batches_at
from diagnose.checks._probing import trial_on
from diagnose.checks.shuffling import ABOVE, BY_CHANCE, ERRORS, INSIDE, ONE_LABEL
from diagnose.data import as_it_was, order_of, spread_over
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

CHECK = "shuffling"
ITEMS = 640  # a fifth of them is held out
PASSES, STEPS = 2, 60  # whichever takes longer


class LoaderNotShuffled(Cause):
    """Suspected when labels come in an order."""

    settled_by = "inspection"
    when_learned = True
    explains = ("lr-too-high", "lr-too-low", "labels-constant")
    questions = (12,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        one, chance = number(findings, CHECK, "batches of one label"), number(findings, CHECK, "the same by chance")
        if one >= ONE_LABEL and chance < BY_CHANCE and one <= 1:
            reason = f"{one:.0%} of the training batches hold one label only, {chance:.0%} would by chance"
            return Suspicion(1.0, reason, ["the training loader"])
        if not truth(findings, CHECK, "the loader reads in order"):
            return None
        alike, by_chance, spread = (
            number(findings, CHECK, n)
            for n in ("neighbours alike", "neighbours alike by chance", "spread of the chance")
        )
        if alike - by_chance > max(ABOVE, ERRORS * spread) and spread >= 0 and alike <= 1:
            reason = (
                f"the loader reads in order, and {alike:.0%} of neighbours share their label, {by_chance:.0%} by chance"
            )
            return Suspicion(0.8, reason, ["the training loader"])
        inside = number(findings, CHECK, "variance inside batches")
        if 0 <= inside < INSIDE:
            reason = f"the loader reads in order, and {inside:.2g} of the variance of the labels is inside batches"
            return Suspicion(0.8, reason, ["the training loader"])
        return None

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        split = split_named(lab, "training")
        with as_it_was(lab.learn, split, lab.seed):
            whole = order_of(split, split.size or 0)
        if not whole:
            raise NotApplicable("the loader does not tell its order")
        places = sorted(spread_over(len(whole), ITEMS))
        mine = [whole[k] for k in places]
        kept = [i for n, i in enumerate(mine) if n % 5 == 0]
        mine = [i for n, i in enumerate(mine) if n % 5]
        shuffled = [mine[k] for k in order(len(mine), lab.seed)]
        scored = batches_at(lab, split, [kept[k] for k in order(len(kept), lab.seed)], lab.rows)
        if len(scored) < 2:
            raise NotApplicable("too few items to hold some out")
        sides = []
        for indices in (mine, shuffled):
            batches = batches_at(lab, split, indices, lab.rows)
            trial = trial_on(lab, batches, steps=max(PASSES * len(batches), STEPS), stop_at=float("inf"))
            sides.append((trial, held_out(trial, scored)))
        (before, low), (after, high) = sides
        return compared("the same items shuffled", before, low, after, high, "held-out rows")

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Shuffle the training items anew in every epoch.",
            code="train = DataLoader(train_ds, bs=64, shuffle=True, drop_last=True)",
        )
