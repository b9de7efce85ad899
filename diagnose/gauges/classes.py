"""How often each class is predicted, and how often it is right to predict it.

## What is recorded
One row a step and class: `predicted` (share of answers), `probability` (mean predicted), `actual` (share of targets).

## How it is measured
From up to 64 items or places of the step's first output, every tenth recorded step, for losses that take outputs for
the probabilities of up to 100 classes.

## What it costs
About 5 µs a step on one core.

## Source
The notes' debug item: "it predicts one class only".
"""

import numpy as np
import torch
from torch.nn.functional import one_hot

from diagnose.gauges import Block, Columns, Gauge, to_host
from diagnose.gauges._predictions import keep, probabilities, stacked

MOST = 100


class ClassShares(Gauge):
    """Shares of the classes among answers and targets."""

    table = "classes"
    every = 10

    def after_loss(self, moment, learn) -> None:
        kept = keep(moment, learn)
        if kept and kept.link in ("softmax", "exp") and 1 < kept.pred.shape[1] <= MOST:
            moment.kept[self.id] = kept

    def rows(self, block: Block) -> Columns | None:
        found: list[tuple[int, np.ndarray]] = []
        for places, kept in stacked(block.kept(self.id)):
            p = probabilities(kept.pred, kept.link)
            count = p.shape[2]
            columns = [one_hot(p.argmax(2), count).float().mean(1), p.mean(1)]
            if kept.target is not None and kept.target.ndim == 2 and not kept.target.is_floating_point():
                known = (kept.target >= 0) & (kept.target < count)
                ones = one_hot(torch.where(known, kept.target, 0).long(), count) * known[..., None]
                columns.append(ones.sum(1) / known.sum(1, keepdim=True).clamp_min(1))
            else:
                columns.append(torch.full_like(columns[0], np.nan))
            values = to_host([torch.stack(columns, 1)])[0]
            found += list(zip(places, values))
        if not found:
            return None
        found.sort(key=lambda f: f[0])
        steps, counts = block.steps(), [v.shape[1] for _, v in found]
        return {
            "step": np.repeat(steps[[k for k, _ in found]], counts),
            "class": np.concatenate([np.arange(n) for n in counts]).astype(np.int32),
            **{
                name: np.concatenate([v[i] for _, v in found]).astype(np.float32)
                for i, name in enumerate(("predicted", "probability", "actual"))
            },
        }
