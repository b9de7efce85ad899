"""The loss is NaN or infinite; names the first layer and the rows of the batch where it began.

## What it watches
The loss of every step, recorded or not.

## Why it matters
One such loss makes every gradient NaN, and one step every weight: all training after it is lost.

## How it is judged
On CPU as soon as the loss is there, while the weights are still those that made it: the batch is passed through once
more, and the first module whose output is not finite although its inputs are is named, with the rows. On CUDA the loss
is looked at when the step has ended anyway, so that nothing waits; the rows of the batch are looked at then.

## What to do
Look at the rows that are named; `diagnose run` finds NaN in the data, exploding initialisation and rates that diverge.

## What it looks like but is not
Under mixed precision a scaled loss may overflow and the step is skipped: the loss that is looked at is not scaled.

## Source
The notes' checklist, item 6; fastai#1551, fastai#3048 ("nan under fp16, no idea which layer").
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from diagnose.alarms import Alarm, Raised
from diagnose.isolate import random_streams
from diagnose.stats import floats, plain
from diagnose.trial import unchanged

MOST = 8  # rows named


class NonfiniteLoss(Alarm):
    """Non-finite loss, with the place where it began."""

    of_bad_losses = True

    def after_loss(self, step: int, learn: Any) -> Iterator[Raised]:
        loss = learn.loss
        if not isinstance(loss, Tensor):
            return
        loss = plain(loss)  # typed tensors dispatch in Python, at every step
        if math.isfinite(loss.item()) if loss.ndim == 0 else bool(torch.isfinite(loss.detach()).all()):
            return
        value = float(loss.detach().float().mean())
        inputs = rows_at_fault(learn.xb)
        if inputs:
            rows = ", ".join(map(str, inputs[:MOST]))
            yield self.raised(step, f"the loss is {value}: the inputs of rows {rows} of the batch are not finite", rows)
            return
        found = first_nonfinite(learn.model, learn.xb)
        if found is None:
            targets = rows_at_fault(learn.yb)
            told = f", the targets of rows {', '.join(map(str, targets[:MOST]))} are not finite" if targets else ""
            yield self.raised(step, f"the loss is {value}, and the model's outputs are finite{told}", "the loss")
            return
        layer, rows, weights = found
        told = f"rows {', '.join(map(str, rows[:MOST]))} of the batch" if rows else "all rows of the batch"
        cause = "its weights are not finite" if weights else "its inputs and weights are finite"
        yield self.raised(
            step, f"the loss is {value}: the output of {layer} is the first not finite, for {told}; {cause}", layer
        )


def rows_at_fault(tree: Any) -> list[int]:
    """Rows (first dimension) of the tensors of a batch that hold something not finite."""
    found: set[int] = set()
    for t in floats(tree):
        bad = ~torch.isfinite(t.detach()).reshape(len(t), -1).all(1)
        found |= set(bad.nonzero()[:, 0].tolist())
    return sorted(found)


def first_nonfinite(model: nn.Module, xb: tuple) -> tuple[str, list[int], bool] | None:
    """The first module, in the order they finish, whose output is not finite; the rows, [] for all; and whether its own
    weights are not finite. None if every output is finite. The model and all random streams end as they were."""
    found: list[tuple[str, list[int], bool]] = []
    handles = []

    def note(name: str):
        def hook(module: nn.Module, inputs: tuple, output: Any) -> None:
            if found:
                return
            rows = rows_at_fault(output)
            if rows:
                count = max(len(t) for t in floats(output))
                weights = any(not bool(torch.isfinite(p).all()) for p in module.parameters(recurse=False))
                found.append(
                    (f"{name or 'the model'} ({type(module).__name__})", [] if len(rows) == count else rows, weights)
                )

        return hook

    with random_streams(), unchanged(model), torch.no_grad():
        try:
            handles = [m.register_forward_hook(note(n)) for n, m in model.named_modules()]
            model(*xb)
        finally:
            for handle in handles:
                handle.remove()
    return found[0] if found else None
