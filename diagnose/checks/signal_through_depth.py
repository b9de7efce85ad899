"""The signal keeps its scale on its way through the layers, forward and backward.

## What it does
One forward and backward pass in training mode. For every layer that has weights: the root mean square of its output and
of the gradient that arrives at it. Compares the largest with the smallest of each, exact zeros left out.

## Why it matters
Where every layer makes the signal half as large, the first of thirty layers gets a billionth of the gradient, and no
learning rate fits them all.

## How it is judged
Warns if activations or gradients span more than six orders of magnitude, or are not finite. Healthy subjects span at
most two in activations and three in gradients; a trained net with a tiny loss has small gradients everywhere, which
is no span. Optimizers that scale every parameter by itself (Adam) stand spans that SGD does not.

## What to do
Initialise with the gain of the activation (nn.init.kaiming_normal_), put norm layers between, add skip connections.

## Source
Glorot & Bengio 2010; He et al. 2015, "Delving deep into rectifiers"; Mishkin & Matas 2016, "All you need is a
good init".
"""

import math

import torch
from torch import Tensor, nn

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, stated
from diagnose.checks._numbers import by_place
from diagnose.checks._probing import hooked, leaves
from diagnose.errors import NotApplicable, SubjectError
from diagnose.isolate import seed_everything
from diagnose.lab import Lab

SPAN = 1e6


class SignalThroughDepth(Check):
    """Scale of activations and gradients, layer by layer."""

    stage = "probe"
    order = 22
    cost = "1 forward and backward pass"

    def measure(self, lab: Lab) -> EvidenceList:
        copy = lab.twin()
        names = {m: n for m, n in leaves(copy.model).items() if any(p.ndim > 1 for p in m.parameters(recurse=False))}
        seen: list[tuple[str, float, Tensor]] = []
        grads: dict[int, float] = {}

        def note(module: nn.Module, inputs: tuple, output: object) -> None:
            outs = [t for t in (output if isinstance(output, tuple) else (output,)) if isinstance(t, Tensor)]
            if not outs or not outs[0].is_floating_point() or not outs[0].numel():
                return
            out, i = outs[0], len(seen)
            seen.append((names[module], _rms(out), out))
            if out.requires_grad:
                out.register_hook(lambda g: grads.__setitem__(i, _rms(g)))

        copy.model.train()
        seed_everything(lab.seed)
        try:
            with hooked(names, note):
                loss = lab.loss_of(copy, lab.predicted(copy, copy.model(*lab.xb)))
            if loss.requires_grad:
                loss.backward()
        except NotApplicable:
            raise
        except Exception as e:
            raise SubjectError("running the forward and backward pass", e) from e
        if len(seen) < 2:
            raise NotApplicable("fewer than two layers with weights ran")
        found = EvidenceList([Evidence(name="layers", value=len(seen))])
        for i, (name, size, _) in enumerate(seen):
            found.append(Evidence(name="activation", value=size, unit="root mean square", where=name))
            if i in grads:
                found.append(Evidence(name="gradient", value=grads[i], unit="root mean square", where=name))
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        said = []
        for name, words in (("activation", "activations"), ("gradient", "gradients")):
            values = by_place(evidence, name)
            bad = [w for w, v in values.items() if not math.isfinite(v)]
            if bad:
                return Judgement("warn", f"{words} are not finite at {bad[0]} ({stated(values[bad[0]])})")
            sizes = {w: v for w, v in values.items() if v > 0}
            if len(sizes) < 2:
                continue
            low, high = min(sizes, key=sizes.get), max(sizes, key=sizes.get)
            span = sizes[high] / sizes[low]
            place = f"{sizes[low]:.2g} at {low} to {sizes[high]:.2g} at {high}"
            if not span <= SPAN:
                return Judgement("warn", f"{words} span {span:.1g} from layer to layer, {place} (at most {SPAN:g})")
            said.append(f"{words} span a factor of {span:.2g} ({place})")
        return Judgement("pass", "; ".join(said)) if said else Judgement("skip", "not measured")


def _rms(t: Tensor) -> float:
    return float(torch.linalg.vector_norm(t.detach().float()) / math.sqrt(t.numel()))
