"""Without hooks on its parameters, no more is learned.

## What it does
Where the fixed batch is not learned and `register_hook` was called on parameters: takes these hooks off a copy, and
learns it so. The gradients of one step with and without them are compared, tensor by tensor.

## Why it matters
Such a hook alters a gradient after the backward pass, and is seen in no listing of the model: a sign that is reversed
for a part that should have been an adversary, a mask that covers all.

## How it is judged
Warns if less than 0.8 of the batch is learned as it is, and 0.3 more without the hooks. It only locates a fault, and
never fails: masks that keep some rows of an embedding, and noise on gradients, are put there on purpose.

## What to do
Look for `register_hook` where the model is built.

## Source
torch.Tensor.register_hook; Ganin & Lempitsky 2015, "Unsupervised domain adaptation by backpropagation" (where a
reversed gradient belongs: between features and the adversary).
"""

import math
from collections.abc import Callable

from fastai.callback.core import Callback
from fastai.learner import Learner
from torch import Tensor

from diagnose.changes import unhooked
from diagnose.checks import Evidence, EvidenceList
from diagnose.checks._comparison import ComparedTrial, told_of
from diagnose.checks._probing import train_few
from diagnose.errors import NotApplicable
from diagnose.lab import Lab


class WithoutHooks(ComparedTrial):
    """Hooks on parameters taken off."""

    extra = False
    order = 38
    cost = "up to 200 steps on 16 rows if the batch is not learned and there are such hooks"

    def measure(self, lab: Lab) -> EvidenceList:
        names = [n for n, p in lab.learn.model.named_parameters() if p._backward_hooks]
        if not names:
            raise NotApplicable("no parameter has a hook")
        if lab.baseline.is_learned:
            raise NotApplicable("the batch is learned with them")
        change = unhooked()
        lab.say(change.name)
        found = told_of(lab, change, lab.trial(change))
        found.append(Evidence(name="tensors with hooks", value=names))
        hooked, plain = _gradients(lab), _gradients(lab, change.apply)
        for name in names:
            if name in hooked and name in plain:
                cosine = _cosine(hooked[name], plain[name])
                found.append(Evidence(name="cosine with the gradient without it", value=cosine, where=name))
        return found


class _Gradients(Callback):
    "The gradients of the first backward pass, by name."

    order = -1000

    def __init__(self):
        self.found: dict[str, Tensor] = {}

    def after_backward(self):
        if not self.found:
            named = self.learn.model.named_parameters()
            self.found = {n: p.grad.detach().clone() for n, p in named if p.grad is not None}


def _gradients(lab: Lab, change: Callable[[Learner], None] | None = None) -> dict[str, Tensor]:
    seen = _Gradients()
    train_few(lab, 1, [seen], change)
    return seen.found


def _cosine(a: Tensor, b: Tensor) -> float:
    a, b = a.double().flatten(), b.double().flatten()
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size > 0 else math.nan
