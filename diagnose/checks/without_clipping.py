"""Without gradient clipping, no more is learned.

## What it does
Takes fastai's GradientClip out of a copy and learns the fixed batch as it is and so.

## Why it matters
A threshold far below the usual gradient is a learning rate in disguise.

## How it is judged
Warns if less than 0.8 of the batch is learned as it is, and 0.3 more without clipping. It only locates a fault, and
never fails.

## What to do
Raise the threshold to the median of the gradients that the check `clipping` lists.

## Source
Pascanu et al. 2013, "On the difficulty of training recurrent neural networks".
"""

from fastai.callback.training import GradientClip
from fastai.learner import Learner

from diagnose.changes import Change
from diagnose.checks._comparison import ComparedTrial
from diagnose.errors import NotApplicable
from diagnose.lab import Lab


class WithoutClipping(ComparedTrial):
    """GradientClip taken out."""

    order = 72

    def change(self, lab: Lab) -> Change:
        clips = [cb for cb in lab.learn.cbs if isinstance(cb, GradientClip)]
        if not clips:
            raise NotApplicable("the Learner has no GradientClip")

        def apply(twin: Learner) -> None:
            twin.remove_cbs([cb for cb in twin.cbs if isinstance(cb, GradientClip)])

        return Change(f"GradientClip({clips[0].max_norm:g}) left out", apply, "learn.remove_cb(GradientClip)")
