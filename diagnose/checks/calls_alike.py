"""An encoder with batch norm that is called several times a step gets inputs of like statistics each time.

## What it does
Runs the fixed batch once in training mode and notes mean and variance of what every batch norm is given, call by call.
For each call: how far its values would be off, in standard deviations and over the channels, if they were normalised by
the statistics of all calls together, as evaluation does, in place of the call's own, as training does.

## Why it matters
In training every call is normalised by its own statistics; the running statistics mix them. Where one call encodes a
mixture and another its sources, or a photograph and a drawing, evaluation normalises both by what is true of neither.

## How it is judged
Warns above 1 standard deviation. Pictures and their mirror images are at 0.04, the mixture and the sources of unmix,
encoded one by one, at 0.14 (0.27 not standardised; 0.9 where each source is a darker copy), digits and their negatives
at 0.35 and learned in evaluation mode as well; digits and copies eight standard deviations brighter, which are lost in
evaluation mode, at 1.4. Norms without batch statistics are not asked.

## What to do
Stack the inputs and call the encoder once, `encoder(torch.stack(xs, 1).flatten(0, 1)).unflatten(0, (-1, len(xs)))`, or
use GroupNorm.

## Source
The notes' checklist, item 9, and 9/3 ("does the encoder see each role alike?"); Ioffe & Szegedy 2015, "Batch
normalization", on running statistics; real failure F9.
"""

import math

import torch
from torch import Tensor, nn

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, stated
from diagnose.checks._numbers import number, place_of
from diagnose.checks._probing import batch_norms, hooked
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

MOST = 1.0  # standard deviations


class CallsAlike(Check):
    """Statistics of every call of the batch norms in one forward pass."""

    stage = "probe"
    order = 27
    cost = "1 forward pass"

    def measure(self, lab: Lab) -> EvidenceList:
        model = lab.twin().model
        norms = batch_norms(model)
        if not norms:
            raise NotApplicable("no batch norm keeps running statistics")
        seen: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}

        def note(module: nn.Module, inputs: tuple, output: object) -> None:
            x = inputs[0].detach().float()
            if module.training and x.numel() > x.shape[1]:
                x = x.transpose(0, 1).flatten(1)
                seen.setdefault(module, []).append((x.mean(1), x.var(1, unbiased=False)))

        with hooked(norms, note), torch.no_grad():
            lab.forward(model, training=True)
        several = {m: calls for m, calls in seen.items() if len(calls) > 1}
        off = {m: _off(calls, m.eps) for m, calls in several.items()}
        worst = max(off, key=lambda m: -1.0 if math.isnan(off[m]) else off[m], default=None)
        found = EvidenceList(
            [
                Evidence(name="batch norms", value=len(norms)),
                Evidence(name="called several times", value=len(several)),
                Evidence(name="most calls", value=max(map(len, seen.values()), default=0)),
            ]
        )
        if worst is not None:
            unit = "standard deviations"
            found.append(
                Evidence(name="furthest off", value=off[worst], unit=unit, where=norms[worst], expected=f"<= {MOST:g}")
            )
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        norms, several = number(evidence, "batch norms"), number(evidence, "called several times")
        if math.isnan(several):
            return Judgement("skip", "not measured")
        if several == 0:
            return Judgement("pass", f"each of {stated(norms)} batch norms is called once a step")
        off, calls = number(evidence, "furthest off"), number(evidence, "most calls")
        place = place_of(evidence, "furthest off")
        told = f"{place} is called {stated(calls)} times a step, on inputs whose statistics are {stated(off, 2)}"
        told += " standard deviations from those of all calls together"
        return Judgement("pass" if off <= MOST else "warn", told if off <= MOST else f"{told} (at most {MOST:g})")


def _off(calls: list[tuple[Tensor, Tensor]], eps: float) -> float:
    "How far the furthest call is from mean 0 and deviation 1 under the mean statistics, over the channels."
    means, variances = (torch.stack(parts) for parts in zip(*calls))
    scale = (variances.mean(0) + eps).sqrt()
    shift = (means - means.mean(0)) / scale
    stretch = (variances + eps).sqrt() / scale - 1
    return float((shift.square() + stretch.square()).mean(1).sqrt().max())
