"""Whether the encoder tells inputs apart: effective rank and mean cosine of its features.

## What is recorded
`feature_rank`, the effective rank of the centred features of the batch (from 1 to the smaller of items − 1 and width;
0 if all are alike), `feature_rank_share`, that rank over its largest possible value, and `feature_cosine`, the mean
cosine between the features of different items (1: all point the same way).

## How it is measured
From up to 64 items every tenth recorded step. The features are the output of the submodule named `features=` in
`Watch`, else of one called encoder, backbone, body or feature_extractor, else whatever enters the last layer with
weights; maps are averaged over their places, and calls of a shared encoder count as items.

## What it costs
About 20 µs a step on one core.

## What it looks like but is not
Features behind a ReLU are never negative, so a mean cosine of 0.5 is usual; rank tells collapse better.

## Source
Roy & Vetterli 2007, "The effective rank"; Jing et al. 2022, "Understanding dimensional collapse in contrastive
self-supervised learning"; Garrido et al. 2023 (RankMe).
"""

import torch
from torch import Tensor

from diagnose.gauges import Block, Columns, Gauge
from diagnose.gauges._predictions import by_place

ROWS = 64
ENCODERS = ("encoder", "backbone", "body", "feature_extractor")


class Representations(Gauge):
    """Effective rank and cosine of features."""

    every = 10
    reads = ("calls",)

    def __init__(self):
        self.features: str | None = None
        self._with_weights: set[str] = set()
        self._encoder: str | None = None

    def start(self, learn) -> None:
        names = dict(learn.model.named_modules())
        if self.features is not None and self.features not in names:
            known = ", ".join(n for n in names if n and "." not in n)
            raise ValueError(f"features={self.features!r} names no module of the model; its parts are {known}")
        self._with_weights = {n for n, m in names.items() if any(True for _ in m.parameters(recurse=False))}
        self._encoder = self.features or next((n for n in ENCODERS if n in names), None)

    def after_pred(self, moment, learn) -> None:
        chosen = self._chosen(moment.calls)
        rows = [r for t in chosen if (r := _as_rows(t)) is not None]
        if rows and len({r.shape[1] for r in rows}) == 1 and sum(map(len, rows)) > 2:
            moment.kept[self.id] = torch.cat(rows)[:ROWS].float()

    def _chosen(self, calls: list) -> list[Tensor]:
        if self._encoder is not None and (found := [t for c, t in calls if c.layer == self._encoder]):
            return found
        if self._encoder is not None and (inside := [c for c, _ in calls if c.layer.startswith(f"{self._encoder}.")]):
            return [t for c, t in calls if c.layer == inside[-1].layer]  # a container hands on its last part's output
        last = max((i for i, (c, _) in enumerate(calls) if c.layer in self._with_weights), default=0)
        return [calls[last - 1][1]] if last else []

    def rows(self, block: Block) -> Columns:
        found: dict[str, list] = {}
        groups: dict[torch.Size, list[tuple[int, Tensor]]] = {}
        for place, features in block.kept(self.id):
            groups.setdefault(features.shape, []).append((place, features))
        for members in groups.values():
            values = _of(torch.stack([f for _, f in members]))
            for name, pairs in by_place([k for k, _ in members], values).items():
                found.setdefault(name, []).extend(pairs)
        return {name: block.column(values) for name, values in found.items()}


def _as_rows(t: Tensor) -> Tensor | None:
    "[items, width] features: maps averaged over their places."
    if not t.is_floating_point() or t.ndim < 2 or not t.numel():
        return None
    t = t.detach()[:ROWS]
    if t.ndim == 3:
        t = t.mean(1)  # of a sequence
    return t.flatten(2).mean(2) if t.ndim > 3 else t


def _of(features: Tensor) -> dict[str, Tensor]:
    "[moments, items, width] features."
    items, width = features.shape[1:]
    unit = torch.nn.functional.normalize(features, dim=2)
    cosine = (unit.sum(1).square().sum(1) - unit.square().sum((1, 2))) / (items * (items - 1))
    centred = torch.nan_to_num(features - features.mean(1, keepdim=True), posinf=0.0, neginf=0.0)
    size = centred.abs().amax((1, 2), keepdim=True).clamp_min(1e-30)
    centred = (centred / size).double()
    gram = centred @ centred.mT if items <= width else centred.mT @ centred
    singular = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    share = singular / singular.sum(1, keepdim=True).clamp_min(1e-300)
    rank = torch.exp(-(share * share.clamp_min(1e-300).log()).sum(1))
    rank = torch.where(singular.sum(1) > 0, rank, torch.zeros_like(rank))
    most = min(items - 1, width)
    return {"feature_rank": rank, "feature_rank_share": rank / most, "feature_cosine": cosine}
