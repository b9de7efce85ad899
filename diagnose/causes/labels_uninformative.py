"""Targets carry no information about their inputs: shuffled, collated out of step, or random.

## What it is
Inputs that were shuffled, sorted or filtered without their labels, an index that is off by one, labels joined by
position in place of name, a callback that moves targets alone.

## Why it stops learning
Labels are learned by heart, one at a time. Training looks well, one batch is memorised, and nothing holds for any row
that was not trained on.

## How it is found
On rows held out, the loss with their own targets is no lower than with the same targets in random order, after a
training that learned its rows. Or not even one batch is learned, and without a callback of the subject's own that
alters the targets or the order of the inputs it is.

## How it is proven
A control with all training items (2000 at most): a copy trained on true labels against one trained on the same labels,
permuted once. True labels must be learned no faster (by at most 0.2 of the scale; on digits by 0.8), and on up to 400
rows held out be no better than random orders (p above 0.02; on digits 0.005, the least there is). Where there are more
items nothing is proven: they may teach what 2000 do not. Where a callback changes the targets and a copy without it
learns them, so that they hold for others (a digit's neighbour's label: 1.0 against 0.3, p 0.005), that is the proof.

## How to fix
    learn.dls.show_batch()                       # look at rows with their labels
    order = torch.randperm(len(x)); x, y = x[order], y[order]     # one order for both

## What it looks like but is not
A task that is learned only from many rows: true labels are then learned faster than permuted ones. Half of the labels
at random still leave p below 0.01 on digits.

## Source
Zhang et al. 2017, "Understanding deep learning requires rethinking generalization"; Arpit et al. 2017, "A closer look
at memorization in deep networks" (true labels are learned faster); the notes, D1.
"""

import math
from contextlib import suppress

import torch

from diagnose.causes import Cause, Findings, Settled, Suspicion, paired_trial
from diagnose.causes._callbacks import blamed_callbacks, cure_of
from diagnose.causes._held_out import order, parts, side_of, split_named
from diagnose.causes._reading import number
from diagnose.changes import Change, left_out
from diagnose.checks._items import batches_at
from diagnose.checks._probing import chance_of_targets, trial_on
from diagnose.checks.labels_informative import BY_HEART, CHANCE, CHANGED, LIKELY, MANY
from diagnose.data import batch_size_of, indices_of
from diagnose.diagnosis import Fix, Proof
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import replaced
from diagnose.trial import Trial

CHECK = "labels-informative"
ITEMS, HELD_OUT, ROWS = 2000, 400, 64
PASSES, STEPS = 24, 500  # at most
FASTER = 0.2
COMMON = 0.8  # share of one label, above which permuting moves too few of the others


