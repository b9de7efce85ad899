"""Between two linear layers stands something that is not linear.

## What it does
Runs the batch once in evaluation mode and finds Linear layers whose input is the very output of another Linear layer,
with at most drop-out, identity or a reshape between them. Functional activations are seen too: they make a new tensor,
or mark the old one as changed.

## Why it matters
Linear layers in a row compute what one of them could: the depth is not there, and the optimizer has a harder problem.

## How it is judged
Warns if the layers stand in the same parent module, both train, and the width between them is not below both of the
outer widths. A narrower middle is a low-rank factorisation (LoRA, an embedding bottleneck) and meant so; a head on an
encoder that ends in a projection, and a stack with a frozen part, are named and not judged. The comparison is exact.

## What to do
Put an activation between the two layers, or make them one.

## Source
Goodfellow et al. 2016, "Deep Learning", 6.1; real failure F16 of the notes (a head of three Linear layers).
"""

import math

from torch import nn

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._calls import is_number, texts, traced
from diagnose.errors import NotApplicable, SubjectError
from diagnose.isolate import seed_everything
from diagnose.lab import Lab


class LinearStacks(Check):
    """Finds Linear layers that feed Linear layers."""

    stage = "probe"
    order = 12
    cost = "1 forward pass"

    def measure(self, lab: Lab) -> EvidenceList:
        model = lab.twin().model
        linears = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
        if len(linears) < 2:
            raise NotApplicable(f"the model has {len(linears)} Linear layers, a stack takes 2")
        seed_everything(lab.seed)
        try:
            calls = traced(model, lab.xb)
        except Exception as e:
            raise SubjectError("running the forward pass", e) from e
        pairs = dict.fromkeys((c.fed_by, c.name) for c in calls if c.name in linears and c.fed_by in linears)
        judged, meant = [], []
        for a, b in pairs:
            first, second = linears[a], linears[b]
            rank = min(first.in_features, second.out_features)
            trains = all(p.requires_grad for m in (first, second) for p in m.parameters())
            siblings = a.rpartition(".")[0] == b.rpartition(".")[0]
            text = f"{a} ({first.in_features} to {first.out_features}) into {b} (to {second.out_features})"
            (judged if siblings and trains and first.out_features >= rank else meant).append(text)
        return EvidenceList(
            [
                Evidence(name="Linear layers", value=len(linears)),
                Evidence(name="nothing between", value=judged, expected="none"),
                Evidence(name="nothing between, by design", value=meant),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        total, stacked = evidence.get("Linear layers"), texts(evidence.get("nothing between"))
        if not is_number(total) or math.isnan(total):
            return Judgement("skip", "not measured")
        if stacked:
            return Judgement(
                "warn", f"{len(stacked)} pairs of {total} Linear layers have nothing between them: {listed(stacked)}"
            )
        meant = texts(evidence.get("nothing between, by design"))
        note = f"; a bottleneck, a frozen part or a head on a projection: {listed(meant)}" if meant else ""
        return Judgement("pass", f"no two of {total} Linear layers act as one{note}")
