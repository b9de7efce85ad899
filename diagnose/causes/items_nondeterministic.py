"""Reading the same index twice gives different items, so a "tiny subset" is not tiny.

## What it is
Mixing weights, slots, crops or partners that are drawn in `__getitem__` together with the label; a label drawn anew
under the same input.

## Why it stops learning
What should be learned by heart is another thing at every reading. Weeks were lost on "cannot even overfit two images":
the two images were thousands of items.

## How it is found
Eight items of each split are read twice, while the random streams move on: labels change, with their input or without.

## How it is proven
A label that changes under the same input: by that inspection. Labels that change with their inputs are a fine stream
of fresh draws for a large data set; of one of up to 64 items, a subset made to be memorised, a trial on items read once
is compared with one on the same items read anew at each step: the first learns, the second not.

## How to fix
    rng = np.random.default_rng([seed, epoch, index])   # in __getitem__; for tests the epoch stays fixed

## What it looks like but is not
Random augmentation changes the input and keeps the label. Maps and lists of points follow the augmentation of their
input.

## Source
Real failure F5 of the notes; their checklist, item 14.
"""

import time

from diagnose.causes import CLEAR, Cause, Findings, Settled, Suspicion, inspected, side
from diagnose.causes._held_out import split_named
from diagnose.causes._reading import number, places, texts
from diagnose.checks import listed
from diagnose.checks._items import batches_at
from diagnose.checks._probing import trial_on
from diagnose.checks.overfit_one_batch import NOT_LEARNED
from diagnose.data import indices_of
from diagnose.diagnosis import Fix, Proof
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.trial import STEPS

CHECK = "items-repeatable"
TINY = 64  # items of a training set that is made to be memorised
SECONDS = 10.0  # for reading the items anew at each step


class ItemsNondeterministic(Cause):
    """Suspected when labels change from one reading to the next."""

    settled_by = "inspection"
    when_learned = True
    explains = ("lr-too-high", "lr-too-low")
    questions = (14,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        for name, alone in (
            ("labels that change under the same input", True),
            ("labels that change with the input", False),
        ):
            for where in places(findings, CHECK, name):
                items, read = texts(findings, CHECK, name, where), number(findings, CHECK, "items read twice", where)
                if not items or not read >= len(items) or (where != "training" and not alone):
                    continue
                reason = f"{name}: {len(items)} of {read:.0f} {where} items, {listed(items)}"
                return Suspicion(1.0 if alone else 0.5, reason, items[:3], {"alone": alone, "items": len(items)})
        return None

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        if suspicion.facts["alone"]:
            proof = inspected(
                "items read twice, compared bit for bit",
                suspicion.reason,
                "the label of an input stays what it is",
                {"labels that change": suspicion.facts["items"]},
                **{"labels that change": 0},
            )
            return Settled(True, False, proof)
        split = split_named(lab, "training")
        indices = indices_of(split)
        if split.size is None or split.size > TINY or indices is None:
            raise NotApplicable(f"a stream of fresh draws is a fine data set; proven is only one of up to {TINY} items")
        few = list(indices)[: min(lab.rows, split.size)]
        began = time.monotonic()
        once = batches_at(lab, split, few, len(few))
        if (time.monotonic() - began) * STEPS > SECONDS:
            raise NotApplicable(f"reading {len(few)} items anew for {STEPS} steps takes too long")
        anew = batches_at(lab, split, few * STEPS, len(few))
        before, after = trial_on(lab, anew), trial_on(lab, once)
        proven = after.is_learned and before.learned <= NOT_LEARNED and after.learned - before.learned >= CLEAR
        proof = Proof(change="the same items, read once", kind="inspection", before=side(before), after=side(after))
        return Settled(proven, before.is_learned, proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Let each item draw from a generator of its own, seeded by its index and the epoch; fix the epoch for "
            "tests on a subset and for validation.",
            code="def __getitem__(self, index):\n    rng = np.random.default_rng([self.seed, self.epoch, index])",
        )
