"""A few rows of predictions and targets, kept on the device until a block is reduced."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diagnose.gauges import Moment, to_host
from diagnose.stats import floats, plain, tensors

ROWS = 64
UNITS = 4096
_KEPT = "predictions"  # no gauge's id
_SOFTMAX = ("CrossEntropy", "LabelSmoothing", "FocalLoss")


class Kept(NamedTuple):
    """Predictions [rows, units]; targets [rows] of classes, [rows, units] else, or None; what makes them probabilities:
    "softmax", "sigmoid", "exp", "is" or ""."""

    pred: Tensor
    target: Tensor | None
    link: str


def keep(moment: Moment, learn: Any) -> Kept | None:
    """Up to 64 rows of the first floating-point output, one an item or place, and the targets that belong to them; the
    same for all gauges of a step."""
    if _KEPT not in moment.kept:
        moment.kept[_KEPT] = _keep(moment, learn)
    return moment.kept[_KEPT]


def _keep(moment: Moment, learn: Any) -> Kept | None:
    found = floats(moment.pred)
    if not found or not found[0].numel() or found[0].is_complex():
        return None
    pred = found[0].detach()
    targets = tensors(moment.targets)
    target = targets[0].detach() if len(targets) == 1 else None
    pred, target = plain(pred), None if target is None else plain(target)
    if pred.ndim == 2 and target is not None and target.ndim == 1 and not target.is_floating_point():
        if len(pred) > ROWS or pred.shape[1] > UNITS:
            pred, target = pred[:ROWS, :UNITS], target[:ROWS]
        target = target if len(target) == len(pred) else None
        return Kept(pred.float(), target, link(learn.loss_func, pred, target))
    axis = None if target is None or target.is_floating_point() else _class_axis(pred, target, learn.loss_func)
    if pred.ndim > 2 and axis is not None:
        pred, target = _places(pred, target, axis)
    elif pred.ndim > 2:
        pred = pred[:ROWS].flatten(1)[:, :UNITS]
        target = None
    else:
        pred = pred[:ROWS].reshape(min(len(pred), ROWS), -1)[:, :UNITS]
        target = None if target is None or not target.ndim else target[:ROWS]
    if target is not None and target.is_floating_point():
        target = target.reshape(len(target), -1)[:, :UNITS]
        target = target if target.shape == pred.shape else None
    elif target is not None:
        target = target.reshape(-1)
        target = target if len(target) == len(pred) else None
    return Kept(pred.float(), target, link(learn.loss_func, pred, target))


def _class_axis(pred: Tensor, target: Tensor, loss_func: Any) -> int | None:
    "The axis of the classes: the loss's own, else the one without which the shapes agree; None if there is none."
    for axis in (getattr(loss_func, "axis", 1), 1, -1):
        if pred.ndim > 1 and [n for i, n in enumerate(pred.shape) if i != axis % pred.ndim] == list(target.shape):
            return axis % pred.ndim
    return None


def _places(pred: Tensor, target: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    "Rows of a prediction with classes along `axis` and places along the others: a few places of a few items."
    items = min(len(pred), 8)
    pred = pred[:items].movedim(axis, 1)
    each = pred[0, 0].numel()
    step = max(1, each * items // ROWS)
    where = torch.arange(0, each, step, device=pred.device)
    at = torch.unravel_index(where, pred.shape[2:])
    rows = pred[(slice(None), slice(None), *at)].transpose(1, 2).flatten(0, 1)
    return rows[:, :UNITS], target[:items][(slice(None), *at)].flatten()


def link(loss_func: Any, pred: Tensor, target: Tensor | None) -> str:
    """What turns outputs into probabilities under this loss; "" if nothing is known to."""
    inner = getattr(loss_func, "func", loss_func)
    known = _link_of(type(loss_func).__name__, getattr(inner, "__name__", type(inner).__name__))
    if known is not None:
        return known
    classes = target is not None and not target.is_floating_point() and target.ndim == 1
    return "softmax" if classes and pred.shape[1] > 1 else ""


@lru_cache(256)
def _link_of(loss: str, function: str) -> str | None:
    "By the names of a loss and of the function in it; None if they say nothing."
    name = f"{loss} {function}"
    if "BCEWithLogits" in name or "binary_cross_entropy_with_logits" in name:
        return "sigmoid"
    if "BCELoss" in name:
        return "is"
    if "NLLLoss" in name or "nll_loss" in name:
        return "exp"
    return "softmax" if any(w in name for w in _SOFTMAX) or "cross_entropy" in name else None


def probabilities(pred: Tensor, how: str) -> Tensor | None:
    """[..., units] outputs as probabilities; None if the loss does not take them for such."""
    if how == "softmax":
        powers = (pred - pred.amax(-1, keepdim=True)).exp_()  # a fifth of the time of `softmax` over a few classes
        return powers.div_(powers.sum(-1, keepdim=True))
    if how == "sigmoid":
        return pred.sigmoid()
    if how == "exp":
        return pred.exp()
    return pred if how == "is" else None


def stacked(kept: list[tuple[int, Kept]]) -> list[tuple[list[int], Kept]]:
    """The moments that have the same shapes, stacked: (places, Kept with a leading dimension)."""
    groups: dict[Any, list[int]] = {}
    for i, (_, k) in enumerate(kept):
        shape = None if k.target is None else (k.target.shape, k.target.dtype)
        groups.setdefault((k.pred.shape, shape, k.link, k.pred.device), []).append(i)
    result = []
    for members in groups.values():
        each = [kept[i][1] for i in members]
        target = None if each[0].target is None else torch.stack([k.target for k in each])
        places = [kept[i][0] for i in members]
        result.append((places, Kept(torch.stack([k.pred for k in each]), target, each[0].link)))
    return result


def by_place(places: list[int], found: dict[str, Tensor]) -> dict[str, list[tuple[int, float]]]:
    """Named [moments] tensors, moved to the host together, as (place, value) pairs."""
    host = to_host(list(found.values()))
    return {name: [(p, float(v)) for p, v in zip(places, np.atleast_1d(values))] for name, values in zip(found, host)}
