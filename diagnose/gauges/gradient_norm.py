"""The gradient as a whole: its norm as computed and as applied, and the ratio of the first layer's to the last's.

## What is recorded
`gradient_norm` (after unscaling, before clipping), `gradient_norm_applied` (after clipping), both over all parameters;
`gradient_first_last`, root-mean-square gradient of the first weight over that of the last; `gradient_missing`, how many
trainable parameters got none; `gradient_nonfinite`, how many hold something that is not finite.

## How it is measured
From the samples that the table `gradients` is made of; every 20th recorded step the norm is exact, and
`gradient_norm_exact` holds it.

## What it costs
Nothing beside `gradients`.

## Source
Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks".
"""

import numpy as np

from diagnose.gauges import Block, Columns, Gauge, Parameters, Rows


class GradientNorm(Gauge):
    """Norms over all parameters."""

    reads = ("gradients", "applied")

    def rows(self, block: Block) -> Columns | None:
        found = block.parameters
        if found is None or found.gradients is None:
            return None
        columns = _norms(block, found.gradients, found)
        applied = columns["gradient_norm"]
        if found.applied is not None:
            applied = _norms(block, found.applied, found)["gradient_norm"]
        columns["gradient_norm_applied"] = applied
        exact: dict[int, float] = {}
        for (place, _), norm in found.norms.items():
            exact[place] = exact.get(place, 0.0) + norm**2
        columns["gradient_norm_exact"] = block.column({k: v**0.5 for k, v in exact.items()})
        missing = np.bincount([k for k, _ in found.missing], minlength=len(block.moments)).astype(float)
        columns["gradient_missing"] = np.where(np.isnan(columns["gradient_norm"]) & (missing == 0), np.nan, missing)
        return columns


def _norms(block: Block, rows: Rows, found: Parameters) -> dict[str, np.ndarray]:
    size = found.held(rows).astype(float)
    l2, count = rows.summary.l2(size), len(block.moments)
    squares = np.bincount(rows.place, np.nan_to_num(l2) ** 2, count)
    bad = np.bincount(rows.place, rows.summary.nonfinite > 0, count)
    have = np.bincount(rows.place, minlength=count) > 0
    ratio = np.full(count, np.nan)
    is_weight = {n: size > 1 and not n.endswith("bias") for n, size in found.sizes.items()}
    mine = np.flatnonzero([is_weight[n] for n in rows.names])
    places, first, many = np.unique(rows.place[mine], return_index=True, return_counts=True)
    rms = l2[mine] / np.sqrt(size[mine])
    with np.errstate(all="ignore"):
        ratio[places] = np.where(many > 1, rms[first] / rms[first + many - 1], np.nan)
    norm = np.where(bad > 0, np.nan, np.sqrt(squares))
    return {
        "gradient_norm": np.where(have, norm, np.nan),
        "gradient_nonfinite": np.where(have, bad, np.nan),
        "gradient_first_last": ratio,
    }
