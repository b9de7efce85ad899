"""What is learned from some rows holds for others: the labels belong to the inputs.

## What it does
Trains a copy on 128 rows of the training loader for a few passes, and computes its loss on 64 rows that it never saw:
with their own targets, and with these targets in 199 random orders. If the true order is no better than random ones,
it trains another copy on up to 320 rows for 20 passes, and asks again on up to 256 rows. If that learned too little
of its own rows to tell, or is no better with p up to 0.2, a last copy gets up to 1,024 rows and 62 passes, in a third
of the time that is left.

## Why it matters
Labels that are shuffled, shifted by one or joined to the wrong files are memorised like true ones: one batch is
learned, the training loss falls, and nothing is ever gained on rows that were not trained on.

## How it is judged
The share of orders with a loss as low as the true one is an exact p-value for any loss and any kind of target: labels
without a relation to the inputs reach 0.01 in one of a hundred runs, and later 0.02 in one of fifty. On digits it is
0.005, with half of all labels replaced by random ones too. Warns if all say chance although at least 0.1 of the
training rows was learned: by heart, then. Skips if less was learned: nothing can be concluded, and whether it is the
labels counts as not tested. A task that is learned only from more rows looks the same, hence it never fails. A
registered task makes its own labels and is asked with its easier versions.

The last round is for labels that are slow to learn by heart, and for a weak relation: a net of three layers that gets
the digit of the neighbour learns 0.08 of 320 rows in 400 steps, and 0.3 of 1,024 in 2,500; digits of which 80 %
have another's label pass in five of six runs, with 320 or 1,024 rows, those of which 85 % have in two.

## What to do
Look at rows with their labels (`learn.dls.show_batch()`); look for a shuffle, a sort or a filter that moves inputs and
not labels, for an index that is off by one, for labels joined by position in place of name, for a callback that moves
targets alone.

## Source
Phipson & Smyth 2010, "Permutation p-values should never be zero"; Zhang et al. 2017, "Understanding deep learning
requires rethinking generalization"; Ojala & Garriga 2010, "Permutation tests for studying classifier performance".
"""

import math
from typing import NamedTuple

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, amount, stated
from diagnose.checks._numbers import number
from diagnose.checks._probing import (
    chance_of_targets,
    changers_of_targets,
    no_labels,
    pieces_of,
    reads_target,
    trial_on,
)
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

P = "chance of the held-out loss"
LEARNED = "learned from the training rows"
CHANGED = "targets are changed"
LIKELY = 0.01  # p up to which the few rows suffice
CHANCE = 0.02  # p up to which the many do
DOUBT = 0.2  # p up to which still more are asked, where they were learned by heart
BY_HEART = 0.1  # of the training rows: clearly more than the best constant
ENOUGH = 0.3  # learned of them, where the last round stops
FEWEST = 4  # batches held out
LEAST = 48  # steps, where there are fewer rows


class Round(NamedTuple):
    """Batches to train on and to hold out, passes over the former, and p up to which the latter are no chance."""

    train: int
    held_out: int
    passes: int
    chance: float


FEW, MANY = Round(8, 4, 6, LIKELY), Round(20, 16, 20, CHANCE)
MOST, SHARE = Round(64, 16, 62, CHANCE), 1 / 3  # of the time that is left


class LabelsInformative(Check):
    """Held-out loss with true targets against targets in random order."""

    stage = "trial"
    order = 45
    cost = "48 steps on 16 rows; up to 400 more if these teach nothing for other rows, then 3,968 if time allows"

    def measure(self, lab: Lab) -> EvidenceList:
        if lab.task is not None:
            raise NotApplicable("a registered task makes its own labels: its easier versions are asked")
        if not reads_target(lab):
            raise NotApplicable("the loss is the same for targets in another order: it does not read them")
        if no_labels(lab.yb):
            raise NotApplicable("the targets are the same in every row, or count the rows")
        found = self._rounds(lab)
        if not number(found, P) <= number(found, "chance allowed"):
            found += [Evidence(name=CHANGED, value=True, where=f"callback {n}") for n in changers_of_targets(lab)]
        return found

    def _rounds(self, lab: Lab) -> EvidenceList:
        found, _ = self._round(lab, FEW)
        if number(found, P) <= LIKELY:
            return found
        lab.say("labels: more rows, as a few teach nothing that holds for others")
        many, each = self._round(lab, MANY)
        by_heart = number(many, LEARNED) >= BY_HEART
        passes = min(MOST.passes, lab.time_left * SHARE / each / MOST.train)
        settled = not CHANCE < number(many, P) <= (DOUBT if by_heart else 1)
        if settled or passes * MOST.train < 2 * MANY.passes * MANY.train:
            return many
        lab.say("labels: more rows and steps, as these teach nothing that holds for others")
        most, _ = self._round(lab, MOST._replace(passes=int(passes)), stop_at=ENOUGH)
        tells = number(most, P) <= CHANCE or number(most, LEARNED) >= BY_HEART
        return most if tells or not by_heart else many

    def _round(self, lab: Lab, size: Round, **kwargs: float) -> tuple[EvidenceList, float]:
        "What one round gives, and seconds a step."
        pieces = pieces_of(lab, size.train + size.held_out)
        held = min(size.held_out, max(len(pieces) // 3, FEWEST))
        held_out, train = pieces[:held], pieces[held:][: size.train]
        if len(train) < FEWEST:
            raise NotApplicable(f"the loader gives fewer than {2 * FEWEST * lab.rows} rows")
        trial = trial_on(lab, train, steps=max(size.passes * len(train), LEAST), **kwargs)
        chance = math.nan if trial.stopped == "not finite" else chance_of_targets(trial.learner, held_out, lab.seed)
        found = [
            Evidence(name="rows trained on", value=len(train) * lab.rows, unit="rows"),
            Evidence(name="rows held out", value=len(held_out) * lab.rows, unit="rows"),
            Evidence(name="steps", value=trial.steps, unit="steps"),
            Evidence(name=LEARNED, value=trial.learned, unit="share"),
            Evidence(name=P, value=chance, unit="p", expected=f"<= {size.chance:g}"),
            Evidence(name="chance allowed", value=size.chance, unit="p"),
            Evidence(name="loss", value=trial.loss, unit="loss", where="every step"),
        ]
        return EvidenceList(found), trial.seconds / max(trial.steps, 1)

    def judge(self, evidence: EvidenceList) -> Judgement:
        if evidence.get(P) is None:
            return Judgement("skip", "not measured")
        chance, learned = number(evidence, P), number(evidence, LEARNED)
        rows, held = number(evidence, "rows trained on"), number(evidence, "rows held out")
        told = (
            f"{amount(learned)} of {rows:.0f} rows is learned, and on {held:.0f} others the loss is as low "
            f"by chance with p = {stated(chance, 2)}"
        )
        if math.isnan(chance) or math.isnan(learned):
            return Judgement("skip", f"{told}; nothing to compare")
        if 0 < chance <= min(number(evidence, "chance allowed"), CHANCE):
            return Judgement("pass", told)
        if learned >= BY_HEART:
            return Judgement(
                "warn", f"{told}: learned by heart, no better than with labels in random order (needed p <= {CHANCE:g})"
            )
        return Judgement("skip", f"{told}: too little is learned to tell (needed {BY_HEART:g})")
