"""One row's output depends on another row.

## What it is
A wrong view, permute, sort, softmax, pooling or norm over the batch dimension. The classic: `torch.cat(images, 0)`
followed by `view(rows, roles, ...)`, which hands row 0 the images of rows 0 to 3.

## Why it stops learning
The label of a row has nothing to do with what the model sees of it. One batch can still be memorised; nothing else.

## How it is found
One row of the input is altered, in evaluation mode: other rows of the output change.

## How it is proven
By that, and by naming the place: the last module where rows are apart, and the first where they are mixed.

## How to fix
    x = torch.stack(images, dim=1).flatten(0, 1)     # rows × roles
    x = self.encoder(x).unflatten(0, (rows, roles))

With one input: `x.flatten(1)`, and no permute, mean or softmax that moves or runs over dimension 0.

## What it looks like but is not
Batch norm mixes rows in training mode: it is looked at in evaluation mode. A score for every pair of rows
(contrastive models) must depend on both: its shape follows the batch size twice, and it passes. A loss may mix rows;
only the model is looked at.

## Source
Real failure F1, open in the notes' code for two months; the notes' checklist, item 8.
"""

from diagnose.causes import Cause, Findings, Settled, Suspicion, inspected
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "row-independence"
ROLES = """x = torch.stack(images, dim=1).flatten(0, 1)       # (rows * roles, ...)
x = encoder(x).unflatten(0, (rows, roles))           # rows stay together"""
ONE = """x = x.flatten(1)                     # (rows, features): dimension 0 stays that of the rows
x = x.permute(0, 2, 1)               # likewise; never x.permute(1, ...) before a view or reshape
x = x.mean(dim=1)                    # and no mean, softmax or norm over dim=0"""


class BatchMixing(Cause):
    """Suspected when altering one row changes others."""

    settled_by = "inspection"
    when_learned = True
    explains = ("lr-too-high", "lr-too-low", "loss-double-activation", "init-constant")
    questions = (8,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        others = findings.value(CHECK, "other rows that change", [])
        if not others or findings.value(CHECK, "one score per pair of rows"):
            return None
        apart, mixed = findings.value(CHECK, "rows still apart after"), findings.value(CHECK, "rows mixed at")
        reason = f"altering one row changes {len(others)} other rows; apart after {apart}, mixed at {mixed}"
        return Suspicion(1.0, reason, [mixed], {"others": len(others), "apart": apart, "mixed": mixed})

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        facts = suspicion.facts
        proof = inspected(
            "one row of the input altered, in evaluation mode",
            f"{facts['others']} other rows of the output change",
            "in a sound model no other row changes",
            {"other rows that change": facts["others"], "mixed at": facts["mixed"]},
            **{"other rows that change": 0},
        )
        return Settled(True, False, proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text=f"Look at what moves, sorts or reduces between {suspicion.facts['apart']} and "
            f"{suspicion.facts['mixed']} (view, reshape, permute, roll, sort, cumsum, softmax, mean, norm): one of "
            "them runs over the batch dimension.",
            code=ROLES if len(lab.xb) > 1 else ONE,
        )
