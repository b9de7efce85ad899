"""The last bias starts far from the base rate of the targets; setting it there removes a long first plateau.

## What it is
Outputs that start at 0 where the targets lie around 300, or a last bias that votes for one class before anything is
seen.

## Why it stops learning
All weights first work on the constant that the answer begins with. With steps of a thousandth, a bias that is off by a
hundred takes a hundred thousand of them.

## How it is found
The first loss lies above that of the best constant output by more than the distance from there to the floor. Most
healthy subjects start 0 to 0.4 of that distance above it (reports/thresholds.md).

## How it is proven
A constant is added to the outputs, the one that is best for the batch under the subject's own loss: the same batch is
learned in as many steps, and as it is not.

## How to fix
    with torch.no_grad():
        learn.model[-1].bias += shift        # or set it to the mean of the targets, to the log of the class frequencies

## What it looks like but is not
Weights that start too large also raise the first loss; no constant takes that away. Squared errors of targets scaled to
[0, 1] start up to three distances above, and are learned: left alone.

## Source
Karpathy 2019, "A Recipe for Training Neural Networks" (init well); the notes' checklist, item 17.
"""

import torch
from fastai.learner import Learner
from torch import Tensor

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import number
from diagnose.changes import Appended, Change
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

CHECK = "first-loss"
ABOVE = 1.0  # of the distance from the best constant to the floor


class InitOutputBias(Cause):
    """Suspected when the first loss lies far above that of the best constant."""

    explains = ("lr-too-low", "lr-too-high")
    questions = (17,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        above, first = number(findings, CHECK, "above the best constant"), number(findings, CHECK, "first loss")
        constant = number(findings, CHECK, "best constant")
        if not above > ABOVE:
            return None
        reason = f"the first loss is {first:.3g}, a constant output has {constant:.3g}"
        return Suspicion(min(0.5 + 0.01 * above, 0.8), reason, ["the last bias"])

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        shift = best_shift(lab)

        def apply(twin: Learner) -> None:
            twin.model = Appended(twin.model, lambda out: out + shift)

        return Change(f"outputs shifted by up to {float(shift.abs().max()):.3g}, to the best constant", apply)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Set the last bias to the base rate: the mean of the targets, or the log of the class frequencies.",
            code="with torch.no_grad():\n    learn.model[-1].bias.copy_(base_rate)",
        )


def best_shift(lab: Lab) -> Tensor:
    """The constant that, added to every row of the untrained outputs, makes the subject's loss least, by L-BFGS.

    Raises:
        NotApplicable: the output is not one tensor of numbers, or no constant lowers the loss.
    """
    out = lab.output
    if not isinstance(out, Tensor) or not out.is_floating_point() or out.ndim < 1:
        raise NotApplicable("the model's output is not one tensor of numbers")
    if lab.scale.confined:
        raise NotApplicable(f"the outputs are a {lab.scale.confined}: a constant leads out of its range")
    copy, shift = lab.twin(), torch.zeros_like(out[:1]).requires_grad_(True)
    optimizer = torch.optim.LBFGS([shift], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = lab.loss_of(copy, out.detach() + shift)
        loss.backward()
        return loss

    try:
        with torch.enable_grad():
            for _ in range(3):
                optimizer.step(closure)
    except RuntimeError as e:  # a loss that refuses some numbers, or an overflow
        raise NotApplicable(f"the best constant cannot be found: {e}") from e
    if not bool(torch.isfinite(shift).all()) or not bool(shift.any()):
        raise NotApplicable("no constant lowers the loss")
    return shift.detach()
