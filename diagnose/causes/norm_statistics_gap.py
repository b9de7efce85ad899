"""Training and evaluation disagree on one batch: batch norm's statistics come from batches too small or too different.

## What it is
Batch norm with a momentum so small that its running statistics stay where they began, or on batches of two or three
rows.

## Why it stops learning
Training goes on with the statistics of the batch, and every prediction is made with others: the loss falls, and the
validation score stays at chance.

## How it is found
The one-batch trial is learned in training mode, and the same batch in evaluation mode lags by more than 0.4 of the
scale. Healthy subjects lag by 0.1 or less.

## How it is proven
The statistics of the trained copy are computed anew from the batch: in evaluation mode it is then learned (0.8 or
more), and before it was not (below 0.5). And the statistics cannot catch up: an epoch leaves more than half of what
they began with, or batches have fewer than 8 rows.

## How to fix
    norm.momentum = 0.1              # PyTorch's: the weight of the new batch, not of the old statistics
    # small batches: GroupNorm or LayerNorm

## What it looks like but is not
Drop-out also lets the two modes differ, the other way round. A momentum of 0.01 lags within 200 steps and has caught up
after an epoch of 500: left alone.

## Source
Ioffe & Szegedy 2015, "Batch normalization"; TensorFlow counts momentum the other way (0.99 there is 0.01 here); real
failure F7 of the notes; checklist, item 15.
"""

import math

import torch
from fastai.learner import Learner
from torch.nn.modules.batchnorm import _BatchNorm

from diagnose.causes import Cause, Findings, Settled, Suspicion
from diagnose.causes._modes import NOT, lagging
from diagnose.causes._reading import number
from diagnose.checks._probing import batch_norms
from diagnose.checks.overfit_one_batch import GAP
from diagnose.diagnosis import Fix, Proof, Side
from diagnose.errors import NotApplicable
from diagnose.isolate import loaders, seed_everything, twin
from diagnose.lab import Lab
from diagnose.stats import tensors
from diagnose.trial import LEARNED, batch_loss, prepared

SMALL = 8  # rows of a batch


class NormStatisticsGap(Cause):
    """Suspected when evaluation mode lags behind what was learned, in a model with batch norm."""

    settled_by = "inspection"
    when_learned = True
    questions = (15,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        modes = lagging(findings)
        if modes is None or not number(findings, "modes-agree", "batch norms") >= 1:
            return None
        learned, there = modes
        reason = f"{learned:.0%} of the batch is learned in training mode, {max(there, 0.0):.0%} in evaluation mode"
        return Suspicion(0.9, reason, ["batch norms"])

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        student = twin(lab.baseline.learner, [lab.batch])
        norms = list(batch_norms(student.model))
        if not norms:
            raise NotApplicable("no batch norm keeps running statistics")
        momenta = [m.momentum for m in norms]
        before = lab.scale.learned(batch_loss(student, lab.batch, training=False))
        _recompute(lab, student, norms)
        after = lab.scale.learned(batch_loss(student, lab.batch, training=False))
        left = max(_left_after_epoch(lab, momentum) for momentum in momenta)
        rows = len(tensors(lab.whole_batch)[0])
        proof = Proof(
            change="statistics of the batch norms computed anew from the batch",
            kind="inspection",
            before=Side(
                summary=f"in evaluation mode {max(before, 0.0):.0%} of the batch is learned",
                numbers={"rows of a batch": rows, "left of the first statistics after an epoch": left},
            ),
            after=Side(
                summary=f"with its statistics computed anew {max(after, 0.0):.0%} is", numbers={"learned": after}
            ),
        )
        restored = before < NOT and after >= LEARNED
        return Settled(restored and (left > 0.5 or rows < SMALL), not after - before >= GAP, proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Set the momentum of the batch norms to 0.1, or use norms that do not depend on the batch.",
            code="for m in learn.model.modules():\n    if isinstance(m, nn.modules.batchnorm._BatchNorm):\n"
            "        m.momentum = 0.1  # small batches: GroupNorm",
        )


def _recompute(lab: Lab, student: Learner, norms: list[_BatchNorm]) -> None:
    "One pass in training mode with momentum 1: the running statistics are then those of the batch."
    xb, _ = prepared(student, lab.batch)
    for m in norms:
        m.reset_running_stats()
        m.momentum = 1.0
    student.model.train()
    seed_everything(lab.seed)
    with torch.no_grad():
        student.model(*xb)


def _left_after_epoch(lab: Lab, momentum: float | None) -> float:
    "Share of the initial statistics that is left after an epoch; 0 for a plain average."
    try:
        steps = len(loaders(lab.learn)[0])
    except TypeError:  # a stream has no length
        return math.nan
    return 0.0 if momentum is None else (1 - momentum) ** steps
