"""Parameters that should train are frozen.

## What it is
`requires_grad=False`, or a learning rate of zero, on parts that the task needs.

## Why it stops learning
What is left to train cannot express the task.

## How it is found
Frozen parameters that no `learn.freeze()` or `freeze_to` declared, in a subject that does not learn its batch.

## How it is proven
With every parameter trainable the same batch is learned in the same steps.

## How to fix
    learn.model.requires_grad_(True)
    learn.create_opt()

## What it looks like but is not
A frozen body under a new head, declared by `learn.freeze()`, is intended. A frozen part that does not keep the batch
from being learned is left alone: a linear probe is a good model.

## Source
The notes' checklist, item 2; real failure F18 (the wrong part was frozen).
"""

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.changes import Change, unfrozen
from diagnose.diagnosis import Fix
from diagnose.lab import Lab


class ParamsFrozen(Cause):
    """Suspected when undeclared frozen parameters meet a batch that is not learned."""

    explains = ("lr-too-low", "lr-too-high")
    questions = (2,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        frozen = findings.value("optimizer-holds-parameters", "frozen", [])
        if not frozen:
            return None
        total = findings.value("optimizer-holds-parameters", "parameter tensors", 0)
        return Suspicion(
            0.8, f"{len(frozen)} of {total} parameter tensors are frozen without learn.freeze()", list(frozen)
        )

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        return unfrozen()

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Unfreeze what the task needs, and build the optimizer again. A freeze that is meant: learn.freeze().",
            code="learn.model.requires_grad_(True)\nlearn.create_opt()",
        )
