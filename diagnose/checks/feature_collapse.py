"""Different inputs have different features.

## What it does
Takes what the last layer with weights is given, or what the task says its features are, for every row of the batch, in
training and in evaluation mode; where the task's features are apart and the last layer is given one vector, the latter.
Measures how far rows stand apart (spread over rows against size), the mean cosine of
different rows, and the effective rank: the exponential of the entropy of the singular values, which is the number of
rows if all directions count alike and 1 if all rows are one vector. The same is told of the inputs; of rows of integers
(tokens, categories) the share of places at which two rows differ.

## Why it matters
If every input is encoded alike, no head can tell them apart; self-supervised losses without labels can be minimised so.

## How it is judged
Warns if the rows of the features are apart by less than 1e-4 of their size in evaluation mode, while the inputs are
apart by ten times as much. Healthy subjects stand apart by 0.04 or more at the start. A cosine near 1 or a rank
near 1 passes and is told: positive features of an untrained net all point one way.

## What to do
Look for a saturated activation, a norm over the wrong axis, a division by something huge, or a collapsed checkpoint.

## Source
Roy & Vetterli 2007, "The effective rank"; Chen & He 2021, "Exploring simple Siamese representation learning" (collapse
as zero spread of normalised outputs); the notes, 9/3 (the encoder gives the same vector).
"""

import math
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, stated
from diagnose.checks._numbers import number
from diagnose.checks._probing import hooked, leaves
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import floats, tensors
from diagnose.task import Task

APART = 1e-4
LESS = 0.1  # of how far the inputs stand apart
MODES = ("train", "eval")
WIDEST = 4096  # columns kept: more than enough for the rank of sixteen rows


class FeatureCollapse(Check):
    """How far the features of different rows stand apart."""

    stage = "probe"
    order = 28
    cost = "2 forward passes"

    def measure(self, lab: Lab) -> EvidenceList:
        if lab.rows < 3:
            raise NotApplicable(f"the batch has {lab.rows} rows, at least 3 are needed")
        found = EvidenceList()
        inputs = [t.flatten(1) for t in floats(lab.xb) if t.ndim > 1 and t.shape[0] == lab.rows]
        if inputs:
            found += _described(torch.cat(inputs, 1), "inputs")
        elif whole := [t.flatten(1) for t in tensors(lab.xb) if t.ndim > 1 and t.shape[0] == lab.rows]:
            found.append(_differing(torch.cat([t.long() for t in whole], 1)))
        modes, place = self._features_of_task(lab)
        if modes is None:
            modes, place = self._given_to_last(lab)
        elif _spread(modes["eval"]) >= APART:
            with suppress(NotApplicable):
                given, where = self._given_to_last(lab)
                if _spread(given["eval"]) < APART:
                    modes, place = given, where
        for mode, z in modes.items():
            found += _described(z, mode)
        return EvidenceList([*found, Evidence(name="features of", value=place)])

    def _features_of_task(self, lab: Lab) -> tuple[dict[str, Tensor] | None, str]:
        if lab.task is None or type(lab.task).features is Task.features:
            return None, ""
        found = {}
        for mode in MODES:
            model = lab.twin().model
            model.train(mode == "train")
            found[mode] = lab.features(lab.task, model, lab.xb).flatten(1)
        return found, "the task's features"

    def _given_to_last(self, lab: Lab) -> tuple[dict[str, Tensor], str]:
        found = {mode: self._given(lab, mode == "train") for mode in MODES}
        return {mode: z for mode, (z, _) in found.items()}, found["eval"][1]

    def _given(self, lab: Lab, training: bool) -> tuple[Tensor, str]:
        model = lab.twin().model
        names = {m: n for m, n in leaves(model).items() if any(p.ndim > 1 for p in m.parameters(recurse=False))}
        last: dict[str, Any] = {}

        def note(module: nn.Module, given: tuple, output: object) -> None:
            z = next((t for t in floats(given) if t.ndim > 1 and t.shape[0] == lab.rows), None)
            if z is not None:
                last.update(z=z.detach().clone(), place=f"the input of {names[module]}")

        with hooked(names, note):
            lab.forward(model, training=training)
        if not last:
            raise NotApplicable("no layer with weights is given one vector for each row")
        return last["z"].flatten(1), last["place"]

    def judge(self, evidence: EvidenceList) -> Judgement:
        if evidence.get("spread over rows", "eval") is None:
            return Judgement("skip", "not measured")
        apart, trained = number(evidence, "spread over rows", "eval"), number(evidence, "spread over rows", "train")
        inputs = number(evidence, "spread over rows", "inputs")
        cosine, rank = number(evidence, "mean cosine", "eval"), number(evidence, "effective rank", "eval")
        told = (
            f"features of different rows are apart by {stated(apart, 2)} of their size in eval mode, "
            f"{stated(trained, 2)} in train mode (cosine {stated(cosine)}, effective rank {stated(rank, 2)})"
        )
        if apart >= APART or (apart >= LESS * inputs):
            return Judgement("pass", told)
        return Judgement("warn", f"{told}; the inputs by {stated(inputs, 2)}: nearly one vector for every input")


def _spread(z: Tensor) -> float:
    z = z.detach().float()[:, :WIDEST]
    return float((z - z.mean(0)).square().mean().sqrt() / z.square().mean().sqrt().clamp_min(1e-30))


def _differing(rows: Tensor) -> Evidence:
    rows = rows.detach()[:, :WIDEST]
    n = len(rows)
    apart = sum(float((rows != rows.roll(k, 0)).float().mean()) for k in range(1, n)) / max(n - 1, 1)
    return Evidence(name="spread over rows", value=apart, unit="share of places", where="inputs")


def _described(z: Tensor, where: str) -> list[Evidence]:
    z, spread = z.detach().float()[:, :WIDEST], _spread(z)
    unit = z / z.norm(dim=1, keepdim=True).clamp_min(1e-30)
    rows = len(z)
    cosine = float(((unit @ unit.T).sum() - (unit * unit).sum()) / (rows * (rows - 1)))
    return [
        Evidence(
            name="spread over rows", value=spread, unit="share of the size", where=where, expected=f">= {APART:g}"
        ),
        Evidence(name="mean cosine", value=cosine, where=where),
        Evidence(name="effective rank", value=effective_rank(z), where=where, expected=f"of at most {rows}"),
    ]


def effective_rank(z: Tensor) -> float:
    """Exponential of the entropy of the singular values, normalised to sum 1; 0 for an all-zero matrix, NaN for NaN."""
    if not bool(torch.isfinite(z).all()):
        return math.nan
    s = torch.linalg.svdvals(z.float())
    total = float(s.sum())
    if total == 0:
        return 0.0
    p = s / total
    return float(torch.exp(-(p * p.clamp_min(1e-30).log()).sum()))
