"""The loss stays where a model would be that gives the same answer to every input.

## What it watches
The loss of every recorded step, and the targets of the fit's first batches.

## Why it matters
Such a model has learned the targets' mean or frequencies and nothing of the inputs, however well its loss looks:
0.69 on balanced pairs, 0.33 on classes of 10 to 1.

## How it is judged
The best constant of this loss is found by optimising one output for all items of up to 16 first batches, under the
user's own loss (and within a last softmax or sigmoid); the best free outputs give the other end of the scale. Raised if
over 100 recorded steps in a row, in which the rate does not rise, the mean loss is within 2 % of that scale of the best
constant and does not fall: the slope of a straight line is not below 0 by a standard error. It is computed once, and
only for a loss that does not fall; neither the model nor a random stream takes part.

## What to do
`diagnose run` tells whether the loss, the rate, the labels or the graph keep the inputs out.

## What it looks like but is not
A warm-up; a task that starts on a plateau or holds next to nothing to learn (below 2 %, as in returns of shares). A
loss for which no constant is worse than the best outputs (a GAN's two halves, a penalty) has no such level.

## Source
The notes' debug items on base rates; Karpathy 2019, "A recipe for training neural networks" (input-independent
baseline); the same scale as the trials of `diagnose run`.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diagnose.alarms import Alarm, Raised
from diagnose.alarms._rows import made, rates, steady
from diagnose.gauges import Columns, Moment
from diagnose.isolate import random_streams
from diagnose.stats import replaced, tensors
from diagnose.trial import confined_by, scale_of

log = logging.getLogger("diagnose")

STEPS = 100
MARGIN = 0.02  # of the way from the best constant to the best outputs
ERRORS = 1.0  # of the slope: two would take a loss that falls slowly for one that does not, in one of many looks
BATCHES = 16
ELEMENTS = 1_000_000  # of outputs and targets that are kept


class LossAtBestConstant(Alarm):
    """A loss at the level of the best constant."""

    tables = ("steps",)
    once = True

    def __init__(self, steps: int = STEPS, margin: float = MARGIN):
        self.steps, self.margin = steps, margin
        self._forget()

    def _forget(self) -> None:
        self._batches: list[tuple[Any, tuple]] = []
        self._kept, self._kind = 0, ""
        self._scale: tuple[float, float] | None = None
        self._seen: deque[tuple[float, float]] = deque(maxlen=self.steps)

    @property
    def waits(self) -> bool:
        return len(self._batches) < BATCHES and self._scale is None

    def start(self, learn: Any) -> None:
        self._forget()

    def after_loss(self, step: int, learn: Any) -> Iterator[Raised]:
        if not self.waits or not len(learn.yb):
            return
        parts = [*tensors(learn.pred), *tensors(learn.yb)]
        if not parts or len({len(t) if t.ndim else -1 for t in parts}) > 1:
            return  # not one row an item: such a loss compares something else than answers with targets
        shapes = [t.shape[1:] for t in parts]
        if self._batches and shapes != [t.shape[1:] for t in tensors(self._batches[0])]:
            return  # of another length or size: one constant for both would be no constant for either
        each = sum(t[0].numel() for t in parts) if len(parts[0]) else ELEMENTS
        most = min(len(parts[0]), (ELEMENTS - self._kept) // each)
        if most > 1:
            if not self._batches:
                self._kind = confined_by(learn.pred)
            self._kept += most * each
            self._batches.append((_some_rows(learn.pred, most), _some_rows(learn.yb, most)))
        yield from ()

    def look(self, tables: Mapping[str, Columns], moments: list[Moment], learn: Any) -> Iterator[Raised]:
        table = tables["steps"]
        if "loss" not in table or not self._batches:
            return
        stepped, rate = set(made(moments)), rates(tables, learn)
        for step, loss in zip(table["step"], table["loss"]):
            used = max(rate[int(step)], default=0.0)
            if step in stepped and used > 0 and math.isfinite(loss):
                self._seen.append((float(loss), used))
        if len(self._seen) < self.steps:
            return
        losses, used = np.array(self._seen).T
        if not steady(used) or _falls(losses):
            return
        if self._scale is None:
            self._scale = self._measured(learn)
            self._batches = self._batches[:1]  # no longer needed, except to know that there were any
        best, floor = self._scale
        room = best - floor
        mean = float(losses.mean())
        if not (math.isfinite(room) and room > 1e-4 * max(abs(best), 1e-6) and abs(mean - best) <= self.margin * room):
            return
        yield self.raised(
            moments[-1].step,
            f"the mean loss of the last {self.steps} recorded steps is {mean:.4g}, that of the best constant answer is "
            f"{best:.4g} and that of the best answers {floor:.4g}; it is within {self.margin:.0%} of the constant and "
            f"does not fall",
        )

    def _measured(self, learn: Any) -> tuple[float, float]:
        """Best constant of all batches kept, and the least loss of free outputs for the first; NaN if there is none. On
        the CPU: a loss that refuses an output ends in an assertion on CUDA, after which nothing works any more."""
        squash = {"": lambda z: z, "sigmoid": torch.sigmoid}.get(self._kind) or partial(
            getattr(torch, self._kind), dim=1
        )
        with random_streams(), _still(learn.model), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the run has shown them
            try:
                loss_func = _copied(learn)
                batches = [(_on_cpu(outputs), _on_cpu(targets)) for outputs, targets in self._batches]

                def loss_of(outputs: Any, targets: tuple) -> Tensor:
                    return loss_func(squash(outputs) if self._kind else outputs, *targets).float().mean()

                def pooled(row: Any, batches: list = batches) -> Tensor:
                    return torch.stack([loss_of(_repeated(row, out), targets) for out, targets in batches]).mean()

                outputs, targets = batches[0]
                start = torch.zeros_like(outputs) if self._kind else outputs
                rows = [t.mean(0, keepdim=True) if _free(t) else t for t in tensors(start)]
                row = replaced(start, rows)
                joined = _joined(batches)
                if torch.allclose(pooled(row), pooled(row, joined), rtol=1e-4):  # not if it sums, or compares rows
                    batches[:] = joined
                best = scale_of(pooled, row).best_constant
                free = scale_of(lambda out: loss_of(out, targets), start)
            except Exception as error:  # whatever a loss raises at a constant, the run has not met it
                log.debug("no best constant of this loss: %s: %s", type(error).__name__, error)
                return math.nan, math.nan
        return best, free.floor if free.room else math.nan


def _free(t: Tensor) -> bool:
    return t.is_floating_point() and t.ndim > 0


def _repeated(row: Any, like: Any) -> Any:
    "The constant row for every item of a batch's outputs; what is no floating-point output stays as it was."
    pairs = zip(tensors(row), tensors(like))
    return replaced(like, [r.expand(t.shape) if _free(t) else t for r, t in pairs])


def _joined(batches: list[tuple[Any, tuple]]) -> list[tuple[Any, tuple]]:
    "The rows of all batches as one batch: a small loss costs as much for 16 as for one."
    parts = zip(*([*tensors(outputs), *tensors(targets)] for outputs, targets in batches))
    return [replaced(batches[0], [torch.cat(part) for part in parts])]


def _on_cpu(tree: Any) -> Any:
    return replaced(tree, [t.cpu() for t in tensors(tree)])


def _some_rows(tree: Any, most: int) -> Any:
    return replaced(tree, [t.detach()[:most].clone() for t in tensors(tree)])


def _copied(learn: Any) -> Callable:
    "The loss with a state of its own, on the CPU; what it holds of the run is shared."
    memo = {id(t): t for t in (learn, learn.model, learn.dls, learn.opt)}
    loss_func = copy.deepcopy(learn.loss_func, memo)
    for part in (loss_func, getattr(loss_func, "func", None), getattr(loss_func, "__self__", None)):
        if isinstance(part, nn.Module) and part is not learn.model:
            part.cpu()
    return loss_func


def _falls(losses: np.ndarray) -> bool:
    "Whether a straight line through the losses falls by more than chance."
    at = np.arange(len(losses)) - (len(losses) - 1) / 2
    slope = at @ losses / (at @ at)
    left = losses - losses.mean() - slope * at
    return slope < -ERRORS * math.sqrt(left @ left / (len(losses) - 2) / (at @ at))


@contextlib.contextmanager
def _still(model: nn.Module) -> Iterator[None]:
    "A loss that reads the model's weights must leave no gradient on them."
    leaves = [p for p in model.parameters() if p.requires_grad]
    try:
        for p in leaves:
            p.requires_grad_(False)
        yield
    finally:
        for p in leaves:
            p.requires_grad_(True)
