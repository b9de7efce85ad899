"""With drop-out off, no more is learned.

## What it does
Sets every drop-out of a copy to 0, those inside recurrent and attention modules included, and learns the fixed batch as
it is and so.

## Why it matters
Heavy drop-out on few rows hides whether anything is learned: the notes' own head did far worse than a linear layer.

## How it is judged
Warns if less than 0.8 of the batch is learned as it is, and 0.3 more without drop-out. It only locates a fault, and
never fails.

## What to do
Lower the rates until one batch is learned; raise them again when the validation loss asks for it.

## Source
Karpathy 2019, "A Recipe for Training Neural Networks" (add regularisation last); real failure F28 of the notes.
"""

from fastai.learner import Learner

from diagnose.changes import Change
from diagnose.checks._comparison import ComparedTrial
from diagnose.checks._probing import dropout_off, dropout_rates
from diagnose.errors import NotApplicable
from diagnose.lab import Lab


class WithoutDropout(ComparedTrial):
    """Every drop-out rate at 0."""

    order = 71

    def change(self, lab: Lab) -> Change:
        rates = dropout_rates(lab.learn.model)
        if not rates:
            raise NotApplicable("the model has no drop-out above 0")

        def apply(twin: Learner) -> None:
            dropout_off(twin.model)

        highest = max(rate for _, _, rate in rates)
        return Change(f"drop-out off, in {len(rates)} places of up to {highest:g}", apply)
