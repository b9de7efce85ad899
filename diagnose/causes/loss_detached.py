"""The loss has no gradient with respect to the model's output.

## What it is
An accuracy or an argmax in place of a loss; a loss that went through numpy, `.item()` or `.detach()`; and the wrong
remedy for the error this gives, `torch.tensor(loss, requires_grad=True)`.

## Why it stops learning
No gradient leaves the loss. Either backward raises ("element 0 of tensors does not require grad"), or nothing moves.

## How it is found
No trainable parameter gets a gradient, although moving parameters moves the output.

## How it is proven
By a look at the two ends: the model's output is part of the graph, and the gradient of the loss with respect to it is
missing, or exactly zero for the output as it is and for random ones.

## How to fix
    loss = F.cross_entropy(pred, y)              # tensors all the way; .item() only for what is printed

## What it looks like but is not
A cut inside the model: there the output itself has no graph (`graph-broken`). A hinge that is satisfied has no gradient
at one point, and has one for other outputs.

## Source
PyTorch forum threads on "element 0 of tensors does not require grad and does not have a grad_fn"; the notes'
checklist, items 1 and 9.
"""

import torch
from torch import Tensor

from diagnose.causes import Cause, Findings, Settled, Suspicion, inspected
from diagnose.causes._reading import by_place, number, texts, truth
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.isolate import seed_everything
from diagnose.lab import Lab
from diagnose.stats import floats, replaced, tensors

CHECK = "gradient-flow"


class LossDetached(Cause):
    """Suspected when no parameter at all gets a gradient."""

    settled_by = "inspection"
    when_learned = True
    explains = ("graph-broken", "params-frozen", "lr-too-low", "lr-too-high", "init-constant")
    questions = (1, 9)

    def suspect(self, findings: Findings) -> Suspicion | None:
        total, without = number(findings, CHECK, "trainable tensors"), texts(findings, CHECK, "without gradient")
        has = truth(findings, CHECK, "loss has a gradient")
        if not total >= 1 or has is None or (has and len(without) < total):
            return None
        moving = sum(v > 0 for v in by_place(findings, CHECK, "output moved by").values())
        if has and not moving:  # gradients that arrive and are zero
            return None
        reason = f"none of {total:.0f} trainable tensors gets a gradient"
        return Suspicion(1.0, f"{reason}; {moving} that were moved move the output", ["the loss"])

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        copy = lab.twin()
        copy.model.train()
        seed_everything(lab.seed)
        with torch.enable_grad():
            output = copy.model(*lab.xb)
            outs = [t for t in floats(output) if t.requires_grad]
            if not outs:
                raise NotApplicable("the model's output has no graph: the cut is in the model")
            slopes = [_slope(lab, copy, _leaves(output, noisy)) for noisy in (False, True)]
        told = ["missing" if s is None else f"{s:.3g}" for s in slopes]
        proof = inspected(
            "gradient of the loss with respect to the model's output",
            f"it is {told[0]} for the output as it is, {told[1]} for random outputs",
            "that of a sound loss is there and differs from zero",
            {"output is part of the graph": True, "gradient at the output": slopes[0]},
        )
        return Settled(not any(slopes), any(s is not None and s > 0 for s in slopes), proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Compute the loss from the model's output with differentiable tensor operations only: no argmax, no "
            "numpy, no .item(), no .detach(), and no new torch.tensor(loss).",
            code="def loss_func(pred, target):\n    return F.cross_entropy(pred, target)",
        )


def _leaves(output: object, noisy: bool) -> object:
    "The output as leaves that want a gradient; with random numbers in place of its own if asked."
    fresh = [torch.randn_like(t) if noisy and t.is_floating_point() else t.detach().clone() for t in tensors(output)]
    return replaced(output, [t.requires_grad_(True) if t.is_floating_point() else t for t in fresh])


def _slope(lab: Lab, copy: object, output: object) -> float | None:
    "Largest gradient of the loss with respect to the outputs; None if there is none."
    try:
        loss = lab.loss_of(copy, output)
    except NotApplicable:
        raise
    except Exception:  # a loss that refuses random outputs
        return None
    if not loss.requires_grad:
        return None
    found = torch.autograd.grad(loss, floats(output), allow_unused=True)
    sizes = [float(g.abs().max()) for g in found if isinstance(g, Tensor)]
    return max(sizes) if sizes else None
