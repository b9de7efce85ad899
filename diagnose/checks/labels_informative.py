"""What is learned from some rows holds for others: the labels belong to the inputs.

## What it does
Trains a copy on 128 rows of the training loader for a few passes, and computes its loss on 64 rows that it never saw:
with their own targets, and with these targets in 199 random orders. If the true order is no better than random ones,
it trains another copy on up to 320 rows for 20 passes, and asks again on up to 256 rows.

## Why it matters
Labels that are shuffled, shifted by one or joined to the wrong files are memorised like true ones: one batch is
learned, the training loss falls, and nothing is ever gained on rows that were not trained on.

## How it is judged
The share of orders with a loss as low as the true one is an exact p-value for any loss and any kind of target: labels
without a relation to the inputs reach 0.01 in one of a hundred runs, and the second time 0.02 in one of fifty. On
digits it is 0.005, with half of all labels replaced by random ones too. Warns if both say chance although at least 0.1
of the training rows was learned: by heart, then. Skips if less was learned: nothing can be concluded. A task that is
learned only from more than 320 rows looks the same, hence it never fails. A registered task makes its own labels and is
asked with its easier versions.

## What to do
Look at rows with their labels (`learn.dls.show_batch()`); look for a shuffle, a sort or a filter that moves inputs and
not labels, for an index that is off by one, for labels joined by position in place of name.

## Source
Phipson & Smyth 2010, "Permutation p-values should never be zero"; Zhang et al. 2017, "Understanding deep learning
requires rethinking generalization"; Ojala & Garriga 2010, "Permutation tests for studying classifier performance".
"""

import math
from typing import NamedTuple

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, stated
from diagnose.checks._numbers import number
from diagnose.checks._probing import chance_of_targets, no_labels, pieces_of, reads_target, trial_on
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

LIKELY = 0.01  # p up to which the few rows suffice
CHANCE = 0.02  # p up to which the many do
BY_HEART = 0.1  # of the training rows: clearly more than the best constant
FEWEST = 4  # batches held out
LEAST = 48  # steps, where there are fewer rows


class Round(NamedTuple):
    """Batches to train on and to hold out, and passes over the former."""

    train: int
    held_out: int
    passes: int


FEW, MANY = Round(8, 4, 6), Round(20, 16, 20)


class LabelsInformative(Check):
    """Held-out loss with true targets against targets in random order."""

    stage = "trial"
    order = 45
    cost = "48 steps on 16 rows; up to 400 more if these teach nothing that holds for other rows"

    def measure(self, lab: Lab) -> EvidenceList:
        if lab.task is not None:
            raise NotApplicable("a registered task makes its own labels: its easier versions are asked")
        if not reads_target(lab):
            raise NotApplicable("the loss is the same for targets in another order: it does not read them")
        if no_labels(lab.yb):
            raise NotApplicable("the targets are the same in every row, or count the rows")
        found = self._round(lab, FEW)
        if not number(EvidenceList(found), "chance of the held-out loss") <= LIKELY:
            lab.say("labels: more rows, as a few teach nothing that holds for others")
            found = self._round(lab, MANY)
        return EvidenceList(found)

    def _round(self, lab: Lab, size: Round) -> list[Evidence]:
        pieces = pieces_of(lab, size.train + size.held_out)
        held = min(size.held_out, max(len(pieces) // 3, FEWEST))
        held_out, train = pieces[:held], pieces[held:][: size.train]
        if len(train) < FEWEST:
            raise NotApplicable(f"the loader gives fewer than {2 * FEWEST * lab.rows} rows")
        trial = trial_on(lab, train, steps=max(size.passes * len(train), LEAST))
        chance = math.nan if trial.stopped == "not finite" else chance_of_targets(trial.learner, held_out, lab.seed)
        few = size is FEW
        expected = f"<= {LIKELY if few else CHANCE:g}"
        return [
            Evidence(name="rows trained on", value=len(train) * lab.rows, unit="rows"),
            Evidence(name="rows held out", value=len(held_out) * lab.rows, unit="rows"),
            Evidence(name="learned from the training rows", value=trial.learned, unit="share"),
            Evidence(name="chance of the held-out loss", value=chance, unit="p", expected=expected),
            Evidence(name="chance allowed", value=LIKELY if few else CHANCE, unit="p"),
            Evidence(name="loss", value=trial.loss, unit="loss", where="every step"),
        ]

    def judge(self, evidence: EvidenceList) -> Judgement:
        if evidence.get("chance of the held-out loss") is None:
            return Judgement("skip", "not measured")
        chance, learned = (
            number(evidence, "chance of the held-out loss"),
            number(evidence, "learned from the training rows"),
        )
        rows, held = number(evidence, "rows trained on"), number(evidence, "rows held out")
        told = (
            f"{stated(learned, 2)} of {stated(rows)} rows is learned, and on {stated(held)} others the loss is as low "
            f"by chance with p = {stated(chance, 2)}"
        )
        if math.isnan(chance) or math.isnan(learned):
            return Judgement("skip", f"{told}; nothing to compare")
        if 0 < chance <= min(number(evidence, "chance allowed"), LIKELY):
            return Judgement("pass", told)
        if learned >= BY_HEART:
            return Judgement(
                "warn", f"{told}: learned by heart, no better than with labels in random order (needed p <= {CHANCE:g})"
            )
        return Judgement("skip", f"{told}: too little is learned to tell (needed {BY_HEART:g})")
