"""A few dozen rows can be memorised, and are known in evaluation mode.

## What it does
Takes 48 fixed rows (more only for a model that is made for larger batches) in batches of the size of the other trials,
trains a copy over and over on them for up to 200 steps, and evaluates all of them in evaluation mode.

## Why it matters
One batch may be memorised by its own statistics. Several that alternate may not, and the mode in which a model is used
is the evaluation mode.

## How it is judged
Warns if less than 0.5 is learned in evaluation mode: 200 steps are 66 passes over the rows. Healthy subjects reach 0.7
to 1.0. It locates a fault and never fails: a slow learning rate needs more steps than this.

## What to do
If one batch is learned and this is not: compare both modes (norm layers, drop-out), then take smaller steps.

## Source
The notes, 9/7 and 10/1 (a few dozen images, fixed); real failures F5 and F7.
"""

import math

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, amount, stated
from diagnose.checks._numbers import number
from diagnose.checks._probing import pieces_of, trial_on
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.trial import batch_loss

FEW = 48
ENOUGH = 0.5
STEPS = 200


class OverfitFewDozen(Check):
    """Trains on 48 fixed rows, judges in evaluation mode."""

    stage = "trial"
    order = 65
    extra = True
    cost = "up to 200 steps on 16 rows"

    def measure(self, lab: Lab) -> EvidenceList:
        pieces = pieces_of(lab, max(FEW // lab.rows, 3))
        if len(pieces) < 2:
            raise NotApplicable(f"the loader gives fewer than {2 * lab.rows} rows")
        lab.say(f"a few dozen: {len(pieces) * lab.rows} rows")
        trial = trial_on(lab, pieces, steps=STEPS)
        losses = [batch_loss(trial.learner, b, training=False) for b in pieces]
        evaluated = math.nan if trial.stopped == "not finite" else trial.scale.learned(sum(losses) / len(losses))
        return EvidenceList(
            [
                Evidence(name="rows", value=len(pieces) * lab.rows),
                Evidence(name="steps", value=len(trial.loss), unit="steps"),
                Evidence(name="learned", value=trial.learned, unit="share", where="training mode"),
                Evidence(
                    name="learned", value=evaluated, unit="share", where="evaluation mode", expected=f">= {ENOUGH}"
                ),
                Evidence(name="loss", value=trial.loss, unit="loss", where="every step"),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        if evidence.get("learned", "evaluation mode") is None:
            return Judgement("skip", "not measured")
        evaluated, trained = (number(evidence, "learned", f"{m} mode") for m in ("evaluation", "training"))
        told = (
            f"learned {amount(evaluated)} of {stated(number(evidence, 'rows'))} rows in evaluation mode, "
            f"{amount(trained)} in training mode, in {stated(number(evidence, 'steps'))} steps"
        )
        if evaluated >= ENOUGH:
            return Judgement("pass", told)
        return Judgement("warn", f"{told} (needed {ENOUGH:g})")
