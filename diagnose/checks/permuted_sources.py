"""Permuting the sources permutes the outputs alike.

## What it does
Puts the sources of every row in another order, as the task says, and compares the output with the permuted output of
the original, in evaluation mode.

## Why it matters
A head that treats the slots differently has to learn the same comparison once per slot, and one that mixes slots up
answers for the wrong one.

## How it is judged
Passes if the largest difference is at most 1e-4 of the largest output. Warns otherwise: a head may tell slots apart
and still learn (the notes' own head, a batch norm over slots, was harmful and not fatal).

## What to do
Share one head over the slots; normalise over features, not over slots.

## Source
Zaheer et al. 2017, "Deep Sets" (equivariance); F8 and F16 of what really went wrong in the notes.
"""

import torch

from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.checks._numbers import number
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import largest_difference
from diagnose.task import Task

SAME = 1e-4


class PermutedSources(Check):
    """Reorders the sources and compares outputs."""

    stage = "probe"
    order = 50
    cost = "2 forward passes"

    def measure(self, lab: Lab) -> EvidenceList:
        if lab.task is None or type(lab.task).permuted is Task.permuted:
            raise NotApplicable("only a registered task says what permuting its sources must do")
        out = lab.output
        if not isinstance(out, torch.Tensor) or out.ndim < 2:
            raise NotApplicable("the output has no slot for each source")
        order = [*range(1, out.shape[1]), 0]
        batch = lab.task.permuted(tuple(lab.batch), order)
        moved = lab.forward(lab.twin().model, tuple(batch[: len(lab.xb)]))
        gap = largest_difference(moved, out[:, order]) / max(float(out.abs().max()), 1e-12)
        return EvidenceList(
            [
                Evidence(name="order", value=order),
                Evidence(name="difference", value=gap, unit="share of the largest output", expected=f"<= {SAME:g}"),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        if evidence.get("difference") is None:
            return Judgement("skip", "not measured")
        gap = number(evidence, "difference")
        if 0 <= gap <= SAME:
            return Judgement("pass", f"outputs follow their sources (difference {gap:.1g})")
        return Judgement("warn", f"outputs do not follow their sources: they differ by {gap:.2g} of the largest output")
