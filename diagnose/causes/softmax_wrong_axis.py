"""A softmax runs over the wrong dimension, or over one of size 1, so that outputs are constant.

## What it is
`softmax(dim=0)` over the batch, `F.softmax(x)` that picks axis 0 of a 3-D tensor, a softmax over a single score.

## Why it stops learning
Over the batch the rows compete: raising one row's answer lowers all others'. Over one number it is 1 whatever goes in,
and no gradient comes back.

## How it is found
The check `softmax-axes` watches every call: the axis that follows the number of rows, or the output over one number.

## How it is proven
By that, with altering one row changing others, or the output being 1 whatever goes in. Where the softmax over the last
axis (a sigmoid in place of one over a single score) lets the same batch be learned that is not learned as it is, both
curves are shown.

## How to fix
    x.softmax(dim=1)          # class scores (rows, classes); dim=-1 for attention; one score: x.sigmoid()

## What it looks like but is not
Scores of pairs of rows follow the batch along both axes, attention over the instances of a bag gives one output for
the bag: neither is named. A softmax over one item in the middle is told and not judged.

## Source
PyTorch's documentation of `torch.nn.functional.softmax`; the notes' checklist, items 3 and 8.
"""

from collections.abc import Callable
from typing import Any

import torch
from fastai.learner import Learner
from torch import Tensor
from torch.nn import functional as F

from diagnose.causes import Cause, Findings, Settled, Suspicion, inspected, paired_trial
from diagnose.causes._functions import Calling
from diagnose.causes._reading import texts
from diagnose.changes import Change
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

CHECK = "softmax-axes"
LOGS = {torch.log_softmax, Tensor.log_softmax, F.log_softmax}
PLAIN = {torch.softmax, Tensor.softmax, F.softmax}


class SoftmaxWrongAxis(Cause):
    """Suspected when a softmax runs over the batch, or the output is one over a single number."""

    settled_by = "inspection"
    when_learned = True
    explains = (
        *("batch-mixing", "loss-missing-activation", "loss-double-activation", "lr-too-high", "lr-too-low"),
        *("activation-saturated", "input-ignored", "loss-wrong-for-task"),
    )
    questions = (3, 8)

    def suspect(self, findings: Findings) -> Suspicion | None:
        batch, single = texts(findings, CHECK, "over the batch"), texts(findings, CHECK, "output over one number")
        others = findings.value("row-independence", "other rows that change", [])
        if batch and isinstance(others, list) and others:
            reason = f"a softmax runs over {batch[0]}, the batch: altering one row changes {len(others)} others"
            return Suspicion(1.0, reason, batch, {"batch": True})
        if single:
            return Suspicion(1.0, f"the output is a softmax over {single[0]}, one number: always 1", single, {})
        return None

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        over_batch = suspicion.facts.get("batch", False)

        def apply(twin: Learner) -> None:
            twin.model = Calling(twin.model, _along_last if over_batch else _sigmoid_for_single)

        return Change("softmax over the last axis" if over_batch else "sigmoid in place of a softmax over one", apply)

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        try:
            settled = paired_trial(lab, self.cure(lab, suspicion))
        except NotApplicable:
            settled = None
        if settled is not None and settled.proven:
            return settled
        found = inspected(
            self.cure(lab, suspicion).name, suspicion.reason, "each row has a softmax of its own, over its classes"
        )
        return Settled(True, False, found)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        if suspicion.facts.get("batch"):
            return Fix(
                text="Give the softmax the axis of the classes, not of the rows.", code="x.softmax(dim=1)  # not dim=0"
            )
        return Fix(
            text="A single score takes a sigmoid: a softmax over it is always 1.", code="x.sigmoid()  # not softmax"
        )


def _along_last(func: Callable, args: tuple, kwargs: dict) -> Any:
    if func in LOGS or func in PLAIN:
        x, axis = args[0], kwargs.get("dim", args[1] if len(args) > 1 else None)
        axis = (0 if x.ndim in (1, 3) else 1) if axis is None else axis % x.ndim
        if axis == 0 and x.ndim > 1:
            return x.log_softmax(-1) if func in LOGS else x.softmax(-1)
    return func(*args, **kwargs)


def _sigmoid_for_single(func: Callable, args: tuple, kwargs: dict) -> Any:
    if func in LOGS or func in PLAIN:
        x, axis = args[0], kwargs.get("dim", args[1] if len(args) > 1 else None)
        if isinstance(axis, int) and x.ndim and x.shape[axis] == 1:
            return F.logsigmoid(x) if func in LOGS else x.sigmoid()
    return func(*args, **kwargs)
