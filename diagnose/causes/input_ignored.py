"""All of the input never reaches the output.

## What it is
A `forward` that reads a variable of the notebook in place of its argument, multiplies it by zero, or builds something
of the same shape.

## Why it stops learning
The model answers for one batch, whatever it is given.

## How it is found
The check `inputs-matter`: all inputs are replaced, the weights jittered, and not one bit of the output moves.

## How it is proven
By that, and by where the input ends: no module that has weights is given anything else when all inputs are replaced, or
autograd finds no path from the output back to any input.

## How to fix
    def forward(self, *x):
        return self.head(torch.stack([self.encoder(i) for i in x]))     # x, not xb

## What it looks like but is not
Saturated or dead units, a norm or a softmax over one number also give an output that does not move: there the first
layers do see the input, and this cause is refuted. One of several inputs that moves nothing (ids, a mask of ones) is
told by the check and not claimed here.

## Source
Karpathy 2019, "A Recipe for Training Neural Networks" (input-independent baseline); real failure F3 of the notes.
"""

from typing import Any

import torch
from torch import Tensor, nn

from diagnose.causes import Cause, Findings, Settled, Suspicion, inspected
from diagnose.causes._reading import number
from diagnose.checks._probing import hooked
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import floats, replaced, same_bits, tensors

CHECK = "inputs-matter"


class InputIgnored(Cause):
    """Suspected when replacing the whole batch moves nothing."""

    settled_by = "inspection"
    when_learned = True
    explains = ("batch-mixing", "lr-too-high", "lr-too-low", "labels-uninformative", "params-outside-module")
    questions = (2,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        moved = number(findings, CHECK, "output moved by", "all inputs")
        if moved != 0:
            return None
        return Suspicion(1.0, "replacing every input moves the output by not one bit", ["forward"])

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        other = [_other(t) for t in tensors(lab.xb)]
        seen, would = self._given(lab, lab.xb), self._given(lab, replaced(lab.xb, other))
        reached = [n for n, a in seen.items() if not _alike(a, would.get(n, []))]
        path = self._path(lab)
        proof = inspected(
            "every input replaced",
            f"{len(reached)} of {len(seen)} layers with weights are given anything else, and the output stays as it is",
            "in a sound model every layer is given something else",
            {"layers that see the inputs": len(reached), "of": len(seen), "autograd finds a path": str(path)},
        )
        ignored = (bool(seen) and not reached) or path is False
        return Settled(ignored, not ignored, proof)

    def _given(self, lab: Lab, xb: tuple) -> dict[str, list[Tensor]]:
        "What each module that owns weights was given, but for the model itself."
        model = lab.twin().model
        names = {m: n for n, m in model.named_modules() if n and any(True for _ in m.parameters(recurse=False))}
        given: dict[str, list[Tensor]] = {}

        def note(module: nn.Module, inputs: tuple, output: Any) -> None:
            given.setdefault(names[module], []).extend(t.detach().clone() for t in tensors(inputs))

        with hooked(names, note):
            lab.forward(model, None if xb is lab.xb else xb)
        return given

    def _path(self, lab: Lab) -> bool | None:
        "Whether autograd finds a path from the output to a floating-point input; None if there is none to ask about."
        parts = [t.detach().clone().requires_grad_(t.is_floating_point()) for t in tensors(lab.xb)]
        leaves = [t for t in parts if t.requires_grad]
        if not leaves or len(leaves) < len(parts):
            return None
        model = lab.twin().model.eval()
        with torch.enable_grad():
            outs = [t.sum() for t in floats(model(*replaced(lab.xb, parts))) if t.requires_grad]
            if not outs:
                return None
            grads = torch.autograd.grad(sum(outs), leaves, allow_unused=True)
        return any(g is not None for g in grads)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Read `forward`: it must use its arguments, not a variable from outside.",
            code="def forward(self, x):\n    return self.head(self.encoder(x))  # x is the argument",
        )


def _other(t: Tensor) -> Tensor:
    if not t.numel():
        raise NotApplicable("an input is empty")
    rolled = t.roll(1, 0) if t.ndim else t
    if not t.is_floating_point():
        return rolled
    return rolled + t.float().std().nan_to_num(1.0).clamp_min(1e-2).to(t.dtype)


def _alike(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(same_bits(x, y) for x, y in zip(a, b))
