"""Weights start so large that activations or the first loss blow up.

## What it is
`normal_(0, 1)` before hundreds of inputs, a forgotten division by the square root of the width, a gain applied twice.

## Why it stops learning
Every layer multiplies the signal. The first loss is a thousand times what it should be, activations saturate, and each
step is small beside the weights that it should turn around.

## How it is found
The root mean square of a weight is more than 5 times Kaiming's, sqrt(2 / fan-in). PyTorch's defaults stand at 0.4,
pretrained nets at 3 or less.

## How it is proven
Those weights drawn anew by Kaiming: the same batch is learned in as many steps, and as it is not.

## How to fix
    from fastai.torch_core import apply_init
    apply_init(learn.model, nn.init.kaiming_normal_)

## What it looks like but is not
Large weights before a norm layer are divided out again, and the batch is learned: left alone. Weights filled with one
number are another cause. A rate that is too high is not cured by other weights.

## Source
He et al. 2015, "Delving deep into rectifiers"; the notes' checklist, item 7.
"""

from diagnose.causes._scale import ScaleCause

MOST = 5.0  # times Kaiming's


class InitScaleTooLarge(ScaleCause):
    """Suspected when weights are several times as large as Kaiming's."""

    explains = (
        "lr-too-high",
        "lr-too-low",
        "activation-saturated",
        "dead-units",
        "init-output-bias",
        "init-scale-too-small",
    )
    questions = (7,)

    def odd(self, scale: float) -> bool:
        return scale > MOST
