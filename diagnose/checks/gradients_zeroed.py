"""Gradients start from zero after every step.

## What it does
Trains a copy on the fixed batch four times over, and looks at every parameter that the optimizer holds just before the
backward pass that follows a step: its gradient must be none or zero. Batches that make no step, as under
GradientAccumulation, are let pass.

## Why it matters
Gradients that are never zeroed sum up all batches since the beginning: a momentum that never forgets. It learns at
first, and then runs away.

## How it is judged
Warns if any gradient is left, with its length beside that of the first gradient. In a healthy subject it is exactly 0.

## What to do
Let `learn.opt.zero_grad()` run after the step; do not cancel it in a callback, and do not override it with nothing.

## Source
PyTorch documentation, "Zeroing out gradients"; the notes' checklist, item 7.
"""

import math

from fastai.callback.core import Callback

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed, stated
from diagnose.checks._numbers import number, texts
from diagnose.checks._probing import train_few
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import total_norm

BATCHES = 4


class GradientsZeroed(Check):
    """What is left of the last gradient when the next one is computed."""

    stage = "probe"
    order = 46
    cost = "4 steps"

    def measure(self, lab: Lab) -> EvidenceList:
        watch = _LeftOverGradient()
        train_few(lab, BATCHES, [watch])
        if not watch.looked:
            raise NotApplicable(f"{BATCHES} batches make fewer than two optimizer steps, as gradients are accumulated")
        return EvidenceList(
            [
                Evidence(name="gradient left after a step", value=watch.left, unit="norm", expected="0"),
                Evidence(name="first gradient", value=watch.first, unit="norm"),
                Evidence(name="parameters with one left", value=watch.names, expected="none"),
                Evidence(name="steps looked at", value=watch.looked, unit="steps"),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        if evidence.get("gradient left after a step") is None:
            return Judgement("skip", "not measured")
        left, first = number(evidence, "gradient left after a step"), number(evidence, "first gradient")
        if left == 0:
            return Judgement("pass", f"no gradient is left after a step (0, the first was {stated(first, 2)})")
        names = texts(evidence, "parameters with one left")
        told = (
            f"a gradient of {stated(left, 2)} is left when the next one is computed (the first was {stated(first, 2)})"
        )
        return Judgement("warn", f"{told}: gradients of all batches add up, in {len(names)} tensors: {listed(names)}")


class _LeftOverGradient(Callback):
    order = 1000

    def __init__(self):
        self.left, self.first, self.names, self.looked, self.stepped = 0.0, math.nan, [], 0, False

    def before_backward(self):
        if not self.stepped:
            return
        held = {id(p) for group in self.learn.opt.param_lists for p in group}
        grads = {
            n: p.grad
            for n, p in self.learn.model.named_parameters()
            if id(p) in held and p.requires_grad and p.grad is not None
        }
        norms = {n: total_norm([g]) for n, g in grads.items()}
        self.names = sorted({*self.names, *(n for n, v in norms.items() if v != 0)})
        total = math.sqrt(sum(v * v for v in norms.values()))
        self.left = total if math.isnan(total) else max(self.left, total)
        self.looked, self.stepped = self.looked + 1, False

    def after_backward(self):
        if math.isnan(self.first):
            self.first = total_norm([p.grad for p in self.learn.model.parameters() if p.grad is not None])

    def after_step(self):
        self.stepped = True
