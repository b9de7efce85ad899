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

A model that draws random numbers while it trains (the sample of a variational autoencoder, noise on its input, blocks
left out) looks like it and passes: where two passes in training mode differ from each other, the comparison is made
again with every draw at its mean, and with the mean of 16 passes (less what 16 draws leave of the noise). Either must
come within the same 0.4.

## What to do
Larger batches (8 rows at least), or GroupNorm or LayerNorm, which are the same in both modes. If no norm layer is
named, look for code that reads `self.training`.

## Source
Wu & He 2018, "Group Normalization" (small batches); Kingma & Welling 2014 (the draw of an autoencoder); real
failures F7 and F28 of the notes: a fixed batch of two
reached a loss of 0 in training mode and got no row right in evaluation mode.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, odd_but_right, stated
from diagnose.checks._draws import DrawsAtTheirMean
from diagnose.checks._numbers import number
from diagnose.checks._probing import batch_norms, dropout_off, hooked, leaves
from diagnose.errors import NotApplicable, SubjectError
from diagnose.isolate import loaders, seed_everything
from diagnose.lab import Lab
from diagnose.stats import floats, tensors
from diagnose.trial import forward, prepared

ENOUGH_ROWS = 16  # from here on one batch tells what the statistics of the data are
BATCHES = 8
MOST = 0.4  # of the spread over rows
DRAWS = 16  # passes averaged where the model draws random numbers
CHANCE = "difference of two passes in training mode"
AVERAGED = f"difference of the mean of {DRAWS} passes"
DRAWN_AT_MEAN = "difference with draws at their mean"


class ModesAgree(Check):
    """One batch in training and in evaluation mode, with running statistics of the data."""

    stage = "probe"
    order = 25
    cost = "3 to 10 forward passes, 18 more where the modes differ and the model draws"

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
        found = EvidenceList(
            [
                Evidence(name="difference", value=gap, unit="share of the spread over rows", expected=f"<= {MOST:g}"),
                Evidence(name="rows of a batch", value=rows),
                Evidence(name="batches read", value=len(batches)),
                Evidence(name="batch norms", value=norms),
                Evidence(name="first layer that differs", value=place if gap > MOST / 5 else ""),
            ]
        )
        return EvidenceList([*found, *_without_chance(lab, model, batches[0], old)]) if gap > MOST else found

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
        mean, average = number(evidence, DRAWN_AT_MEAN), number(evidence, AVERAGED)
        if gap > MOST and (mean <= MOST or average <= MOST):
            chance = stated(number(evidence, CHANCE), 2)
            why = (
                f"with its random draws at their mean {stated(mean, 2)}"
                if mean <= MOST
                else f"over {DRAWS} draws {stated(average, 2)} on average"
            )
            return odd_but_right(
                f"batch statistics that evaluation lacks: {told}",
                f"{why} is left of it; two passes in training mode differ by {chance}",
            )
        return Judgement("pass" if gap <= MOST else "warn", told if gap <= MOST else f"{told} (at most {MOST:g})")


def _without_chance(lab: Lab, model: nn.Module, xb: tuple, old: list[Tensor]) -> list[Evidence]:
    "What is left of the difference without the model's own random draws; nothing if it makes none."
    passes = []
    for i in range(DRAWS):
        passes.append(floats(_drawn(lab, model, xb, lab.seed + i)))
        if i == 1 and not _gap(passes[0], passes[1]):
            return []
    mean = [torch.stack(parts).mean(0) for parts in zip(*passes)]
    spread_of_rows = math.sqrt(sum(float((a.float() - a.float().mean(0)).square().mean()) for a in old))
    noise = sum(float(torch.stack(parts).float().var(0).mean()) for parts in zip(*passes))
    left = (_gap(old, mean) or math.nan) ** 2 - noise / DRAWS / spread_of_rows**2
    found = [
        Evidence(name=CHANCE, value=math.sqrt(2 * noise) / spread_of_rows, unit="share of the spread over rows"),
        Evidence(name=AVERAGED, value=math.sqrt(max(left, 0.0)) if left == left else left, expected=f"<= {MOST:g}"),
    ]
    with DrawsAtTheirMean():
        quiet = floats(_drawn(lab, model, xb, lab.seed))
    return [*found, Evidence(name=DRAWN_AT_MEAN, value=_gap(old, quiet), expected=f"<= {MOST:g}")]


def _drawn(lab: Lab, model: nn.Module, xb: tuple, seed: int) -> object:
    seed_everything(seed)
    try:
        return forward(model, xb, training=True)
    except Exception as e:
        raise NotApplicable(f"a pass in training mode raised {type(e).__name__}: {e}") from e


def _settle(model: nn.Module, batches: list[tuple], seed: int) -> int:
    "Drop-out to 0, and running statistics of every batch norm averaged over the batches. Returns how many there are."
    norms = batch_norms(model)
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
