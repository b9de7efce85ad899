"""All of the input never reaches the output.

## What it is
A `forward` that reads a variable of the notebook in place of its argument, multiplies it by zero, clamps all of it to
one number, or builds something of the same shape.

## Why it stops learning
The model answers for one batch, whatever it is given.

## How it is found
The check `inputs-matter`: all inputs are replaced, the weights jittered, and not one bit of the output moves.

## How it is proven
By that, and by where the input ends: no module that has weights is given anything else when all inputs are replaced;
autograd finds no path from the output back to any input; or one layer still puts out something else and the next one is
given the same, also where the last layer with weights puts out numbers of mean 0 and deviation 1: then the code of a
`forward` between the two loses it. Where the next layer takes what the first one puts out, it is given that, on a copy:
the output moves again.

## How to fix
    def forward(self, *x):
        return self.head(torch.stack([self.encoder(i) for i in x]))     # x, not xb

## What it looks like but is not
Saturated or dead units, a norm or a softmax over one number also give an output that does not move: there a layer is
given something else and answers alike, and this cause is refuted; or a function in a `forward` is given what it cannot
tell apart, and this cause is told as suspected, with the layer that puts it out. One of several inputs that moves
nothing (ids, a mask of ones) is told by the check and not claimed here.

## Source
Karpathy 2019, "A Recipe for Training Neural Networks" (input-independent baseline); real failure F3 of the notes.
"""

from typing import Any

import torch
from torch import Tensor, nn

from diagnose.causes import Cause, Findings, Settled, Suspicion, inspected
from diagnose.causes._reading import number
from diagnose.checks._probing import hooked, largest_move, leaves
from diagnose.checks._reach import Reach, copies, reach
from diagnose.checks.inputs_matter import ROUNDING
from diagnose.diagnosis import Fix, Proof
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import alike, floats, replaced, tensors

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
        place, last = findings.value(CHECK, "lost", ""), findings.value(CHECK, "moved last", "")
        if not place or findings.value(CHECK, "lost inside a layer") is not False:
            return Suspicion(1.0, "replacing every input moves the output by not one bit", ["forward"])
        reason = f"replacing every input moves {last}, and not one bit of the output: it is lost {place}"
        return Suspicion(1.0, reason, [place], {"between": place})

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        other = replaced(lab.xb, [_other(t) for t in tensors(lab.xb)])
        seen, would = self._given(lab, lab.xb), self._given(lab, other)
        reached = [n for n, a in seen.items() if not alike(a, would.get(n, []))]
        path = self._path(lab)
        proof = inspected(
            "every input replaced",
            f"{len(reached)} of {len(seen)} layers with weights are given anything else, and the output stays as it is",
            "in a sound model every layer is given something else",
            {"layers that see the inputs": len(reached), "of": len(seen), "autograd finds a path": str(path)},
        )
        if reached and "between" in suspicion.facts:
            return self._lost_between(lab, suspicion, other, proof)
        ignored = (bool(seen) and not reached) or path is False
        return Settled(ignored, not ignored, proof)

    def _lost_between(self, lab: Lab, suspicion: Suspicion, other: tuple, proof: Proof) -> Settled:
        "The place is looked for once more, in the weights as they are, and what stands there is left out on a copy."
        model = lab.twin().model
        ends = reach(lab, model, other)
        if ends is None or ends.inside or not ends.moved:
            return Settled(False, True, proof)
        before = f"{ends.moved} puts out something else, {ends.still or 'the output'} gets the same"
        if ends.source and not self._always_lost(lab, model, ends):
            suspicion.facts["out of range"] = ends.source
            change = f"numbers of mean 0 and deviation 1 in place of what {ends.source} puts out"
            after = f"{ends.still or 'the output'} gets something else: the range is what is lost {ends.place}"
            return Settled(False, False, inspected(change, before, after))
        moved = self._without(lab, model, ends, other)
        numbers = {"the output moves by": 0.0}
        if moved is None:
            after = "in a sound model whatever a layer puts out goes on"
            return Settled(True, False, inspected("every input replaced", before, after, numbers))
        after = f"given what {ends.moved} puts out, {ends.still} lets the output move by {moved:.2g} of its size"
        change = f"what stands {ends.place} left out"
        return Settled(
            moved > ROUNDING,
            not moved > ROUNDING,
            inspected(change, before, after, numbers, **{"the output moves by": moved}),
        )

    def _always_lost(self, lab: Lab, model: nn.Module, ends: Reach) -> bool:
        """Whether it is lost too where the last layer with weights puts out numbers of mean 0 and deviation 1, drawn
        twice; if not, what it puts out now is where a function is dead or saturated."""
        layers = {n: m for m, n in leaves(model).items()}
        seen: list[list[Tensor]] = []

        def draw(module: nn.Module, inputs: tuple, output: Any) -> Any:
            return _drawn(output, len(seen) + lab.seed)

        def see(module: nn.Module, inputs: tuple) -> None:
            seen.append(copies(inputs))

        try:
            with hooked([layers[ends.source]], draw), hooked([layers[ends.still]] if ends.still else [], before=see):
                for _ in range(2):
                    output = lab.forward(model, lab.xb)
                    if not ends.still:
                        seen.append(copies(output))
        except NotApplicable:
            return False
        half = len(seen) // 2
        return half > 0 and all(alike(a, b) for a, b in zip(seen[:half], seen[half:], strict=True))

    def _without(self, lab: Lab, model: nn.Module, ends: Reach, other: tuple) -> float | None:
        """How far the output moves if the layer that gets the same is given what the last one that moves puts out; None
        if it does not take that."""
        if not ends.still:
            return None
        layers, kept = {n: m for m, n in leaves(model).items()}, []

        def keep(module: nn.Module, inputs: tuple, output: Any) -> None:
            kept.append(output)

        def instead(module: nn.Module, inputs: tuple) -> tuple:
            last = kept[-1] if kept else None
            if not (isinstance(last, Tensor) and len(inputs) == 1 and last.shape == inputs[0].shape):
                raise NotApplicable("the next layer does not take what the last one puts out")
            return (last,)

        try:
            with hooked([layers[ends.moved]], keep), hooked([layers[ends.still]], before=instead):
                return largest_move(lab.forward(model, lab.xb), lab.forward(model, other))
        except NotApplicable:
            return None

    def _given(self, lab: Lab, xb: tuple) -> dict[str, list[Tensor]]:
        "What each module that owns weights was given, but for the model itself."
        model = lab.twin().model
        names = {m: n for n, m in model.named_modules() if n and any(True for _ in m.parameters(recurse=False))}
        given: dict[str, list[Tensor]] = {}

        def note(module: nn.Module, inputs: tuple, output: Any) -> None:
            given.setdefault(names[module], []).extend(copies(inputs))

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
        if source := suspicion.facts.get("out of range"):
            return Fix(
                text=f"What {source} puts out is where the function that follows cannot tell it apart: look at its "
                "bias and at the scale of its weights, or put a norm layer behind it.",
                code=f"x = F.layer_norm(x, x.shape[-1:])  # behind {source}",
            )
        if place := suspicion.facts.get("between"):
            return Fix(
                text=f"Read `forward` {place}: what stands there gives the same whatever it is given (clamp, a product "
                "with zero, a comparison, round, a function of the shape alone).",
                code="x = self.body(x)\nreturn self.head(x)  # and nothing between the two that loses x",
            )
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


def _drawn(output: Any, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return replaced(
        output,
        [torch.randn(t.shape, generator=generator).to(t) if t.is_floating_point() else t for t in tensors(output)],
    )
