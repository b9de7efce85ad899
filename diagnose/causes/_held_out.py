"""Proofs on rows that were not trained on: what one batch cannot show, such as order, or splits prepared apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from diagnose.causes import CLEAR, NO_DIFFERENCE, Settled
from diagnose.checks import amount
from diagnose.data import Split, splits_of
from diagnose.diagnosis import Proof, Side
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import replaced, tensors
from diagnose.trial import Trial, batch_loss, measure_scale

KNOWN = 0.3  # of what held-out rows allow, from which a copy counts as knowing more than the best constant


def parts(lab: Lab, batch: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Input tensors and target tensors of a batch.

    Raises:
        NotApplicable: it is no tuple of inputs and targets.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise NotApplicable("the loader gives no target beside the inputs")
    n = getattr(lab.learn.dls, "n_inp", None) or len(batch) - 1
    return tensors(batch[:n]), tensors(batch[n:])


def with_inputs(lab: Lab, batch: Any, change: Callable[[int, Tensor], Tensor]) -> Any:
    """A batch whose input tensors are replaced by `change(number, tensor)`."""
    xs, ys = parts(lab, batch)
    return replaced(batch, [*(change(k, x) for k, x in enumerate(xs)), *ys])


def held_out(trial: Trial, batches: list[Any]) -> float:
    """How far a trained copy is from the best constant (0) to the floor (1) on batches it has not seen, in evaluation
    mode; NaN if its loss is not finite."""
    losses = [batch_loss(trial.learner, b, training=False) for b in batches]
    return measure_scale(trial.learner, batches).learned(sum(losses) / len(losses))


def best(found: list[tuple[float, Trial]]) -> tuple[float, Trial]:
    """The trial that knows most, and how much; NaN is the least."""
    return max(found, key=lambda f: f[0] if math.isfinite(f[0]) else -math.inf)


def compared(change: str, before: Trial, low: float, after: Trial, high: float, what: str) -> Settled:
    """As a paired trial is judged, on held-out rows: proven if the changed side knows them and the other does not.

    Args:
        low, high: what each side knows of the held-out rows.
        what: the rows, in words.
    """
    least, most = (max(v, 0.0) if math.isfinite(v) else 0.0 for v in (low, high))
    proven = most >= KNOWN and most - least >= CLEAR
    proof = Proof(change=change, kind="inspection", before=side_of(before, low, what), after=side_of(after, high, what))
    return Settled(proven, most - least < NO_DIFFERENCE and most >= KNOWN, proof)


def side_of(trial: Trial, known: float, what: str, share: str = "known") -> Side:
    """One half of a proof on held-out rows.

    Args:
        share: what `known` is a share of: "known" for the scale of the loss, "right" for answers.
    """
    return Side(
        summary=f"{amount(known)} of {what} {share} after {len(trial.loss)} steps",
        loss=trial.loss,
        numbers={f"{'learned' if share == 'known' else share} on {what}": known},
    )


def order(count: int, seed: int) -> list[int]:
    """A random order of `count` things."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()


def split_named(lab: Lab, name: str) -> Split:
    """One of the splits. Raises NotApplicable if there is none of that name, or none of its items could be read."""
    for split in splits_of(lab):
        if split.name == name and split.items:
            return split
    raise NotApplicable(f"no {name} item could be read")
