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

Between 0.5 and 0.8 it passes too if it learned 0.95 of what is within reach: of what the model could give if the
outputs of its last layer were free (scores of pairs of rows cannot all be what the loss would like best).
Where one branch of the model is the target of another (BYOL, SimSiam), a constant would satisfy the loss, which looks
like a loss that proves nothing: there the scale is that of the targets as they are, and what is lost because targets
fell together while training is taken off. A collapse learns nothing so, however low its loss.

## What to do
Read the causes. If none is proven: compare with the learning-rate ladder and the easier versions of the task.

## Source
Karpathy 2019, "A Recipe for Training Neural Networks" (overfit one batch); the notes, D5 of their debug list.
Collapse: Grill et al. 2020; Chen & He 2021, "Exploring simple Siamese representation learning".
"""

import math

from torch import Tensor

from diagnose import trial as trials
from diagnose.checks import Check, Evidence, EvidenceList, Judgement, amount, odd_but_right
from diagnose.checks._numbers import count, number, place_of
from diagnose.checks._probing import hooked, leaves
from diagnose.checks._recorded import series, update_size
from diagnose.lab import Lab
from diagnose.stats import tensors
from diagnose.trial import ENOUGH, LEARNED, Trial, unchanged

NOT_LEARNED = 0.5
SOLVED_BY_BIAS = 0.01  # of the way from the first loss to the floor: a best constant this near it is the answer
REACH = "within reach of the last layer with weights"
AFTER = "best constant after training, where one branch is the target of another"
GAP = 0.4  # how far evaluation mode may lag behind training mode


class OverfitOneBatch(Check):
    """Trains on one batch until it is memorised."""

    stage = "trial"
    order = 10
    cost = "up to 200 steps on 16 rows"

    def measure(self, lab: Lab) -> EvidenceList:
        trial, scale = lab.baseline, lab.scale
        last = trial.loss[-1] if trial.loss else math.nan
        found = EvidenceList(
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
                Evidence(name=AFTER, value=trial.constant_after if scale.taught else None, unit="loss"),
                Evidence(name="loss", value=trial.loss, unit="loss", where="every step, training mode"),
                Evidence(
                    name="gradient norm", value=series(trial, "gradient_norm"), where="every step, before clipping"
                ),
                Evidence(name="update size", value=update_size(trial), unit="‖Δw‖/‖w‖", where="every 10th step"),
                Evidence(name="output spread", value=series(trial, "output_spread"), where="every step"),
            ]
        )
        if NOT_LEARNED <= trial.learned < LEARNED and not scale.confined and not scale.taught:
            found += _within_reach(lab, trial)
        return found

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
        after = number(evidence, AFTER)
        if not math.isnan(after):
            told += f"; the best constant stood at {constant:.4g} before and at {after:.4g} after"
        bias_suffices = not constant - floor > SOLVED_BY_BIAS * abs(first - floor)
        if not number(evidence, "different targets") >= 2 and bias_suffices:
            return Judgement("warn", f"{told}, which proves nothing: every target of the batch is the same")
        if not learned >= NOT_LEARNED:
            return Judgement("fail", f"{told}, needed {LEARNED:.0%}")
        evaluated, reach = number(evidence, "learned, evaluation mode"), number(evidence, REACH)
        if learned < LEARNED and not learned >= ENOUGH * reach:
            return Judgement("warn", f"{told}, needed {LEARNED:.0%}")
        if not evaluated >= learned - GAP:
            return Judgement("warn", f"{told}, but only {amount(evaluated)} in evaluation mode")
        if learned < LEARNED:
            fine = f"no outputs of the last layer, {place_of(evidence, REACH)}, reach more than {amount(reach)}"
            return odd_but_right(f"a batch half learned: {told}, needed {LEARNED:.0%}", fine)
        why = f", stopped there as {ENOUGH:.0%} is enough" if evidence.get("stopped") == "learned" else ""
        if not math.isnan(after):
            return odd_but_right(
                f"a loss that a constant output satisfies: {told}", "outputs of different rows differ still"
            )
        return Judgement("pass", told + why)


def _within_reach(lab: Lab, trial: Trial) -> EvidenceList:
    """How much of the batch could be learned if the outputs of the last layer with weights were free: what comes after
    it may confine the outputs of the model to fewer, as scores of every row against every row are. Nothing is said
    where another module runs after that layer: an activation in the way of the loss is a fault, not a limit."""
    model, ran = trial.learner.model, []
    names = leaves(model)
    with unchanged(model), hooked(names, lambda module, given, out: ran.append((module, out))):
        model.eval()
        trials.forward(model, lab.xb)
    if not ran or [m for m, _ in ran].count(ran[-1][0]) > 1:
        return EvidenceList()
    last, out = ran[-1]
    if not isinstance(out, Tensor) or not any(p.ndim > 1 for p in last.parameters(recurse=False)):
        return EvidenceList()

    def loss_of(free: list[Tensor]) -> Tensor:
        with hooked([last], lambda module, given, out: free[0].to(out.dtype)), unchanged(model):
            model.eval()
            return lab.loss_of(trial.learner, lab.predicted(trial.learner, model(*lab.xb)))

    floor = min(trials.least_loss(loss_of, [start]) for start in (out.float(), trials.noise_for(out)))
    return EvidenceList([Evidence(name=REACH, value=trial.scale.learned(floor), unit="share", where=names[last])])


def distinct(yb: tuple) -> int:
    """Number of different targets among the rows of a batch."""
    parts = [t for t in tensors(yb) if t.ndim]
    if not parts:
        return 0
    rows = min(t.shape[0] for t in parts)
    return len({tuple(_row(t, i) for t in parts) for i in range(rows)})


def _row(t: Tensor, i: int) -> bytes:
    return t[i].detach().cpu().contiguous().numpy().tobytes()
