"""Augmentation or preprocessing removes what the label depends on.

## What it is
A crop that leaves the object out, light so strong that everything is white, a rotation where up and down matter, an
erased rectangle as large as the picture.

## Why it stops learning
What reaches the model has the label of something that is no longer to be seen. A batch of it can be learned by heart,
and nothing that holds for other rows.

## How it is found
Transformed items are no nearer to themselves than to other items; or a batch that is not learned is learned when it is
read without random transforms. Or nothing of it is learned, and without a callback of the subject's own that alters the
inputs it is.

## How it is proven
The same items, with the loader's random transforms and without, as many steps, both scored on the same plain rows held
out: without them at least 0.3 of what can be known is known, and with them no more than by the best constant (0.05;
digits turned by any angle, which slows learning down, are known to 0.1 or more by then). A callback: by the same trial
without it, which learns the batch, where as it is at most 0.05 is learned.

## How to fix
    batch_tfms=aug_transforms(max_rotate=10, max_lighting=0.2)   # milder; look at show_batch after each

## What it looks like but is not
Strong augmentation that slows learning down and is learned: the copy trained with it knows the held-out rows too. Only
fastai's own `RandTransform` can be taken out: what a data set does itself is not seen.

## Source
Karpathy 2019, "A Recipe for Training Neural Networks" (visualise just before the net).
"""

from dataclasses import replace

from diagnose.causes import CLEAR, Cause, Findings, Settled, Suspicion, paired_trial
from diagnose.causes._callbacks import blamed_callbacks, cure_of
from diagnose.causes._held_out import compared, held_out, order, split_named
from diagnose.causes._reading import number, text, texts
from diagnose.changes import left_out
from diagnose.checks import listed
from diagnose.checks._items import batches_at, without_random
from diagnose.checks._probing import trial_on
from diagnose.checks.transforms_keep_items import BY_CHANCE
from diagnose.data import indices_of, spread_over
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.trial import LEARNED

CHECK = "transforms-keep-items"
ITEMS = 640  # a fifth of them is held out
PASSES, STEPS = 3, 100  # whichever takes longer
NOTHING = 0.05  # known with the transforms: no more than the best constant


class InputsDestroyedByTransforms(Cause):
    """Suspected when transformed items are like any other, or plain ones are learned and these are not."""

    settled_by = "inspection"
    when_learned = True
    explains = ("lr-too-high", "lr-too-low", "inputs-constant", "inputs-differ-between-splits", "labels-uninformative")

    def suspect(self, findings: Findings) -> Suspicion | None:
        items, own = number(findings, CHECK, "items compared"), number(findings, CHECK, "nearest to themselves")
        names = texts(findings, CHECK, "random transforms")
        if 0 <= own <= min(BY_CHANCE, items / 4) and items < float("inf"):
            reason = (
                f"after {listed(names)} {own:.0f} of {items:.0f} items are nearest to themselves, by chance it is 1"
            )
            return Suspicion(0.9, reason, names[:3])
        if callback := blamed_callbacks(findings, "the inputs"):
            return callback
        before, after = (number(findings, "without-transforms", "learned", w) for w in ("as it is", "changed"))
        if after - max(before, 0.0) >= CLEAR and before < LEARNED <= after < float("inf"):
            change = text(findings, "without-transforms", "change")
            return Suspicion(
                0.9, f"with {change} {after:.0%} of a batch is learned, as it is {max(before, 0):.0%}", [change]
            )
        return None

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        if without := cure_of(suspicion):
            return paired_trial(lab, without)
        split = split_named(lab, "training")
        plain, names = without_random(split.loader)
        indices = indices_of(split)
        if indices is None:
            raise NotApplicable("no item can be read by its index")
        mine = [indices[k] for k in spread_over(len(indices), ITEMS)]
        mine = [mine[k] for k in order(len(mine), lab.seed)]
        kept, seen = mine[: len(mine) // 5], mine[len(mine) // 5 :]
        clean = replace(split, loader=plain)
        scored = batches_at(lab, clean, kept, lab.rows)
        if len(scored) < 2:
            raise NotApplicable("too few items to hold some out")
        passes = max(PASSES, -(-STEPS * lab.rows // len(seen)))
        sides = []
        for source in (split, clean):
            batches = batches_at(lab, source, seen * passes, lab.rows)
            trial = trial_on(lab, batches, steps=len(batches), stop_at=float("inf"))
            sides.append((trial, held_out(trial, scored)))
        (before, low), (after, high) = sides
        found = compared(f"no {', '.join(names)}", before, low, after, high, "plain rows held out")
        return found._replace(proven=found.proven and not low > NOTHING)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        if names := suspicion.facts.get("left out"):
            return Fix(text=f"Read what {listed(names)} does to the inputs.", code=left_out(names).code)
        return Fix(
            text="Look at a batch; take the transforms out, and put milder ones back one by one.",
            code="learn.dls.show_batch()\ndls = dblock.dataloaders(path, batch_tfms=aug_transforms(max_lighting=0.2))",
        )
