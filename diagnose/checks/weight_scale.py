"""Weights start at a scale that carries the signal through.

## What it does
Compares the root mean square of every weight of two or more dimensions with what Kaiming's initialisation would give
it, sqrt(2 / fan-in). Weights that are all zero, and embeddings, which no signal is multiplied with, are left out.

## Why it matters
Weights ten times as large make a net of five layers answer a hundred thousand times as loud; weights ten times as small
make it silent.

## How it is judged
Warns if a weight stands more than 30 times above or 100 times below that scale. PyTorch's default draws linear layers
at 0.41 of it, normal_(0, 0.01) before 2048 inputs is at 0.32, the smallest in pretrained resnets is at 0.05, the
largest at 3; normal_(0, 1) before 4096 inputs is at 45.

## What to do
`apply_init(learn.model, nn.init.kaiming_normal_)`, or PyTorch's defaults.

## Source
He et al. 2015, "Delving deep into rectifiers", eq. 10; the notes' checklist, item 7.
"""

import math

from torch import nn

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed, stated
from diagnose.checks._numbers import by_place
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

MOST, LEAST = 30.0, 0.01


class WeightScale(Check):
    """Root mean square of weights, in units of Kaiming's."""

    stage = "inspection"
    order = 21
    cost = "no pass"

    def measure(self, lab: Lab) -> EvidenceList:
        model = lab.learn.model
        looked_up = {
            id(p) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag) for p in m.parameters()
        }
        weights = {
            n: p.detach().float()
            for n, p in model.named_parameters()
            if p.ndim > 1 and p.numel() > 1 and id(p) not in looked_up
        }
        scales = {n: float(p.square().mean().sqrt()) / math.sqrt(2 / max(p[0].numel(), 1)) for n, p in weights.items()}
        scales = {n: v for n, v in scales.items() if v != 0}
        if not scales:
            raise NotApplicable("the model has no weight of two or more dimensions that is not zero")
        expected = f"{LEAST:g} to {MOST:g}"
        return EvidenceList(
            [
                Evidence(name="scale", value=v, unit="of Kaiming's", where=n, expected=expected)
                for n, v in scales.items()
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        scales = by_place(evidence, "scale")
        if not scales:
            return Judgement("skip", "not measured")
        odd = [f"{n} ({stated(v, 2)})" for n, v in scales.items() if not LEAST <= v <= MOST]
        if odd:
            return Judgement(
                "warn", f"{len(odd)} of {len(scales)} weights start far from Kaiming's scale, times: {listed(odd)}"
            )
        low, high = min(scales, key=scales.get), max(scales, key=scales.get)
        return Judgement(
            "pass",
            f"{len(scales)} weights start at {scales[low]:.2g} ({low}) to {scales[high]:.2g} ({high}) of Kaiming's",
        )
