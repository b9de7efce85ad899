"""Gradients arrive, and no weight changes.

## What it is
A step that is cancelled, skipped or overridden: a callback that raises CancelStepException at every batch, an
optimizer whose `step` returns early, a step made on copies of the weights, a callback that zeroes the gradients before
the step or puts the old weights back after it.

## Why it stops learning
The model that is evaluated is the model of the first minute.

## How it is found
Over the one-batch trial steps are made, gradients arrive, and not one of the tensors that get one moves by one bit. Or
nothing of the batch is learned, and without a callback of the subject's own, which alters neither inputs, targets nor
hyper-parameters and cancels no step, it is; likewise without hooks on parameters.

## How it is proven
By that, and by a plain optimizer (torch's Adam, or SGD if the subject uses SGD) that steps on the same gradients at the
configured rate: it moves all of them. Where that moves nothing either, the rate is too small for the precision of the
weights, and this cause is refuted. A callback: by the same trial without it, which learns.

## How to fix
    learn.remove_cb(TheCallbackThatCancels)   # look for CancelStepException and for an own `step`

## What it looks like but is not
Gradient accumulation steps seldom: a trial without a single step is left alone. Tensors that the optimizer does not
hold are another cause. A rate of 1e-12 moves nothing under a plain step either.

## Source
fastai.learner `_do_grad_opt` (CancelStepException); the notes' checklist, item 2. The comparison is exact.
"""

import math

import torch
from fastai.callback.core import Callback
from fastai.learner import Learner

from diagnose.causes import Cause, Findings, Settled, Suspicion, paired_trial, side
from diagnose.causes._callbacks import blamed_callbacks, blamed_hooks, cure_of
from diagnose.causes._reading import number, texts
from diagnose.changes import Change, left_out, unhooked
from diagnose.checks import listed
from diagnose.diagnosis import Fix, Proof
from diagnose.isolate import optimizer_name
from diagnose.lab import Lab

CHECK = "weight-change"


class OptimizerNotStepping(Cause):
    """Suspected when nothing that gets a gradient moves."""

    settled_by = "inspection"
    when_learned = True
    explains = ("params-frozen", "lr-too-low", "gradient-clip-too-tight")
    questions = (2,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        steps, total = number(findings, CHECK, "steps"), number(findings, CHECK, "with gradient")
        still = texts(findings, CHECK, "with gradient but unmoved")
        if not (steps >= 1 and total >= 1 and len(still) == total):
            return blamed_callbacks(findings, "the step") or blamed_hooks(findings, against=False)
        if texts(findings, "optimizer-holds-parameters", "missing from the optimizer"):
            return None
        return Suspicion(1.0, f"in {steps:.0f} steps none of {total:.0f} tensors with a gradient moved", still)

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        if without := cure_of(suspicion):
            return without
        kind = torch.optim.SGD if "sgd" in optimizer_name(lab.learn).lower() else torch.optim.Adam

        def apply(twin: Learner) -> None:
            rate = twin.lr.stop if isinstance(twin.lr, slice) else twin.lr
            twin.add_cb(_PlainStep(kind([p for p in twin.model.parameters() if p.requires_grad], lr=rate)))

        return Change(f"a plain step of {kind.__name__} on the same gradients", apply)

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        change = self.cure(lab, suspicion)
        if cure_of(suspicion):
            return paired_trial(lab, change)
        before, after = lab.baseline, lab.trial(change, scale=lab.scale)
        names = suspicion.where
        still = sum(before.moved.get(n) == 0 for n in names)
        woken = sum(after.moved.get(n, 0) > 0 for n in names)
        proof = Proof(
            change=change.name,
            kind="inspection",
            before=side(before, {"tensors that moved": len(names) - still, "of": len(names)}),
            after=side(after, {"tensors that moved": woken, "of": len(names)}),
        )
        return Settled(still == len(names) == woken, woken == 0, proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        if names := suspicion.facts.get("left out"):
            return Fix(
                text=f"Read what {listed(names)} does to the loss, to gradients and to weights, in each of its events: "
                "nothing of the step is left, as where gradients are zeroed or shrunk, or old weights put back.",
                code=left_out(names).code,
            )
        if names := suspicion.facts.get("hooks"):
            text = f"Look for what `register_hook` has put on {listed(names)}: it replaces their gradients."
            return Fix(text=text, code=unhooked().code)
        return Fix(
            text="Find what cancels the step: a callback that raises CancelStepException, or an optimizer with an own "
            "`step`.",
            code="learn.remove_cb(TheCallbackThatCancels)\nlearn.opt = None  # and an opt_func with its own step",
        )


class _PlainStep(Callback):
    "Steps right after the backward pass, where no other callback can cancel it."

    order = 1000

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer = optimizer

    def after_backward(self):
        scaler = getattr(getattr(self.learn, "mixed_precision", None), "scaler", None)
        factor = scaler.get_scale() if scaler is not None else 1.0
        held = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        kept = [p.grad for p in held]
        for p in held:
            p.grad = p.grad / factor
        if all(math.isfinite(float(p.grad.sum())) for p in held):
            self.optimizer.step()
        for p, grad in zip(held, kept):
            p.grad = grad
