"""Training maximises what it should minimise.

## What it is
A minus too many, or one too few: a log-likelihood, a similarity or a score that is returned as the loss, an optimizer
with maximize=True, a hook on parameters that gives gradients the other sign.

## Why it stops learning
It trains very well, in the wrong direction: the worse the answers, the lower the loss, without end.

## How it is found
The loss falls in proportion to the way down its own gradient, a thousand times as far and ten thousand times as far:
it has no lower bound. Neither targets in [0, 1] nor log-softmaxed outputs give it one: those point elsewhere. Or it
has one, where all rows have the same answer: nothing of the batch is learned, and a constant output is as good as any.
Or hooks on parameters turn gradients round, and without them a batch is learned. Or at every rung of the learning-rate
ladder the loss ends above where it began: a rate that is too high falls at a lower rung.

## How it is proven
The same trial with the loss negated: learned on the scale of that loss, and its answers agree with the targets
(argmax, or a correlation of at least 0.8) where those of the trial as it is do not (at most 0.5). A loss that is least
for a constant stays a suspicion where no answers can be compared. Where only the step goes the wrong way: the same
trial with every gradient negated just before the step, or without the hooks.

## How to fix
    loss = -log_likelihood.mean()

## What it looks like but is not
A likelihood with a learned variance, the critic of a Wasserstein GAN, a policy gradient: their losses have no lower
bound, and no upper bound either, so that the negated loss is not learned. BYOL and SimSiam are least for a constant
too, and negated the most that they can be is another constant.

## Source
The notes' checklist, item 1.
"""

import math

import torch
from fastai.callback.core import Callback
from torch import Tensor

from diagnose.causes import Cause, Findings, Settled, Suspicion, paired_trial
from diagnose.causes._callbacks import blamed_hooks, cure_of
from diagnose.causes._reading import by_place, number, truth
from diagnose.changes import Change, scaled_loss, unhooked
from diagnose.checks import listed
from diagnose.diagnosis import Fix
from diagnose.lab import Lab
from diagnose.trial import Trial

CHECK = "loss-fits-targets"
TRIAL, LADDER = "overfit-one-batch", "learning-rate-ladder"
AGREES, DISAGREES = 0.8, 0.5
NO_ROOM = 1e-3  # between the best constant and the floor, of the way from the first loss down to the constant
LITTLE = 0.1  # learned of the batch
WORSE = 0.05  # of the scale, by which the loss must rise at one rate at least


class LossSignFlipped(Cause):
    """Suspected when a loss has no lower bound."""

    explains = ("lr-too-high", "lr-too-low", "init-constant", "params-frozen")
    questions = (1,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        if not truth(findings, CHECK, "falls without end"):
            return blamed_hooks(findings, against=True) or self._uphill(findings) or self._best_constant(findings)
        if any(
            truth(findings, CHECK, n) for n in ("bounded for targets in [0, 1]", "bounded for log-softmaxed outputs")
        ):
            return None
        return Suspicion(0.9, "the loss has no lower bound: it falls as far as its gradient is followed", ["the loss"])

    def _best_constant(self, findings: Findings) -> Suspicion | None:
        first, constant, floor = (number(findings, TRIAL, n) for n in ("first loss", "best constant", "floor"))
        if not constant < first < math.inf or not constant - floor <= NO_ROOM * (first - constant):
            return None
        if not number(findings, TRIAL, "learned") < LITTLE:
            return None
        reason = f"the loss is least, {constant:.3g}, where all rows have the same answer"
        return Suspicion(0.5, reason, ["the loss"], {"bounded": True})

    def _uphill(self, findings: Findings) -> Suspicion | None:
        first, constant, floor = (number(findings, TRIAL, n) for n in ("first loss", "best constant", "floor"))
        if not -math.inf < floor < constant < math.inf:
            return None
        start = (constant - first) / (constant - floor)
        rungs = [v for v in by_place(findings, LADDER, "learned").values() if math.isfinite(v)]
        if len(rungs) < 2 or not max(rungs) < start or not min(rungs) < start - WORSE:
            return None
        reason = f"the loss rises from where it begins at each of {len(rungs)} learning rates, however low"
        return Suspicion(0.6, reason, ["the step"], {"uphill": True})

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        if without := cure_of(suspicion):
            return without
        if suspicion.facts.get("uphill"):
            return Change("gradients negated", lambda twin: twin.add_cb(_Negated()))
        return scaled_loss(-1.0, "loss negated", "loss = -loss")

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        change = self.cure(lab, suspicion)
        proven, refuted, proof = paired_trial(lab, change)
        if not proven or suspicion.facts.get("uphill") or cure_of(suspicion):
            return Settled(proven, refuted, proof)
        before, after = (_agreement(lab, t) for t in (lab.baseline, lab.trial(change)))
        if before is None or after is None:
            return Settled(not suspicion.facts.get("bounded"), False, proof)
        proof.before.numbers["answers agree with targets"] = before
        proof.after.numbers["answers agree with targets"] = after
        return Settled(after >= AGREES and before <= DISAGREES, False, proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        if names := suspicion.facts.get("hooks"):
            text = f"Look for what `register_hook` has put on {listed(names)}: it turns their gradients round."
            return Fix(text=text, code=unhooked().code)
        if suspicion.facts.get("uphill"):
            return Fix(
                text="The step goes up the loss, not down. Look for maximize=True, for a callback that gives gradients "
                "the other sign, for an own `step` that adds them.",
                code="learn.opt_func = partial(OptimWrapper, opt=torch.optim.SGD)  # and no maximize=True",
            )
        return Fix(
            text="Give the loss the other sign: fit minimises it.", code="loss = -score  # what should grow, negated"
        )


class _Negated(Callback):
    "Gives every gradient the other sign, once all others have altered it."

    order = 1000

    def before_step(self):
        for p in self.learn.model.parameters():
            if p.grad is not None:
                p.grad = -p.grad


def _agreement(lab: Lab, trial: Trial) -> float | None:
    "Share of right classes, or correlation with the targets; None where outputs and targets are of other kinds."
    if trial.learner is None or len(lab.yb) != 1:
        return None
    out, y = lab.forward(trial.learner.model, training=True), lab.yb[0]
    if not isinstance(out, Tensor) or not isinstance(y, Tensor):
        return None
    out, y = out.detach().float().as_subclass(Tensor), y.detach().as_subclass(Tensor)
    for axis in (1, -1):
        if not y.is_floating_point() and out.ndim > 1 and (answers := out.nan_to_num().argmax(axis)).shape == y.shape:
            return float((answers == y).float().mean())
    if out.numel() != y.numel() or out.numel() < 3:
        return None
    r = float(torch.corrcoef(torch.stack([out.nan_to_num().flatten(), y.float().flatten()]))[0, 1])
    return r if r == r else 0.0
