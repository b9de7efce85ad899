"""Gradients: histogram, norm as computed and as applied, zeros, missing, non-finite, cosine with the step before.

## What is recorded
One row a step and parameter that requires a gradient: `mean`, `std`, `l2` (after unscaling, before clipping),
`l2_applied` (after clipping and whatever else callbacks do to it), `l2_exact` every 20th recorded step, shares of exact
`zeros` and `nonfinite`, `missing` if the parameter got none, `cosine` with the gradient of the step before, and a
64-bin `histogram`.

## How it is measured
In `before_step`, after MixedPrecision has unscaled and before GradientClip, from up to 4,096 elements, the same ones at
every step; what was applied is read in `after_step`, before the gradients are zeroed.

## What it costs
Per parameter about 10 µs to sample and 8 µs to reduce on one core. See reports/gauges.md.

## What it looks like but is not
Under fastai's `l2_reg` the decay is added to the gradient in place, so `l2_applied` holds it too. A step that gradient
accumulation puts off, or that an overflow cancels, has no row.

## Source
Cockpit (Schneider, Dangel & Hennig 2021); Karpathy 2019, "A recipe for training neural networks".
"""

import numpy as np

from diagnose.gauges import Block, Columns, Gauge, histogram_columns


class GradientStatistics(Gauge):
    """Statistics of the gradients."""

    table = "gradients"
    reads = ("gradients", "applied")

    def rows(self, block: Block) -> Columns | None:
        found = block.parameters
        if found is None or found.gradients is None or not (len(found.gradients) or found.missing):
            return None
        rows, s = found.gradients, found.gradients.summary
        size = np.array([found.sizes[n] for n in rows.names], dtype=np.int64)
        held = found.held(rows)
        l2 = s.l2(held)
        applied = l2
        if found.applied is not None:
            after = found.applied
            norms = after.summary.l2(found.held(after))
            applied = rows.column(dict(zip(zip(after.place.tolist(), after.names), norms.tolist())))
        columns = {
            "step": rows.step,
            "parameter": rows.names,
            "size": size,
            "count": s.count.astype(np.int64),
            "mean": s.mean.astype(np.float32),
            "std": s.std.astype(np.float32),
            "l2": l2.astype(np.float32),
            "l2_applied": applied.astype(np.float32),
            "l2_exact": rows.column(found.norms).astype(np.float32),
            "zeros": (1 - (1 - s.zeros) * held / np.maximum(size, 1)).astype(np.float32),
            "nonfinite": s.nonfinite.astype(np.float32),
            "missing": np.zeros(len(rows), dtype=bool),
            "cosine": found.cosine.astype(np.float32),
            **histogram_columns(s),
        }
        return _with_missing(columns, block) if found.missing else columns


def _with_missing(columns: dict, block: Block) -> dict:
    missing = block.parameters.missing
    steps = block.steps()[[k for k, _ in missing]]
    result = {}
    for name, values in columns.items():
        if name == "step":
            more = steps
        elif name == "parameter":
            result[name] = [*values, *(n for _, n in missing)]
            continue
        elif name == "missing":
            more = np.ones(len(missing), dtype=bool)
        elif name == "size":
            more = np.array([block.parameters.sizes[n] for _, n in missing])
        else:
            fill = np.nan if values.dtype.kind == "f" else 0
            more = np.full((len(missing), *values.shape[1:]), fill, dtype=values.dtype)
        result[name] = np.concatenate([values, more])
    order = np.argsort(result["step"], kind="stable")
    return {k: [v[i] for i in order] if isinstance(v, list) else v[order] for k, v in result.items()}
