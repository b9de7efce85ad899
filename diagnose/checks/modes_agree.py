"""Training and evaluation mode give one output, once norm statistics are those of the data.

## What it does
Reads a few batches of the size that the owner trains on, sets drop-out to 0 and lets every batch norm take its running
statistics from these batches. Then compares the first batch in both modes: the root mean square of the difference,
against the spread of the output over the rows. Names the first layer whose output differs by as much as the output.

## Why it matters
Batch statistics of two or three rows are those of these rows: each row is told by its neighbours, the training loss
falls to 0, and in evaluation mode, with running statistics, nothing of it is left.

## How it is judged
Warns if the difference is more than 0.4 of the spread over rows. On digits a conv net with batch norm is at
0.01 or less with batches of 16 and more, at 0.16 to 0.28 with 8, 0.3 to 0.5 with 4, 0.4 to 0.95 with 2; a head with two
batch norms after pooling, which sees one value a row, at 0.07 with 16, 0.4 to 0.9 with 8 and 1.1 to 1.7 with 2. One
batch of 16 rows or more is enough; of smaller ones up to eight are read.

## What to do
Larger batches (8 rows at least), or GroupNorm or LayerNorm, which are the same in both modes. If no norm layer is
named, look for code that reads `self.training`.

## Source
Wu & He 2018, "Group Normalization" (small batches); real failures F7 and F28 of the notes: a fixed batch of two
reached a loss of 0 in training mode and got no row right in evaluation mode.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, stated
from diagnose.checks._numbers import number
from diagnose.checks._probing import dropout_off, hooked, leaves
from diagnose.errors import NotApplicable, SubjectError
from diagnose.isolate import loaders, seed_everything
from diagnose.lab import Lab
from diagnose.stats import floats, tensors
from diagnose.trial import prepared

ENOUGH_ROWS = 16  # from here on one batch tells what the statistics of the data are
BATCHES = 8
MOST = 0.4  # of the spread over rows


class ModesAgree(Check):
    """One batch in training and in evaluation mode, with running statistics of the data."""

    stage = "probe"
    order = 25
    cost = "3 to 10 forward passes"

    def measure(self, lab: Lab) -> EvidenceList:
        rows = len(tensors(lab.whole_batch)[0])
        if rows < 2:
            raise NotApplicable("batches of one row have no spread over rows")
        copy = lab.twin()
        model = copy.model
        batches = self._inputs(lab, copy, rows)
        norms = _settle(model, batches, lab.seed)
        names = leaves(model)
        output, seen = _traced(lab, model, batches[0], names, training=False)
        trained, seen_trained = _traced(lab, model, batches[0], names, training=True)
        old, new = floats(output), floats(trained)
        if [t.shape for t in old] != [t.shape for t in new]:
            raise NotApplicable("the model returns something else in training mode")
        gap = _gap(old, new)
        if gap is None:
            raise NotApplicable(
                "the output is the same for every row before training: there is nothing to compare with"
            )
        place = next(
            (n for (n, a), (m, b) in zip(seen, seen_trained) if n == m and (_gap([a], [b]) or 0.0) > gap / 2), ""
        )
        return EvidenceList(
            [
                Evidence(name="difference", value=gap, unit="share of the spread over rows", expected=f"<= {MOST:g}"),
                Evidence(name="rows of a batch", value=rows),
                Evidence(name="batches read", value=len(batches)),
                Evidence(name="batch norms", value=norms),
                Evidence(name="first layer that differs", value=place if gap > MOST / 5 else ""),
            ]
        )

    def _inputs(self, lab: Lab, copy: Any, rows: int) -> list[tuple]:
        "Inputs of the first batches as they reach the model; only as many as tell the statistics of the data."
        batches = [lab.whole_batch]
        if rows < ENOUGH_ROWS:
            batches = lab.read(loaders(lab.learn)[0], BATCHES)
        try:
            return [prepared(copy, b)[0] for b in batches]
        except Exception as e:
            raise SubjectError("preparing a batch", e) from e

    def judge(self, evidence: EvidenceList) -> Judgement:
        if evidence.get("difference") is None:
            return Judgement("skip", "not measured")
        gap, rows = number(evidence, "difference"), number(evidence, "rows of a batch")
        told = f"training and evaluation mode differ by {stated(gap, 2)} of the output's spread over rows"
        place = (
            f", from {evidence.get('first layer that differs')} on" if evidence.get("first layer that differs") else ""
        )
        told += f", with batches of {stated(rows)} rows{place}"
        return Judgement("pass" if gap <= MOST else "warn", told if gap <= MOST else f"{told} (at most {MOST:g})")


def _settle(model: nn.Module, batches: list[tuple], seed: int) -> int:
    "Drop-out to 0, and running statistics of every batch norm averaged over the batches. Returns how many there are."
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    dropout_off(model)
    before = [(m, m.momentum) for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # the plain average over batches
    model.train()
    for xb in batches:
        seed_everything(seed)
        try:
            with torch.no_grad():
                model(*xb)
        except Exception as e:
            raise NotApplicable(f"a pass in training mode raised {type(e).__name__}: {e}") from e
    for m, momentum in before:
        m.momentum = momentum
    return len(norms)


def _traced(lab: Lab, model: nn.Module, xb: tuple, names: dict, training: bool) -> tuple[Any, list]:
    seen: list[tuple[str, Tensor]] = []

    def note(module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor) and output.is_floating_point() and output.ndim:
            seen.append((names[module], output.detach().clone()))

    with hooked(names, note):
        return lab.forward(model, xb, training), seen


def _gap(old: list[Tensor], new: list[Tensor]) -> float | None:
    "Root mean square of the difference over the spread over rows; None if the rows do not differ, NaN kept."
    pairs = [(a.detach().float(), b.detach().float()) for a, b in zip(old, new) if a.shape == b.shape and a.numel()]
    if not pairs:
        return None
    spread = math.sqrt(sum(float((a - a.mean(0)).square().mean()) for a, _ in pairs))
    size = math.sqrt(sum(float(a.square().mean()) for a, _ in pairs))
    if spread <= 1e-6 * size:
        return None
    return math.sqrt(sum(float((a - b).square().mean()) for a, b in pairs)) / spread if spread == spread else math.nan
