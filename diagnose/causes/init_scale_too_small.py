"""Weights start so small that the signal fades with depth.

## What it is
`normal_(0, 1e-4)`, or weights that were divided by the width where its square root was meant.

## Why it stops learning
Every layer multiplies the signal: after three layers at a thousandth of their scale a billionth is left, forward and
backward, and the gradient is below Adam's epsilon.

## How it is found
The root mean square of a weight is less than a twentieth of Kaiming's, sqrt(2 / fan-in), and not zero. PyTorch's
defaults stand at 0.4, normal_(0, 0.01) before 2048 inputs at 0.32.

## How it is proven
Those weights drawn anew by Kaiming: the same batch is learned in as many steps, and as it is not.

## How to fix
    from fastai.torch_core import apply_init
    apply_init(learn.model, nn.init.kaiming_normal_)

## What it looks like but is not
A last layer or a residual branch that starts near zero on purpose learns its batch, and is left alone. Weights of
exactly zero are another cause.

## Source
Glorot & Bengio 2010; He et al. 2015, "Delving deep into rectifiers"; the notes' checklist, item 7.
"""

from diagnose.causes._scale import ScaleCause

LEAST = 0.05  # of Kaiming's


class InitScaleTooSmall(ScaleCause):
    """Suspected when weights are many times smaller than Kaiming's."""

    explains = ("lr-too-low", "lr-too-high")
    worst = min
    questions = (7,)

    def odd(self, scale: float) -> bool:
        return 0 < scale < LEAST
