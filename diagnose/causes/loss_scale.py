"""The loss is so large or so small that the learning rate means something else.

## What it is
`reduction="sum"`, or a stray factor.

## Why it stops learning
A plain gradient step grows with the loss: a sum over 48 rows takes steps 48 times as long, and diverges where the
mean learns.

## How it is found
The loss of the batch given twice over is twice the loss; or the best constant lies below 0.001 or above 1000.

## How it is proven
A trial on one whole batch with the loss rescaled to its mean per item: learned, and as it is not. Where a net with
norm layers learns one batch all the same, under an optimizer that does not divide the scale out, on eight batches.

## How to fix
    learn.loss_func = nn.BCEWithLogitsLoss(reduction="mean")

## What it looks like but is not
Adam and its kin divide the scale out: a summed loss learns just as well under them, and is left alone (the check says
so).

## Source
The notes' checklist, item 1; fastai#3023 (accumulation changes the loss scale).
"""

from diagnose.causes import Cause, Findings, Settled, Suspicion, paired_trial
from diagnose.causes._pairs import paired_on_several
from diagnose.causes._reading import by_place, number
from diagnose.changes import Change, scaled_loss
from diagnose.diagnosis import Fix
from diagnose.lab import Lab
from diagnose.stats import tensors


class LossScale(Cause):
    """Suspected when the loss grows with the batch, or its scale is absurd."""

    explains = ("lr-too-high", "lr-too-low")
    when_learned = True  # a sum over the few rows of the fixed batch may learn where one over a whole batch does not
    questions = (1,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        ratio = number(findings, "loss-contract", "loss of the batch twice over / of the batch")
        constant = number(findings, "first-loss", "best constant")
        if abs(ratio - 2) < 0.1:
            return Suspicion(
                0.8,
                f"the loss is a sum: given twice over, the batch's loss is {ratio:.2f} times as large",
                ["the loss"],
                {"sum": True, "plain": not by_place(findings, "optimizer-settings", "eps")},
            )
        if 0 < abs(constant) < 1e-3 or 1e3 < abs(constant) < float("inf"):
            return Suspicion(
                0.5, f"the best constant has a loss of {constant:.2g}", ["the loss"], {"factor": 1 / abs(constant)}
            )
        return None

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        if suspicion.facts.get("sum"):
            return scaled_loss(1 / len(tensors(lab.whole_batch)[0]), "loss rescaled to its mean per item")
        return scaled_loss(suspicion.facts["factor"], "loss rescaled to about 1")

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        change, whole = self.cure(lab, suspicion), lab.whole_batch
        if not suspicion.facts.get("sum"):
            return paired_trial(lab, change)
        found = paired_trial(lab, change, whole)
        if not found.proven and suspicion.facts.get("plain"):
            several = paired_on_several(lab, change, len(tensors(whole)[0]))
            found = several if several.proven else found
        return found

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        if suspicion.facts.get("sum"):
            return Fix(text="Let the loss be a mean over the batch.", code='reduction="mean"  # in the loss')
        return Fix(text="Bring the loss to a scale of about 1.", code="loss = loss * factor  # or scale the targets")
