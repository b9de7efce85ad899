"""Activations are neither dead nor saturated.

## What it does
One forward pass in training mode. For the output of every activation module: the share of zeros, of units that are
zero for every row and place, and of values at the limits of a sigmoid or tanh (within 0.01). For outputs of the model
that a sigmoid or softmax confines: the share within 1e-6 of 0 or 1, beside the length of the whole gradient.

## Why it matters
A sigmoid fed with 2000 answers 1.0 for every row, and its gradient in single precision is exactly 0: any learning rate
moves nothing. A layer of dead units passes nothing on.

## How it is judged
Fails if at least half of the outputs stand at their limits and the whole gradient is exactly 0. Warns if at least 90 %
of a layer's units are dead, if 90 % of a hidden layer's values stand at their limits, or if 90 % of the outputs do
while the loss is no better than the best constant. Healthy layers stay below 40 % dead and 20 % saturated at the start.

## What to do
Scale what goes into the activation (a norm layer, a division by the square root of the width), or leave the last
activation to the loss (BCEWithLogits, CrossEntropy). For dead units: a lower learning rate, a norm layer, LeakyReLU.

## Source
Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks" (saturation);
real failure F2 of the notes: outputs 1.0, gradient exactly 0, ten steps at rate 1000 moved nothing.
"""

import math

import torch
from torch import Tensor, nn

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, stated
from diagnose.checks._numbers import by_place, number
from diagnose.checks._probing import hooked, leaves, share_of
from diagnose.errors import NotApplicable
from diagnose.isolate import seed_everything
from diagnose.lab import Lab
from diagnose.stats import LIMITS, at_limits, floats, total_norm, unit_axis
from diagnose.trial import confined_by

EXACT = 1e-6  # of an output: beyond it the gradient vanishes in single precision
MOST = 0.9
HALF = 0.5
OTHERS = {nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.PReLU, nn.SELU, nn.Hardswish, nn.CELU}
FEWEST_UNITS = 4  # with fewer, one or two dead units are no finding


class Activations(Check):
    """Shares of zeros, dead units and saturated values per layer."""

    stage = "probe"
    order = 20
    cost = "1 forward pass"

    def measure(self, lab: Lab) -> EvidenceList:
        model = lab.twin().model
        names, kept = leaves(model), {}

        def note(module: nn.Module, inputs: tuple, output: object) -> None:
            if isinstance(output, Tensor) and output.is_floating_point() and output.numel():
                kept[module] = output.detach()

        model.train()
        seed_everything(lab.seed)
        try:
            with hooked([m for m in names if type(m) in LIMITS or type(m) in OTHERS], note):
                output = model(*lab.xb)
        except Exception as e:
            raise NotApplicable(f"the pass in training mode raised {type(e).__name__}: {e}") from e
        confined, found = confined_by(output), EvidenceList()
        for module, out in kept.items():
            if type(module) in LIMITS and _is_output(out, output):
                continue
            found += _of_layer(type(module), out.float(), names[module], lab.rows)
        if confined in ("sigmoid", "softmax"):
            out = floats(output)[0].detach().float()
            found.append(Evidence(name="saturated outputs", value=_at_limits(out, confined), unit="share"))
            found.append(Evidence(name="gradient", value=_whole_gradient(lab), unit="norm", expected="> 0"))
            found.append(Evidence(name="learned before training", value=lab.scale.learned(lab.gradients.loss)))
        if not found:
            raise NotApplicable("the model has no activation module, and its outputs are not confined")
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        outputs, dead = number(evidence, "saturated outputs"), by_place(evidence, "dead units")
        limits = by_place(evidence, "saturated")
        if evidence.get("saturated outputs") is None and not dead and not limits:
            return Judgement("skip", "not measured")
        gradient = number(evidence, "gradient")
        told = f"{stated(100 * outputs)} % of the outputs stand within {EXACT:g} of their limits"
        if gradient == 0 and outputs >= HALF:
            return Judgement("fail", f"{told}, and the whole gradient is exactly 0")
        if outputs >= MOST and not number(evidence, "learned before training") > 0:
            return Judgement("warn", f"{told}, gradient {stated(gradient, 2)}")
        if evidence.get("saturated outputs") is not None and not outputs <= 1:
            return Judgement("warn", f"the outputs are no numbers: {told}")
        for name, values in (("of the units are dead", dead), ("of the values are saturated", limits)):
            bad = {w: v for w, v in values.items() if not v < MOST}
            if bad:
                worst = max(bad, key=lambda w: math.inf if math.isnan(bad[w]) else bad[w])
                more = f", and in {len(bad) - 1} more layers" if len(bad) > 1 else ""
                return Judgement("warn", f"{stated(100 * bad[worst])} % {name} after {worst}{more} (at most 90 %)")
        said = [
            f"{words} in {worst} layers, {100 * max(values.values()):.2g} % at most ({max(values, key=values.get)})"
            for words, values, worst in (("dead units", dead, len(dead)), ("saturated values", limits, len(limits)))
            if values
        ]
        said += [told] if evidence.get("saturated outputs") is not None else []
        return Judgement("pass", "; ".join(said))


def _of_layer(kind: type, out: Tensor, where: str, rows: int) -> list[Evidence]:
    "Evidence of one activation module. A unit is an index of axis 1 of maps (b, c, h, w), of the last axis else."
    found = []
    if not bool(torch.isfinite(out).all()):
        return [Evidence(name="dead units", value=math.nan, unit="share", where=where)]
    if kind in LIMITS:
        at = share_of(at_limits(kind, out))
        return [Evidence(name="saturated", value=at, unit="share", where=where, expected=f"< {MOST}")]
    zero = out == 0
    found.append(Evidence(name="zeros", value=share_of(zero), unit="share", where=where))
    axis = unit_axis(out)
    if out.ndim > 1 and out.shape[axis] >= FEWEST_UNITS and rows > 1:
        units = zero.transpose(0, axis).flatten(1).all(1)
        found.append(
            Evidence(name="dead units", value=share_of(units), unit="share", where=where, expected=f"< {MOST}")
        )
    return found


def _is_output(out: Tensor, output: object) -> bool:
    return any(t.numel() == out.numel() and torch.equal(t.detach().flatten(), out.flatten()) for t in floats(output))


def _at_limits(out: Tensor, confined: str) -> float:
    top = out if confined == "sigmoid" else out.amax(1)
    low = out <= EXACT if confined == "sigmoid" else torch.zeros_like(top, dtype=torch.bool)
    return share_of((top >= 1 - EXACT) | low) if bool(torch.isfinite(out).all()) else math.nan


def _whole_gradient(lab: Lab) -> float:
    return total_norm([g for g in lab.gradients.of.values() if g is not None])
