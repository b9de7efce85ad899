"""The forward pass uses weights that are not registered in the model (a global module, a plain Python list).

## What it is
Layers in a plain list or dict of the model, in place of nn.ModuleList or nn.ModuleDict.

## Why it stops learning
`model.parameters()` does not know them: no optimizer steps them, no checkpoint holds them, no `.to(device)` moves them.

## How it is found
The check `stray-modules`: modules that the model reaches without having registered them, whose parameters the loss
depends on, and that no optimizer holds.

## How it is proven
They are registered, and the optimizer is built over all parameters: the same batch is learned in as many steps, and as
it is not.

## How to fix
    self.layers = nn.ModuleList(layers)      # not self.layers = layers

## What it looks like but is not
Batch norms that `eval()` does not reach mix the rows in evaluation mode: batch-mixing is then explained by this. A
teacher or a loss network that is kept in a list so that it does not train: what is registered learns the batch, and
the subject is left alone with a warning. Modules of a global are named by the check; they are the user's own and no
copy, so that no trial may train them.

## Source
PyTorch's documentation of `ModuleList`; the notes' checklist, item 2; real failure F3.
"""

from fastai.learner import Learner

from diagnose.causes import Cause, Findings, Suspicion
from diagnose.causes._reading import number, texts
from diagnose.changes import Change, fresh_optimizer
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.isolate import stray_modules
from diagnose.lab import Lab

CHECK = "stray-modules"


class ParamsOutsideModule(Cause):
    """Suspected when unregistered parameters get a gradient that no optimizer uses."""

    settled_by = "inspection"  # before batch-mixing is believed: eval() does not reach batch norms outside the model
    explains = ("batch-mixing", "lr-too-high", "lr-too-low", "params-frozen", "capacity-too-small", "head-too-weak")
    questions = (2,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        lost = texts(findings, CHECK, "get a gradient that no optimizer uses")
        count = number(findings, CHECK, "trainable parameters outside the optimizer")
        if not lost or not count >= 1:
            return None
        reason = f"{count:.0f} parameters belong to no registered module, and no optimizer steps them: {lost[0]}"
        return Suspicion(0.95, reason, lost)

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        def apply(twin: Learner) -> None:
            own = {n: m for n, m in stray_modules(twin.model).items() if ": global " not in n and ": closure " not in n}
            if not own:
                raise NotApplicable(
                    "the modules belong to a global or a closure: they are no copies, and stay untouched"
                )
            for i, module in enumerate(own.values()):
                twin.model.add_module(f"stray_{i}", module)
            fresh_optimizer().apply(twin)

        return Change("unregistered layers registered, optimizer built over all", apply)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text=f"Register {suspicion.where[0]}: an attribute, nn.ModuleList or nn.ModuleDict.",
            code="self.layers = nn.ModuleList(layers)  # not a plain list\nlearn.create_opt()",
        )
