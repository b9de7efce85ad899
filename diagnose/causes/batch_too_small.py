"""Batches so small that gradients or batch statistics are mostly noise.

## What it is
Two rows a batch through layers of batch norm.

## Why it stops learning
Each row is told by its one neighbour: after a norm over two rows only the sign of their difference is left. Training
fits that, and in evaluation mode, with the statistics of all rows, nothing of it is left.

## How it is found
The check `modes-agree`: batches of fewer than 8 rows, and training and evaluation mode differ by more than 0.4 of the
outputs' spread (digits with two norms after pooling: 1.1 to 1.7 with 2 rows, 0.07 with 16).

## How it is proven
Sixteen rows are learned as they come, in batches of that size, and joined into one batch, in as many steps; both are
scored in evaluation mode on all sixteen. Joined they are learned (0.8 or more), as they come they are not, by 0.3 or
more. Measured on digits: 2 rows 0.22 (three norms after pooling) and 0.54 (two), 4 rows 0.90 and 0.96, joined 1.0.

## How to fix
    dls = DataBlock(...).dataloaders(path, bs=16)     # or GroupNorm / LayerNorm in place of BatchNorm

## What it looks like but is not
Small batches without batch norm, or with one that sees many pixels, learn the same rows: left alone.

## Source
Wu & He 2018, "Group Normalization", fig. 1; real failure F7 of the notes; checklist, item 15.
"""

import math

from diagnose.causes import CLEAR, NO_DIFFERENCE, Cause, Findings, Settled, Suspicion
from diagnose.causes._pairs import several_batches
from diagnose.causes._reading import number
from diagnose.checks._probing import joined, trial_on
from diagnose.checks.modes_agree import MOST
from diagnose.diagnosis import Fix, Proof, Side
from diagnose.lab import ROWS, Lab
from diagnose.stats import tensors
from diagnose.trial import LEARNED, batch_loss, measure_scale

CHECK = "modes-agree"
SMALL = 8  # rows


class BatchTooSmall(Cause):
    """Suspected when few rows a batch and batch norm let the two modes differ."""

    settled_by = "inspection"
    when_learned = True
    explains = ("norm-statistics-gap", "lr-too-high", "lr-too-low")

    def suspect(self, findings: Findings) -> Suspicion | None:
        rows, gap = number(findings, CHECK, "rows of a batch"), number(findings, CHECK, "difference")
        norms = number(findings, CHECK, "batch norms")
        if not (rows < SMALL and gap > MOST and norms >= 1):
            return None
        reason = f"with batches of {rows:.0f} rows the two modes differ by {gap:.2g} of the outputs' spread"
        return Suspicion(0.9, reason, ["the batch"], {"rows": rows})

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        rows = len(tensors(lab.whole_batch)[0])
        small = several_batches(lab, ROWS // rows, rows)
        together = joined(small)
        scale = measure_scale(lab.twin(), [together])
        found = []
        for batches in (small, [together]):
            trial = trial_on(lab, batches, stop_at=math.inf)
            found.append(scale.learned(batch_loss(trial.learner, together, training=False)))
        before, after = (max(v, 0.0) if math.isfinite(v) else 0.0 for v in found)
        total = len(tensors(together)[0])
        proof = Proof(
            change=f"{total} rows in one batch",
            kind="inspection",
            before=Side(
                summary=f"in batches of {rows} rows {before:.0%} of {total} rows is learned, in evaluation mode",
                numbers={"learned, evaluation mode": before, "rows of a batch": rows},
            ),
            after=Side(summary=f"in one batch {after:.0%} is", numbers={"learned, evaluation mode": after}),
        )
        proven = before < LEARNED <= after and after - before >= CLEAR
        return Settled(proven, after - before < NO_DIFFERENCE, proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Take batches of 16 rows or more, or GroupNorm or LayerNorm in place of batch norm.",
            code="learn.dls = dblock.dataloaders(path, bs=16)",
        )
