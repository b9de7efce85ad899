"""The loss expects probabilities or log-probabilities and gets raw scores.

## What it is
`NLLLoss` without a log-softmax, `BCELoss` without a sigmoid, a hand-written `-log(p)` on scores.

## Why it stops learning
`NLLLoss` of raw scores has no lower bound: it falls for ever while the scores grow, and says nothing about which is
the largest. `BCELoss` refuses scores outside [0, 1]; on a GPU that is a "device-side assert". A logarithm of a
negative score is NaN.

## How it is found
The loss falls without end for free outputs and has a bound for log-softmaxed ones; or it raised because outputs are
not between 0 and 1; or the first loss is not a number although every input is.

## How it is proven
The same trial with the activation that the loss expects put behind the model: learned, and as it is not.

## How to fix
    learn.loss_func = CrossEntropyLossFlat()     # in place of NLLLoss: it has its own log-softmax
    learn.loss_func = BCEWithLogitsLossFlat()    # in place of BCELoss

## What it looks like but is not
A likelihood with a learned variance falls without end as well, and no activation gives it a bound.

## Source
PyTorch's documentation of NLLLoss and BCELoss; the notes' checklist, item 3.
"""

import math
from functools import partial

import torch
from fastai.learner import Learner

from diagnose.causes import Cause, Findings, Settled, Suspicion
from diagnose.causes._reading import number, places, text, texts, truth
from diagnose.causes._rescued import paired_or_rescued
from diagnose.changes import Appended, Change
from diagnose.diagnosis import Fix
from diagnose.lab import Lab

CHECK = "loss-fits-targets"
REFUSED = "between 0 and 1"  # PyTorch's words for a binary cross-entropy of scores
INSTEAD = {"log_softmax": "CrossEntropyLossFlat", "softmax": "CrossEntropyLossFlat", "sigmoid": "BCEWithLogitsLossFlat"}


class LossMissingActivation(Cause):
    """Suspected when a loss has no bound, refuses scores, or is NaN, and an activation would mend that."""

    explains = ("lr-too-high", "lr-too-low", "init-constant", "params-frozen")
    questions = (3,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        axis = next(iter(places(findings, CHECK, "outputs")), "")
        axis = int(axis[5:]) if axis.removeprefix("axis ").isdigit() else 1
        classes = bool(places(findings, CHECK, "outputs"))
        raised, value = text(findings, CHECK, "loss raised"), findings.value(CHECK, "loss")
        if truth(findings, CHECK, "falls without end") and truth(findings, CHECK, "bounded for log-softmaxed outputs"):
            reason = "the loss has no lower bound for free outputs, and one for log-softmaxed ones"
            return Suspicion(1.0, reason, ["the loss"], {"kind": "log_softmax", "axis": axis})
        if REFUSED in raised:
            facts = {"kind": "sigmoid", "axis": axis, "raised": raised}
            return Suspicion(1.0, f"the loss raised {raised}", ["the loss"], facts)
        refuses = isinstance(value, float) and truth(findings, CHECK, "follows the outputs") is None
        if refuses and findings.value(CHECK, "last activations") == [] and not classes:
            reason = "nothing confines the outputs, and the loss refuses random numbers in their place"
            return Suspicion(0.6, reason, ["the loss"], {"kind": "sigmoid", "axis": axis})
        finite = not texts(findings, "items-finite", "NaN in inputs", "training")
        if (
            isinstance(value, float)
            and math.isnan(value)
            and finite
            and math.isfinite(number(findings, CHECK, "largest target"))
        ):
            kind = "softmax" if classes else "sigmoid"
            reason = f"the first loss is {value} on finite inputs and targets, as a logarithm of raw scores is"
            return Suspicion(0.7, reason, ["the loss"], {"kind": kind, "axis": axis})
        return None

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        kind, axis = suspicion.facts["kind"], suspicion.facts["axis"]
        then = torch.sigmoid if kind == "sigmoid" else partial(getattr(torch, kind), dim=axis)

        def apply(twin: Learner) -> None:
            twin.model = Appended(twin.model, then)

        return Change(f"{kind} behind the model", apply, f"output = torch.{kind}(output)")

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        return paired_or_rescued(lab, self.cure(lab, suspicion), suspicion.facts.get("raised", ""))

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        kind = suspicion.facts["kind"]
        return Fix(
            text=f"Use the loss that applies its own {kind.replace('_', '-')}: it is the more exact one, too.",
            code=f"from fastai.losses import {INSTEAD[kind]}\nlearn.loss_func = {INSTEAD[kind]}()",
        )
