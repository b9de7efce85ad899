"""Every softmax of the forward pass normalises over the axis it is meant for: not over the batch, not over one number.

## What it does
Watches one forward pass for calls of softmax, log-softmax and softmin, as modules, functions and methods, and notes
axis and shape. For a softmax over an axis as long as the batch, the pass is run again with one row less: only an axis
that is then one shorter is the batch.

## Why it matters
A softmax over the batch makes the rows compete, so that no row's answer is its own; over an axis of one number it gives
1 whatever goes in, and no gradient comes back. `F.softmax(x)` without `dim` picks axis 0 for 1-D and 3-D tensors.

## How it is judged
Fails on a softmax over the batch, unless another axis follows the batch too (scores of pairs of rows) or the model's
output has no row for each input row (a bag of instances). Fails if the output of the model is a softmax over one
number. One in the middle, such as attention over a single item, is named and not judged. Exact, no threshold.

## What to do
Give `dim=1` for class scores (rows, classes), `dim=-1` for attention. One output: a sigmoid, not a softmax.

## Source
PyTorch's documentation of `torch.nn.functional.softmax` (implicit dimension); the notes' checklist, items 3 and 8.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._calls import is_number, shape, texts
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import floats, replaced, tensors

WATCHED = {
    *(torch.softmax, torch.log_softmax, Tensor.softmax, Tensor.log_softmax),
    *(F.softmax, F.log_softmax, F.softmin, F.gumbel_softmax),
}


class SoftmaxAxes(Check):
    """Watches softmax calls in a forward pass."""

    stage = "probe"
    order = 14
    cost = "1 forward pass, 2 if an axis is as long as the batch"

    def measure(self, lab: Lab) -> EvidenceList:
        model = lab.twin().model
        with _Watch() as seen:
            output = lab.forward(model)
        if not seen.calls:
            return EvidenceList([Evidence(name="softmax calls", value=0)])
        rows = lab.rows
        suspect = {i: c for i, c in enumerate(seen.calls) if len(c[1]) > 1 and c[1][c[0]] == rows}
        own_rows = any(t.ndim and t.shape[0] == rows for t in floats(output))
        over_batch: list[str] = []
        if suspect and rows > 2 and own_rows:
            try:
                with _Watch() as fewer:
                    lab.forward(model, replaced(lab.xb, [t[:-1] for t in tensors(lab.xb)]))
            except NotApplicable:
                fewer.calls = []
            if len(fewer.calls) == len(seen.calls):
                over_batch = [_told(c) for i, c in suspect.items() if _follows_alone(c, fewer.calls[i], rows)]
        single = [c for c in seen.calls if c[1] and c[1][c[0]] == 1]
        last = [_told(c) for c in single if any(t.data_ptr() == c[2].data_ptr() for t in floats(output) if t.numel())]
        return EvidenceList(
            [
                Evidence(name="softmax calls", value=len(seen.calls)),
                Evidence(name="over the batch", value=list(dict.fromkeys(over_batch)), expected="none"),
                Evidence(name="output over one number", value=list(dict.fromkeys(last)), expected="none"),
                Evidence(name="over one number", value=list(dict.fromkeys(map(_told, single)))),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        calls = evidence.get("softmax calls")
        if not is_number(calls) or math.isnan(calls):
            return Judgement("skip", "not measured")
        if not calls:
            return Judgement("pass", "0 softmax calls in the forward pass")
        if batch := texts(evidence.get("over the batch")):
            return Judgement("fail", f"{len(batch)} of {calls} softmax calls run over the batch: {listed(batch)}")
        if last := texts(evidence.get("output over one number")):
            return Judgement("fail", f"the output is a softmax over 1 number, which is always 1: {listed(last)}")
        single = texts(evidence.get("over one number"))
        note = f"; over a single item, always 1: {listed(single)}" if single else ""
        return Judgement("pass", f"{calls} softmax calls, none over the batch{note}")


class _Watch(TorchFunctionMode):
    "Notes (axis, shape, result) of every softmax."

    def __init__(self):
        super().__init__()
        self.calls: list[tuple[int, tuple[int, ...], Tensor]] = []

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in WATCHED and isinstance(result, Tensor):
            position = 4 if func is F.gumbel_softmax else 1
            axis = kwargs.get("dim", args[position] if len(args) > position else None)
            if func is F.gumbel_softmax and axis is None:
                axis = -1
            if axis is None:  # PyTorch's implicit choice
                axis = 0 if result.ndim in (0, 1, 3) else 1
            if isinstance(axis, int) and result.ndim:
                self.calls.append((axis % result.ndim, tuple(result.shape), result))
        return result


def _follows_alone(call: tuple, fewer: tuple, rows: int) -> bool:
    "The softmax's axis, and no other, is as long as the batch in both passes."
    axes = [i for i, (a, b) in enumerate(zip(call[1], fewer[1])) if (a, b) == (rows, rows - 1)]
    return len(call[1]) == len(fewer[1]) and axes == [call[0]]


def _told(call: tuple[int, tuple[int, ...], Tensor]) -> str:
    return f"axis {call[0]} of {shape(call[1])}"
