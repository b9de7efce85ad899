"""A part meant to be frozen still moves: its parameters, or its batch-norm statistics.

## What it is
`module.requires_grad = False`, which sets an attribute of the module and freezes nothing; frozen weights that the
optimizer still holds and moves; frozen batch norms whose running statistics go on adapting.

## Why it stops learning
Pretrained weights that were to be kept are overwritten by the gradients of an untrained head; statistics that drift
make another encoder of the frozen one after every step.

## How it is found
The check `one-step-moves`, bit by bit: the attribute on a module whose parameters train, frozen tensors that move,
buffers of frozen modules that move.

## How it is proven
The attribute: by the parameters under it that move in the one-batch trial. Frozen tensors: by their moving although the
optimizer should leave them. Drifting statistics, which do no harm in most nets: only if evaluation mode does not learn
the batch (below 0.5), and does with the frozen norms in evaluation mode (0.8 or more).

## How to fix
    part.requires_grad_(False)       # with the underscore; and part.eval() in every step, or fastai's BnFreeze

## What it looks like but is not
A teacher that follows by moving average is frozen and moves, and no optimizer holds it. fastai leaves the norm layers
of a frozen body trainable on purpose. Drift that costs nothing is told by the check and left alone.

## Source
Real failure F18 of the notes; fastai's `BnFreeze`. The comparisons are exact.
"""

from fastai.callback.core import Callback

from diagnose.causes import CLEAR, Cause, Findings, Settled, Suspicion, inspected
from diagnose.causes._reading import texts
from diagnose.changes import Change
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.isolate import held_parameters
from diagnose.lab import Lab
from diagnose.trial import LEARNED

CHECK = "one-step-moves"
NOT = 0.5


class FrozenStillTraining(Cause):
    """Suspected when something frozen moves, or a freeze has no effect."""

    settled_by = "inspection"
    when_learned = True

    def suspect(self, findings: Findings) -> Suspicion | None:
        kinds = (
            (
                "requires_grad set on a module",
                1.0,
                "`requires_grad = False` on {} sets an attribute and freezes nothing",
            ),
            ("frozen that moved", 0.7, "{} is frozen and moves"),
            ("buffers of frozen modules that moved", 0.3, "{}, a buffer of a frozen module, moves"),
        )
        for name, strength, told in kinds:
            if found := texts(findings, CHECK, name):
                return Suspicion(strength, told.format(found[0]), found, {"kind": name})
        return None

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        return Change("frozen norm layers in evaluation mode", lambda twin: twin.add_cb(_FrozenToEval()))

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        kind, names = suspicion.facts["kind"], suspicion.where
        if kind == "buffers of frozen modules that moved":
            return self._drift(lab, suspicion)
        if kind == "frozen that moved":
            copy = lab.twin()
            held = {id(p) for _, p in held_parameters(copy)}
            moving = [n for n, p in copy.model.named_parameters() if n in names and id(p) in held]
            if not moving:
                raise NotApplicable("no optimizer holds what moves: it may follow by moving average, on purpose")
        else:
            modules = dict(lab.learn.model.named_modules())  # the model itself is named by its class
            moving = [
                n
                for n, v in lab.baseline.moved.items()
                if v > 0 and any(_under(n, m) or m not in modules for m in names)
            ]
        found = inspected(
            "part.requires_grad_(False)",
            f"{len(moving)} tensors that were meant to be frozen move in the one-batch trial",
            "frozen tensors stay bit for bit",
            {"frozen tensors that moved": len(moving)},
            **{"frozen tensors that moved": 0},
        )
        return Settled(bool(moving), not moving, found)

    def _drift(self, lab: Lab, suspicion: Suspicion) -> Settled:
        change = self.cure(lab, suspicion)
        before, after = lab.baseline.eval_learned, lab.trial(change, scale=lab.scale).eval_learned
        found = inspected(
            change.name,
            f"in evaluation mode {max(before, 0.0):.0%} of the batch is learned",
            f"with frozen statistics {max(after, 0.0):.0%} is",
            {"learned, evaluation mode": before},
            **{"learned, evaluation mode": after},
        )
        return Settled(before < NOT and after >= LEARNED, not after - before >= CLEAR, found)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text=f"Freeze parameters by requires_grad_(False), statistics by eval(): {suspicion.where[0]}.",
            code="part.requires_grad_(False)\nlearn.create_opt()\nlearn.add_cb(BnFreeze())",
        )


class _FrozenToEval(Callback):
    def before_batch(self):
        for module in self.learn.model.modules():
            own = list(module.parameters(recurse=False))
            if own and not any(p.requires_grad for p in own):
                module.eval()


def _under(name: str, module: str) -> bool:
    return name.startswith(f"{module}.")
