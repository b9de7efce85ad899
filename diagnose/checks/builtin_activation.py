"""With built-in activations in place of hand-written ones, no more is learned.

## What it does
Replaces every activation module that does not come from PyTorch or fastai by LeakyReLU, in a copy, and learns the fixed
batch as it is and with them. A module counts as an activation if it has no parameters and children, gives as many
numbers as it gets, and treats each of them by itself.

## Why it matters
A hand-written activation may cut the graph, saturate, or give NaN where nobody looked.

## How it is judged
Warns if less than 0.8 of the batch is learned as it is, and 0.3 more with built-in activations. It only locates a
fault, and never fails.

## What to do
Use nn.LeakyReLU, or compare values and gradient of the own one with its formula (torch.autograd.gradcheck).

## Source
The notes' checklist, item 18 (is it Mish?).
"""

import torch
from fastai.learner import Learner
from torch import nn

from diagnose.changes import Change
from diagnose.checks._comparison import ComparedTrial
from diagnose.errors import NotApplicable
from diagnose.lab import Lab


class BuiltinActivation(ComparedTrial):
    """LeakyReLU for hand-written activations."""

    order = 70

    def change(self, lab: Lab) -> Change:
        own = [n for n, m in lab.twin().model.named_modules() if n and _is_own_activation(m)]
        if not own:
            raise NotApplicable("the model has no hand-written activation module")

        def apply(twin: Learner) -> None:
            for name in own:
                parent, _, child = name.rpartition(".")
                setattr(twin.model.get_submodule(parent), child, nn.LeakyReLU())

        return Change(f"LeakyReLU in place of {len(own)} hand-written activations", apply)


def _is_own_activation(module: nn.Module) -> bool:
    foreign = type(module).__module__.split(".")[0] not in ("torch", "fastai", "torchvision")
    if not foreign or any(True for _ in module.children()) or any(True for _ in module.parameters()):
        return False
    x = torch.linspace(-3, 3, 24).view(4, 6)
    try:
        with torch.no_grad():
            a, b = module(x), module(x + torch.eye(4, 6))
    except Exception:  # whatever it is, it takes no plain matrix
        return False
    if not isinstance(a, torch.Tensor) or a.shape != x.shape or torch.equal(a, x):
        return False
    return not bool(((a != b) & ~torch.eye(4, 6).bool() & ~(a.isnan() & b.isnan())).any())
