"""The last part alone, on frozen features, tells where learning stops.

## What it does
Freezes a copy up to its last layer with weights and learns the fixed batch with that layer alone, and with everything,
as it is.

## Why it matters
If a head on frozen features learns what the whole net does not, the fault is in how the encoder is trained: its
learning rate, its depth, its norm layers. If neither does, the features may carry nothing.

## How it is judged
Warns if less than 0.8 of the batch is learned as it is, and 0.3 more with the last layer alone. Where as much or less
is learned it passes: a head on random features need not learn anything. It never fails.

## What to do
Where the head alone does better: a lower rate for the encoder (`lr=slice(1e-5, 1e-3)`), or `learn.freeze()` first.

## Source
Alain & Bengio 2016, "Understanding intermediate layers using linear classifier probes"; the notes, 9/4 and 9/6.
"""

from fastai.learner import Learner
from torch import Tensor, nn

from diagnose.changes import Change
from diagnose.checks._comparison import ComparedTrial
from diagnose.checks._probing import hooked, leaves
from diagnose.errors import NotApplicable
from diagnose.lab import Lab


class HeadOnly(ComparedTrial):
    """Only the last layer with weights trains."""

    order = 73

    def change(self, lab: Lab) -> Change:
        model = lab.twin().model
        names = {
            m: n
            for m, n in leaves(model).items()
            if any(p.ndim > 1 and p.requires_grad for p in m.parameters(recurse=False))
        }
        ran: list[str] = []
        with hooked(names, lambda module, inputs, output: ran.append(names[module])):
            lab.forward(model)
        if len(set(ran)) < 2:
            raise NotApplicable("fewer than two trainable layers ran: there is no encoder to freeze")
        last = ran[-1]

        def apply(twin: Learner) -> None:
            head = {id(p) for p in twin.model.get_submodule(last).parameters()}
            twin.opt = None
            twin.splitter = _trainable
            for p in twin.model.parameters():
                p.requires_grad_(id(p) in head)
            twin.create_opt()

        return Change(f"only {last} trains", apply)


def _trainable(model: nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.requires_grad]
