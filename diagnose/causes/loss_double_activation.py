"""The model ends in an activation that the loss applies again.

## What it is
A softmax before `CrossEntropyLoss`, or a sigmoid before `BCEWithLogitsLoss`; or a sigmoid of a sigmoid in the model
itself, where the base class applies one too.

## Why it stops learning
Outputs are confined to [0, 1], so the second activation cannot come near 0 or 1: with ten classes the loss cannot
fall below 1.46, and gradients are squashed twice.

## How it is found
The outputs are a softmax or a sigmoid, and the floor that such outputs reach lies well above the floor of free ones; or
the last two operations are sigmoids, and the second takes more than a tenth of the way to the floor out of reach.

## How it is proven
The same trial with one activation undone (the logarithm of the probabilities, or the inverse sigmoid): learned, and
as it is not.

## How to fix
    learn.model = learn.model[:-1]          # drop the softmax or sigmoid
    # or keep it, and use a loss that expects probabilities: nn.NLLLoss on their log, nn.BCELoss

## What it looks like but is not
A sigmoid before `BCELoss` or before a regression loss with targets in [0, 1]: free outputs reach no lower floor
there.

## Source
PyTorch's documentation of CrossEntropyLoss; the notes' checklist, item 3; real failure F4.
"""

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import number, texts
from diagnose.changes import Change, log_probabilities, logits
from diagnose.checks.loss_contract import LOST
from diagnose.diagnosis import Fix
from diagnose.lab import Lab


class LossDoubleActivation(Cause):
    """Suspected when confined outputs keep the loss away from its floor."""

    explains = ("lr-too-high", "lr-too-low", "init-constant")
    questions = (3,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        kind = findings.value("loss-contract", "outputs are")
        lost = findings.value("loss-contract", "lost to the confinement", 0.0)
        if kind not in ("softmax", "sigmoid") or not lost > LOST:
            return _two_in_the_model(findings)
        reason = (
            f"outputs are already a {kind}; the loss applies its own, and {lost:.0%} of the way to its floor is lost"
        )
        return Suspicion(0.95, reason, ["the model's last activation"], {"kind": kind})

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        return log_probabilities() if suspicion.facts["kind"] == "softmax" else logits()

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        kind = suspicion.facts["kind"]
        other = "nn.NLLLoss() on the logarithm" if kind == "softmax" else "nn.BCELoss()"
        return Fix(
            text=f"Take one {kind} out of the model: the second squashes what the first confined to [0, 1]."
            if suspicion.facts.get("in the model")
            else f"Take the {kind} out of the model: the loss applies it. Or keep it and use {other}.",
            code=f"# in the model: return the scores, without {kind}\n# later: learn.get_preds(act=torch.{kind})",
        )


def _two_in_the_model(findings: Findings) -> Suspicion | None:
    lost = number(findings, "loss-fits-targets", "out of reach")
    if texts(findings, "loss-fits-targets", "last activations") != ["Sigmoid", "Sigmoid"] or not lost > LOST:
        return None
    reason = f"a sigmoid of a sigmoid ends the model, and {lost:.0%} of what could be learned is out of reach"
    return Suspicion(0.95, reason, ["the model's last activation"], {"kind": "sigmoid", "in the model": True})