class LabelsUninformative(Cause):
    """Suspected when what is learned by heart holds for no other row."""

    settled_by = "inspection"
    when_learned = True

    def suspect(self, findings: Findings) -> Suspicion | None:
        chance, learned, allowed, rows, steps = (
            number(findings, CHECK, n)
            for n in (
                "chance of the held-out loss",
                "learned from the training rows",
                "chance allowed",
                "rows trained on",
                "steps",
            )
        )
        if callback := blamed_callbacks(findings, "the order of the inputs", "the targets"):
            return callback
        if not min(allowed, CHANCE) < chance <= 1 or not learned >= BY_HEART:
            return None
        reason = (
            f"{min(learned, 1):.0%} of {rows:.0f} rows is learned, and on others the loss is as low with labels in "
            f"random order (p = {chance:.2g})"
        )
        by = [e.where for e in findings.get(CHECK, []) if e.name == CHANGED and e.value is True]
        facts = {"callbacks": [name.removeprefix("callback ") for name in by]} if by else {}
        if MANY.passes * MANY.train < steps < math.inf:  # fewer were too few to learn anything by heart
            facts["steps"] = steps
        return Suspicion(0.6, reason, ["targets", *by], facts)

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        if without := cure_of(suspicion):
            return paired_trial(lab, without)
        split = split_named(lab, "training")
        indices = indices_of(split)
        if lab.task is not None or indices is None or not 128 <= len(indices) <= ITEMS:
            raise NotApplicable(f"the control takes all of 128 to {ITEMS} training items, and no registered task")
        mine = [indices[k] for k in order(len(indices), lab.seed)]
        cut, rows = min(len(mine) // 4, HELD_OUT), min(batch_size_of(split) or ROWS, ROWS)
        self._must_differ(lab)
        held, true = (batches_at(lab, split, some, rows) for some in (mine[:cut], mine[cut:]))
        steps = max(min(PASSES * len(true), STEPS), self._needed(lab, suspicion, rows))
        own, permuted = (_Trained(lab, batches, held, steps) for batches in (true, self._permuted(lab, true)))
        alike = own.learned - permuted.learned <= FASTER and own.chance > CHANCE
        proven, change, other = alike and own.learned >= BY_HEART, "the same labels, permuted once", permuted
        names = suspicion.facts.get("callbacks", [])
        if proven and names and lab.time_left > 1.5 * permuted.trial.seconds:
            without = left_out(names)
            with suppress(NotApplicable):
                cured = _Trained(lab, true, held, steps, without)
                if cured.chance <= LIKELY and cured.learned >= own.learned:
                    change, other = without.name, cured
        proof = Proof(change=change, kind="inspection", before=own.side, after=other.side)
        return Settled(proven, own.chance <= CHANCE, proof)

    def _needed(self, lab: Lab, suspicion: Suspicion, rows: int) -> int:
        "Steps after which the check's rows were learned, as many as a third of the time that is left allows each side."
        needed, trained = int(suspicion.facts.get("steps", 0)), lab.__dict__.get("baseline")
        if not trained or not trained.steps or math.isinf(lab.time_left):
            return needed
        return min(needed, int(lab.time_left / 3 / (trained.seconds / trained.steps * rows / lab.rows)))

    def _must_differ(self, lab: Lab) -> None:
        "Where nearly all labels are alike, permuting them changes next to nothing: no control can tell."
        target = lab.whole_batch[-1] if isinstance(lab.whole_batch, (tuple, list)) else None
        if isinstance(target, torch.Tensor) and not target.is_floating_point() and target.numel():
            commonest = target.unique(return_counts=True)[1].max().item() / target.numel()
            if commonest > COMMON:
                raise NotApplicable(f"{commonest:.0%} of the labels are alike: permuted ones would be as good")

    def _permuted(self, lab: Lab, batches: list) -> list:
        "The same batches, their targets in one random order over all rows."
        split = [parts(lab, b) for b in batches]
        rows = len(split[0][1][0])
        together = [torch.cat(ts) for ts in zip(*(ys for _, ys in split), strict=True)]
        moved = torch.tensor(order(len(together[0]), lab.seed + 1))
        together = [t[moved.to(t.device)] for t in together]
        return [
            replaced(b, [*xs, *(t[k * rows : (k + 1) * rows] for t in together)])
            for k, (b, (xs, _)) in enumerate(zip(batches, split))
        ]

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        names = suspicion.facts.get("callbacks") or suspicion.facts.get("left out", [])
        changed = f"Look first at what the callback {' and '.join(names)} does to the batch. " if names else ""
        return Fix(
            text=f"{changed}Look at rows with their labels. Look for a shuffle, a sort or a filter that moves inputs "
            "and not labels, for an index that is off by one, for labels joined by position in place of name, and for "
            "a callback that moves targets alone.",
            code=left_out(names).code if names else "learn.dls.show_batch()\nprint(learn.dls.train_ds[0])",
        )


class _Trained:
    """A trial on the batches of true or permuted labels, what it learned over its last pass, and the chance of its loss
    on batches held out.

    Raises:
        NotApplicable: the subject raised on other batches than the loader's, or under the change.
    """

    def __init__(self, lab: Lab, batches: list, held: list, steps: int, change: Change | None = None):
        self.trial = trial_on(lab, batches, change=change, steps=steps, stop_at=math.inf)
        self.chance = chance_of_targets(self.trial.learner, held, lab.seed)
        self.learned = _over_a_pass(self.trial, len(batches))
        self.side = side_of(self.trial, self.learned, "training rows")
        self.side.numbers["chance of the held-out loss"] = self.chance


def _over_a_pass(trial: Trial, batches: int) -> float:
    "Learned over the last pass: single batches differ."
    last = trial.loss[-batches:]
    return trial.scale.learned(sum(last) / len(last)) if last else float("nan")
