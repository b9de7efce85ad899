"""Every trainable parameter that gets a gradient moves, and the weights as a whole move enough to learn.

## What it does
Compares every parameter before and after the one-batch trial: ‖Δw‖/‖w‖.

## Why it matters
The notes: "layer stats remain unchanged after 10 epochs with an enormous LR". A parameter that gets a gradient and does
not move is missing from the optimizer, has a rate of zero, or the step is cancelled.

## How it is judged
Fails if a parameter with a gradient (above 1e-6 of the whole: below is rounding) did not move by one bit, or if the
weights as a whole moved by less than 1e-4 over the trial. Parameters without a gradient, and frozen ones, are left
alone. 1e-4 is the notes' own figure (D9); healthy subjects move by 0.02 to 0.9 (reports/thresholds.md).

## What to do
Compare with `optimizer-holds-parameters` and the learning-rate ladder.

## Source
Karpathy's update ratio of about 1e-3 a step ("Neural Networks: Zero to Hero", makemore 3); the notes, D9.
"""

import math

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._numbers import count, number, texts
from diagnose.lab import Lab
from diagnose.stats import total_norm

LEAST = 1e-4
ROUNDING = 1e-6  # of the whole gradient: what a bias before a norm layer gets is rounding, below 1e-7


class WeightChange(Check):
    """Compares every parameter before and after the one-batch trial."""

    stage = "trial"
    order = 20
    cost = "none beyond the one-batch trial"

    def measure(self, lab: Lab) -> EvidenceList:
        trial, grads = lab.baseline, lab.gradients.of
        norms = {n: total_norm([g]) for n, g in grads.items() if g is not None}
        least = ROUNDING * math.hypot(*(v for v in norms.values() if math.isfinite(v)))
        with_gradient = {n for n, v in norms.items() if not v <= least}
        still = [n for n in trial.moved if n in with_gradient and trial.moved[n] == 0]
        before = {n: p.detach().float().norm() for n, p in lab.learn.model.named_parameters()}
        total = math.sqrt(sum((trial.moved[n] * float(before[n])) ** 2 for n in trial.moved if n in before))
        size = math.sqrt(sum(float(v) ** 2 for v in before.values()))
        found = EvidenceList(
            [
                Evidence(name="steps", value=trial.steps, unit="steps"),
                Evidence(
                    name="weights moved by", value=total / max(size, 1e-12), unit="‖Δw‖/‖w‖", expected=f">= {LEAST:g}"
                ),
                Evidence(name="with gradient but unmoved", value=still, expected="none"),
                Evidence(name="with gradient", value=len(with_gradient)),
            ]
        )
        return EvidenceList(
            [*found, *(Evidence(name="moved by", value=v, unit="‖Δw‖/‖w‖", where=n) for n, v in trial.moved.items())]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        moved, steps = number(evidence, "weights moved by"), count(number(evidence, "steps"))
        still, total = texts(evidence, "with gradient but unmoved"), count(number(evidence, "with gradient"))
        if still:
            return Judgement(
                "fail",
                f"{len(still)} of {total} tensors with a gradient did not move in {steps} steps: {listed(still)}",
            )
        if not moved >= LEAST:
            return Judgement(
                "fail", f"the weights moved by {moved:.2g} of their size in {steps} steps, needed {LEAST:g}"
            )
        if not math.isfinite(moved):
            return Judgement("fail", f"the weights are not finite after {steps} steps")
        return Judgement(
            "pass", f"all {total} tensors with a gradient moved, the weights by {moved:.2g} in {steps} steps"
        )
