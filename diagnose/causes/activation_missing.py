"""Linear layers are stacked with nothing non-linear between them.

## What it is
A forgotten activation in a hand-written `forward`, or one that was put into `__init__` and never called.

## Why it stops learning
Linear layers in a row are one linear layer: whatever the depth, the model draws straight lines.

## How it is found
The check `linear-stacks`: the very output of one Linear layer is the input of the next, both train, and the width
between them is no bottleneck.

## How it is proven
A ReLU is put between them: the same batch is learned in as many steps, and as it is not. Sixteen rows of many columns
can be fitted by a straight line; then the same over eight different batches, to the last step.

## How to fix
    nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1))

## What it looks like but is not
A low-rank factorisation (LoRA, an embedding bottleneck), and a projection under a head, are linear on purpose. A stack
that learns its batches as it is, is left alone with a warning.

## Source
Goodfellow et al. 2016, "Deep Learning", 6.1; real failure F16 of the notes.
"""

from fastai.learner import Learner
from torch import nn

from diagnose.causes import Cause, Findings, Settled, Suspicion, paired_trial
from diagnose.causes._pairs import paired_on_several
from diagnose.causes._reading import texts
from diagnose.changes import Change
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.lab import Lab


class ActivationMissing(Cause):
    """Suspected when Linear layers feed each other directly."""

    explains = ("lr-too-high", "lr-too-low", "capacity-too-small")
    when_learned = True
    questions = (2,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        pairs = texts(findings, "linear-stacks", "nothing between")
        if not pairs:
            return None
        return Suspicion(0.85, f"nothing stands between {pairs[0]}", pairs)

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        names = list(dict.fromkeys(pair.split(" ", 1)[0] for pair in suspicion.where))

        def apply(twin: Learner) -> None:
            for name in names:
                parent, _, child = name.rpartition(".")
                try:
                    layer = twin.model.get_submodule(name)
                except AttributeError as e:
                    raise NotApplicable(f"{name} cannot be replaced: {e}") from e
                setattr(twin.model.get_submodule(parent), child, nn.Sequential(layer, nn.ReLU()))

        return Change(f"a ReLU after {', '.join(names)}", apply)

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        settled = paired_trial(lab, self.cure(lab, suspicion))
        return settled if settled.proven else paired_on_several(lab, self.cure(lab, suspicion))

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text=f"Put an activation between {suspicion.where[0]}, or make the two layers one.",
            code="x = F.relu(self.first(x))\nx = self.second(x)",
        )
