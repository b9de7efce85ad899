"""Clipping cuts nearly every gradient to a fraction of its size.

## What it is
`GradientClip(1e-4)` where gradients have a length of 1, or an own callback that scales them to almost nothing.

## Why it stops learning
All gradients become one tiny length: the rate that is configured is not the rate that is used.

## How it is found
The check `clipping`: at least nine of ten gradients are cut below 1 % of their length, and the weights then move by
less than a tenth of what they move without the cut.

## How it is proven
The same batch, as many steps, with every gradient put back just before the step to what it was before anything cut it:
learned, and as it is not.

## How to fix
    learn.remove_cb(GradientClip)
    learn.add_cb(GradientClip(1.0))      # the median of the gradients that the check lists, or a little above

## What it looks like but is not
Under Adam a cut length is divided out again, and the weights move as before: left alone. A rate that is too low moves
them as little with the gradients put back.

## Source
Pascanu et al. 2013, "On the difficulty of training recurrent neural networks"; the check `clipping`.
"""

from fastai.callback.core import Callback
from fastai.callback.training import GradientClip
from fastai.learner import Learner

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import number
from diagnose.changes import Change
from diagnose.checks.clipping import CUT, NEARLY_ALL, SLOWED
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "clipping"


class GradientClipTooTight(Cause):
    """Suspected when nearly all gradients are cut to less than a hundredth and the weights feel it."""

    explains = ("lr-too-low",)

    def suspect(self, findings: Findings) -> Suspicion | None:
        share, kept = number(findings, CHECK, f"cut below {CUT:.0%}"), number(findings, CHECK, "kept of it", "least")
        moves = number(findings, CHECK, "weights move")
        if not (share >= NEARLY_ALL and moves < SLOWED):
            return None
        reason = f"{share:.0%} of the gradients are cut, to {kept:.1g} of their length: the weights move by {moves:.1g}"
        return Suspicion(0.9, f"{reason} of what they would", ["the gradients"])

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        return Change("gradients not clipped", _uncut, "learn.remove_cb(GradientClip)")

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        clips = [cb for cb in lab.learn.cbs if isinstance(cb, GradientClip)]
        found = f"GradientClip({clips[0].max_norm:g})" if clips else "the callback that scales the gradients"
        return Fix(
            text=f"Take {found} out, or raise its threshold to the median of the gradients that `clipping` lists.",
            code="learn.remove_cb(GradientClip)",
        )


def _uncut(twin: Learner) -> None:
    keeps = _Keeps()
    twin.add_cbs([keeps, _PutsBack(keeps)])


class _Keeps(Callback):
    "The gradients after mixed precision has unscaled them, before anything clips them."

    order = 10.5

    def before_step(self):
        self.grads = [(p, p.grad.clone()) for p in self.learn.model.parameters() if p.grad is not None]


class _PutsBack(Callback):
    order = 1000

    def __init__(self, kept: _Keeps):
        self.kept = kept

    def before_step(self):
        for p, grad in self.kept.grads:
            p.grad = grad
