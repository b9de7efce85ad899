"""Weights start neither constant nor as copies of each other.

## What it does
Looks at every weight of two or more dimensions and finds those whose elements are all alike, or whose output units
(rows) are all alike.

## Why it matters
Units that start alike get the same gradient and stay alike: a layer of a hundred units computes what one computes.

## How it is judged
Warns if such a weight is not zero, or if more than a quarter of all weights are constant. A few all-zero weights pass:
zero-initialised last layers and residual branches are good practice (Zhang et al. 2019, "Fixup"; Goyal et al. 2017),
since their inputs differ and break the symmetry at the first step. Whether it stops learning is left to a trial.

## What to do
Draw the weights: `apply_init(learn.model, nn.init.kaiming_normal_)`.

## Source
Goodfellow et al. 2016, "Deep Learning", 8.4: the one property known for certain is that initialisation must break
symmetry. The notes' checklist, item 7.
"""

import math

from torch import Tensor

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._numbers import number, texts
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

MOST_ZERO = 0.25  # share of weight tensors that may be all zero, as in residual nets with zero-initialised branches


class Initialisation(Check):
    """Finds weights that are constant or whose units are copies."""

    stage = "inspection"
    order = 20
    cost = "no pass"

    def measure(self, lab: Lab) -> EvidenceList:
        weights = {n: p for n, p in lab.learn.model.named_parameters() if p.ndim > 1 and p.numel() > 1}
        if not weights:
            raise NotApplicable("the model has no weight of two or more dimensions")
        alike = {n: p for n, p in weights.items() if units_alike(p)}
        constant = {n: p for n, p in alike.items() if bool((p == p.flatten()[0]).all())}
        zero = [n for n, p in constant.items() if not bool(p.any())]
        return EvidenceList(
            [
                Evidence(name="weights", value=len(weights)),
                Evidence(name="units alike", value=list(alike), expected="none"),
                Evidence(name="constant", value=list(constant), expected="none"),
                Evidence(name="all zero", value=zero),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        measured = number(evidence, "weights")
        if not math.isfinite(measured):
            return Judgement("skip", "not measured")
        total, alike, zero = int(measured), texts(evidence, "units alike"), texts(evidence, "all zero")
        if not alike:
            return Judgement("pass", f"no unit starts as a copy of another, in {total} weights")
        if len(zero) == len(alike) <= MOST_ZERO * total:
            return Judgement(
                "pass", f"{len(zero)} of {total} weights start at zero ({listed(zero)}), the others differ"
            )
        return Judgement("warn", f"in {len(alike)} of {total} weights all units start alike: {listed(alike)}")


def units_alike(weight: Tensor) -> bool:
    """True if every row of a weight (its output units) equals the first."""
    rows = weight.detach().flatten(1)
    return bool((rows == rows[:1]).all()) if rows.shape[0] > 1 else bool((rows == rows[0, 0]).all())
