"""One fixed batch can be memorised.

## What it does
Trains a copy on one fixed batch of up to 16 rows, exactly as the owner would (own optimizer, learning rate, loss and
callbacks), for up to 200 steps, and reports how far the loss went from the best constant (0) to the floor of free
outputs (1), in training mode, and where the same batch stands in evaluation mode.

## Why it matters
A model that cannot memorise sixteen rows cannot learn sixteen thousand. The same rows every time, enough of them,
enough steps and both modes: the notes' author lost two months to a subset that was redrawn, ten steps and batches of
two.

## How it is judged
Passes from 0.8 on, and only if the batch has at least two different targets, or a loss that no constant output
satisfies (contrastive losses read no target): any bias passes on one. Fails below 0.5.
A trial that reaches 0.95 after at least 50 steps stops there. Warns if the evaluation mode lags by more than 0.4.
Healthy subjects reach 0.95 or more, faulty ones 0.0 to 0.6 (reports/thresholds.md).

## What to do
Read the causes. If none is proven: compare with the learning-rate ladder and the easier versions of the task.

## Source
Karpathy 2019, "A Recipe for Training Neural Networks" (overfit one batch); the notes, D5 of their debug list.
"""

import math

from torch import Tensor

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, amount
from diagnose.checks._numbers import count, number
from diagnose.checks._recorded import series, update_size
from diagnose.lab import Lab
from diagnose.stats import tensors
from diagnose.trial import ENOUGH, LEARNED

NOT_LEARNED = 0.5
SOLVED_BY_BIAS = 0.01  # of the way from the first loss to the floor: a best constant this near it is the answer
GAP = 0.4  # how far evaluation mode may lag behind training mode


class OverfitOneBatch(Check):
    """Trains on one batch until it is memorised."""

    stage = "trial"
    order = 10
    cost = "up to 200 steps on 16 rows"

    def measure(self, lab: Lab) -> EvidenceList:
        trial, scale = lab.baseline, lab.scale
        last = trial.loss[-1] if trial.loss else math.nan
        return EvidenceList(
            [
                Evidence(name="learned", value=trial.learned, unit="share", expected=f">= {LEARNED}"),
                Evidence(name="learned, evaluation mode", value=trial.eval_learned, unit="share"),
                Evidence(name="steps", value=len(trial.loss), unit="steps"),
                Evidence(name="stopped", value=trial.stopped),
                Evidence(name="rows", value=lab.rows),
                Evidence(name="different targets", value=distinct(lab.yb), expected=">= 2"),
                Evidence(name="first loss", value=trial.loss[0] if trial.loss else math.nan, unit="loss"),
                Evidence(name="last loss", value=last, unit="loss"),
                Evidence(name="best constant", value=scale.best_constant, unit="loss"),
                Evidence(name="floor", value=scale.floor, unit="loss"),
                Evidence(name="loss", value=trial.loss, unit="loss", where="every step, training mode"),
                Evidence(
                    name="gradient norm", value=series(trial, "gradient_norm"), where="every step, before clipping"
                ),
                Evidence(name="update size", value=update_size(trial), unit="‖Δw‖/‖w‖", where="every 10th step"),
                Evidence(name="output spread", value=series(trial, "output_spread"), where="every step"),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        learned, steps = number(evidence, "learned"), count(number(evidence, "steps"))
        first, last = number(evidence, "first loss"), number(evidence, "last loss")
        told = f"learned {amount(learned)} of one batch in {steps} steps (loss {first:.4g} to {last:.4g})"
        if evidence.get("stopped") == "not finite":
            return Judgement("fail", f"the loss became {last} at step {steps}")
        constant, floor = number(evidence, "best constant"), number(evidence, "floor")
        if floor == -math.inf:
            fell = f"the loss went from {first:.4g} to {last:.4g} in {steps} steps"
            return Judgement("fail", f"{fell} and has no lower bound: nothing tells when the batch is learned")
        bias_suffices = not constant - floor > SOLVED_BY_BIAS * abs(first - floor)
        if not number(evidence, "different targets") >= 2 and bias_suffices:
            return Judgement("warn", f"{told}, which proves nothing: every target of the batch is the same")
        if not learned >= NOT_LEARNED:
            return Judgement("fail", f"{told}, needed {LEARNED:.0%}")
        if learned < LEARNED:
            return Judgement("warn", f"{told}, needed {LEARNED:.0%}")
        evaluated = number(evidence, "learned, evaluation mode")
        if not evaluated >= learned - GAP:
            return Judgement("warn", f"{told}, but only {amount(evaluated)} in evaluation mode")
        why = f", stopped there as {ENOUGH:.0%} is enough" if evidence.get("stopped") == "learned" else ""
        return Judgement("pass", told + why)


def distinct(yb: tuple) -> int:
    """Number of different targets among the rows of a batch."""
    parts = [t for t in tensors(yb) if t.ndim]
    if not parts:
        return 0
    rows = min(t.shape[0] for t in parts)
    return len({tuple(_row(t, i) for t in parts) for i in range(rows)})


def _row(t: Tensor, i: int) -> bytes:
    return t[i].detach().cpu().contiguous().numpy().tobytes()
