"""Clipping cuts outliers, not every gradient.

## What it does
Trains a copy on the fixed batch for five steps and reads the length of the gradient before and after the callbacks that
change it. If nearly every gradient is cut to less than a hundredth, it trains another copy without these cuts and
compares how far the weights move.

## Why it matters
A clipping threshold far below the usual gradient turns every gradient into one of the same tiny length: the learning
rate is then not the one that is configured.

## How it is judged
Warns if at least nine of ten gradients are cut below 1 % of their length, and the weights move by less than a tenth of
what they would without. Adam divides the length out, so that the same cut passes there, and is told.

## What to do
Take a threshold from the gradients that were measured: their median or a little above.

## Source
Pascanu et al. 2013, "On the difficulty of training recurrent neural networks" (a threshold of half to ten times the
average gradient).
"""

import math

from fastai.callback.core import Callback
from fastai.learner import Learner

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, stated
from diagnose.checks._numbers import as_number, number
from diagnose.checks._probing import train_few
from diagnose.lab import Lab
from diagnose.stats import total_norm

STEPS = 5
CUT = 0.01
NEARLY_ALL = 0.9
SLOWED = 0.1


class Clipping(Check):
    """Length of the gradient before and after it is clipped."""

    stage = "probe"
    order = 47
    cost = "5 steps, 10 if everything is cut"

    def measure(self, lab: Lab) -> EvidenceList:
        before = _BeforeCuts()
        after = _AfterCuts(before)
        student = train_few(lab, STEPS, [before, after])
        pairs = list(zip(before.norms, after.norms))
        kept = [a / b for b, a in pairs if b > 0]
        cut = [k for k in kept if not k >= CUT]
        found = EvidenceList(
            [
                Evidence(name="gradient before", value=[b for b, _ in pairs], unit="norm", where="every step"),
                Evidence(name="gradient after", value=[a for _, a in pairs], unit="norm", where="every step"),
                Evidence(name="kept of it", value=min(kept, default=math.nan), unit="share", where="least"),
                Evidence(name=f"cut below {CUT:.0%}", value=len(cut) / len(kept) if kept else math.nan, unit="share"),
            ]
        )
        if kept and len(cut) >= NEARLY_ALL * len(kept):
            before = _BeforeCuts()
            free = train_few(lab, STEPS, [before, _AfterCuts(before, undo=True)])
            moved, could = _moved(lab.learn, student), _moved(lab.learn, free)
            ratio = moved / could if could else math.nan
            found.append(Evidence(name="weights move", value=ratio, unit="of without cuts", expected=f">= {SLOWED:g}"))
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        if evidence.get("kept of it", "least") is None:
            return Judgement("skip", "not measured")
        share, least = number(evidence, f"cut below {CUT:.0%}"), number(evidence, "kept of it", "least")
        if math.isnan(share):
            return Judgement("skip", f"no gradient to compare: {stated(share)} of them were cut")
        if share >= NEARLY_ALL:
            moves = as_number(evidence.get("weights move"))
            told = f"{share:.0%} of the gradients are cut below {CUT:.0%} (to {stated(least, 2)} at least)"
            if moves >= SLOWED:
                return Judgement("pass", f"{told}; the weights move by {moves:.2g} of what they would without")
            return Judgement("warn", f"{told}, and the weights move by {stated(moves, 2)} of what they would without")
        if not least < 1 - 1e-6:
            return Judgement("pass", f"nothing is clipped (at least {stated(least)} of every gradient is kept)")
        return Judgement(
            "pass", f"{share:.0%} of the gradients are cut below {CUT:.0%}; {stated(least, 2)} kept at least"
        )


def _moved(learn: Learner, student: Learner) -> float:
    pairs = zip(learn.model.parameters(), student.model.parameters())
    return total_norm([b.detach() - a.detach() for a, b in pairs])


class _BeforeCuts(Callback):
    "The gradient after mixed precision has unscaled it, before anything clips it."

    order = 10.5

    def __init__(self):
        self.norms, self.grads = [], []

    def before_step(self):
        held = [p for p in self.learn.model.parameters() if p.grad is not None]
        self.norms.append(total_norm([p.grad for p in held]))
        self.grads = [(p, p.grad.detach().clone()) for p in held]


class _AfterCuts(Callback):
    "The gradient just before the step; puts back what it was before the cuts, if asked to."

    order = 1000

    def __init__(self, before: _BeforeCuts, undo: bool = False):
        self.before, self.undo, self.norms = before, undo, []

    def before_step(self):
        if self.undo:
            for p, grad in self.before.grads:
                p.grad.copy_(grad)
        self.norms.append(total_norm([p.grad for p in self.learn.model.parameters() if p.grad is not None]))
