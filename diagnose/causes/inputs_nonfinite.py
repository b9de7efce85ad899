"""NaN or infinity in the inputs or the targets.

## What it is
An empty cell of a table, a logarithm of zero, a division by the standard deviation of a constant column.

## Why it stops learning
One NaN in a batch makes the loss NaN, its gradient NaN, and after one step every weight.

## How it is found
Items of both splits are read and looked at value by value; each offender is named by index, file, and column or
channel.

## How it is proven
By that inspection. NaN counts only if it reaches the model and the model's output is NaN for it.

## How to fix
    FillMissing                                  # among the procs of a table
    x = torch.nan_to_num(x)                      # or leave the item out

## What it looks like but is not
NaN that the pipeline fills in before the model sees it, or that the model masks. Missing labels among several
(a masked loss). A column of infinities throughout is a mask as well. Infinite loss from a step too long has finite
items.

## Source
PyTorch forum threads on "loss is nan", whose first answer is to look at the data; fastai's `FillMissing`.
"""

from diagnose.causes import Cause, Findings, Settled, Suspicion, inspected
from diagnose.causes._reading import evidence, truth
from diagnose.checks import listed
from diagnose.checks._numbers import everywhere
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "items-finite"
COPES = ("NaN filled before the model", "output finite with NaN in the input")


class InputsNonfinite(Cause):
    """Suspected when an item holds NaN or infinity that the model does not cope with."""

    settled_by = "inspection"
    when_learned = True
    explains = ("batch-mixing", "graph-broken", "lr-too-high", "lr-too-low")  # NaN spreads to whatever it meets

    def suspect(self, findings: Findings) -> Suspicion | None:
        found = evidence(findings, CHECK)
        kinds = {n: everywhere(found, n) for n in ("NaN in inputs", "infinity in inputs", "target not finite")}
        if any(truth(findings, CHECK, n) for n in COPES):
            kinds["NaN in inputs"] = []
        bad = [place for places in kinds.values() for place in places]
        if not bad:
            return None
        told = ", ".join(f"{len(p)} with {n}" for n, p in kinds.items() if p)
        return Suspicion(1.0, f"items that are not finite: {told}: {listed(bad)}", bad[:3], {"bad": bad, "told": told})

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        bad = suspicion.facts["bad"]
        proof = inspected(
            "items read and looked at value by value",
            f"{suspicion.facts['told']}: {listed(bad)}",
            "every value of a sound item is finite",
            {"places": len(bad)},
            places=0,
        )
        return Settled(True, False, proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text=f"Fill in, mend or leave out what is not finite, first at {suspicion.facts['bad'][0]}.",
            code="x = torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)  # where the item is read",
        )
