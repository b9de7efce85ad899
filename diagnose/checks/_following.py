"""Tensors that follow others by moving average, told by where they went."""

from __future__ import annotations

import math
import statistics

import torch
from torch import Tensor

ASTRAY = 0.05  # of its own move: how far a tensor may end beside the straight way to another one
ROUNDING = 4.0  # steps of its own precision that every number may be off besides


def following(
    old: dict[str, Tensor], new: dict[str, Tensor], names: list[str], trainable: list[str]
) -> dict[str, float]:
    """Tensors that went straight towards one that trains, all by the same share of the way (a moving average has one
    rate), and which share that is.

    Args:
        old: every parameter before a step. new: after it.
        names: those that moved and are frozen.
        trainable: those that they may follow.
    """
    goals = {name: _goals(old, new, name, trainable) for name in names}
    shares = (next((s for g in goals[n] if not math.isnan(s := _share(old[n], new[n], g))), None) for n in names)
    known = [s for s in shares if s is not None]
    if not known:
        return {}
    usual = statistics.median(known)
    return {n: usual for n in names if any(_went(old[n], new[n], g, usual) for g in goals[n])}


def _goals(old: dict[str, Tensor], new: dict[str, Tensor], name: str, trainable: list[str]) -> list[Tensor]:
    "What trains and has the shape, after the step and before it: the average may be taken on either side of it."
    alike = [n for n in trainable if n in new and old[n].shape == old[name].shape and old[name].is_floating_point()]
    return [t.detach() for n in alike for t in (new[n], old[n])]


def _moves(was: Tensor, now: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    start = was.detach().cpu().double().flatten()
    went, way = (t.detach().cpu().double().flatten() - start for t in (now, goal))
    return went, way


def _share(was: Tensor, now: Tensor, goal: Tensor) -> float:
    "Which share of the way to `goal` a tensor went; NaN if it went elsewhere, or no further than rounding goes."
    went, way = _moves(was, now, goal)
    length = float(way.dot(way))
    if not 0 < length < math.inf or not float(went.norm()) > _rounding(was) / ASTRAY:
        return math.nan
    share = float(went.dot(way)) / length
    straight = float((went - share * way).norm()) <= ASTRAY * float(went.norm())
    return share if straight and 0 < share < 1 + ASTRAY else math.nan


def _went(was: Tensor, now: Tensor, goal: Tensor, share: float) -> bool:
    went, way = _moves(was, now, goal)
    return float((went - share * way).norm()) <= ASTRAY * float(went.norm()) + _rounding(was)


def _rounding(was: Tensor) -> float:
    return ROUNDING * torch.finfo(was.dtype).eps * float(was.detach().cpu().double().norm())
