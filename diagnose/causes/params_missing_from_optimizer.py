"""Parameters of the model that the optimizer does not hold.

## What it is
A part of the model was replaced after the optimizer was built, sits outside the splitter's groups, or was added
later.

## Why it stops learning
It gets gradients and never moves. Nothing reports it: the optimizer goes on stepping the parts that are gone.

## How it is found
By identity: trainable parameters that stand in no parameter group.

## How it is proven
With an optimizer built over all parameters the missing ones move in the same trial; as it is, they get gradients and
do not move by one bit.

## How to fix
    learn.create_opt()       # after every change of the model; or mend the splitter

## What it looks like but is not
A frozen part (`requires_grad=False`) need not be held. A part that another optimizer steps (a GAN) moves in the
trial, and is left alone. A teacher that follows by moving average gets no gradient, and is left alone.

## Source
fastai `Optimizer` holds references; the notes' checklist, item 2.
"""

from diagnose.causes import Cause, Findings, Settled, Suspicion, side
from diagnose.changes import Change, fresh_optimizer
from diagnose.diagnosis import Fix, Proof
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import total_norm


class ParamsMissingFromOptimizer(Cause):
    """Suspected when a trainable parameter is in no parameter group."""

    settled_by = "inspection"
    when_learned = True
    explains = ("params-frozen", "lr-too-low", "lr-too-high", "init-constant")
    questions = (2,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        missing = findings.value("optimizer-holds-parameters", "missing from the optimizer", [])
        if not missing:
            return None
        total = findings.value("optimizer-holds-parameters", "trainable", 0)
        reason = f"{len(missing)} of {total} trainable tensors are in no parameter group"
        return Suspicion(1.0, reason, list(missing), {"missing": missing})

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        return fresh_optimizer()

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        grads = lab.gradients.of
        missing = [n for n in suspicion.facts["missing"] if grads.get(n) is not None and total_norm([grads[n]]) > 0]
        if not missing:
            raise NotApplicable("the missing tensors get no gradient: holding them would change nothing")
        before, after = lab.baseline, lab.trial(self.cure(lab, suspicion))
        still = [n for n in missing if before.moved.get(n) == 0]
        woken = [n for n in still if after.moved.get(n, 0) > 0]
        proof = Proof(
            change=self.cure(lab, suspicion).name,
            kind="inspection",
            before=side(before, {"missing tensors that moved": len(missing) - len(still), "of": len(missing)}),
            after=side(after, {"missing tensors that moved": len(woken), "of": len(missing)}),
        )
        return Settled(bool(woken), not still, proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Build the optimizer after the model has its last shape, over all of its parameters.",
            code="learn.create_opt()  # after changing the model; with a splitter, put every part into a group",
        )
