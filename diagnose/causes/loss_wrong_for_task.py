"""The loss does not fit the kind of target.

## What it is
Binary cross-entropy on class indices, a regression loss on classes, a softmax over labels of which several are true.

## Why it stops learning
Binary cross-entropy against class 7 is lowered without end by a larger output: "massive negative loss". A squared
error against indices calls class 3 half-way between 1 and 5, where it does not raise at once.

## How it is found
The loss has no lower bound for the targets as they are, and has one for the same targets in [0, 1]. Or it raised on
class indices, and accepts them one-hot. Or it has a softmax inside, and targets add up to different numbers in
different rows.

## How it is proven
The same trial with the loss that fits the targets, and as many outputs as there are classes: learned, and as it is
not. A softmax over several labels is told and not proven: it ranks labels rightly, and cannot say that none is true.

## How to fix
    learn.loss_func = CrossEntropyLossFlat()     # class indices, one output for each class
    learn.loss_func = BCEWithLogitsLossFlat()    # several labels in a row, as floats of 0 and 1

## What it looks like but is not
Class indices that are a rank (stars, ages) under a squared error: learned, and left alone. Targets on the unit
interval that are no flags under binary cross-entropy have a lower bound.

## Source
Real failure F11 of the notes (a loss of -6918 after 50 steps); the notes' checklist, item 1.
"""

import torch
from fastai.learner import Learner
from torch import Tensor, nn
from torch.nn import functional as F

from diagnose.causes import Cause, Findings, Settled, Suspicion
from diagnose.causes._reading import number, places, text, texts, truth
from diagnose.causes._rescued import paired_or_rescued
from diagnose.changes import Change
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import tensors

CHECK = "loss-fits-targets"
FITTING = {
    "classes": ("CrossEntropyLossFlat", "cross-entropy, one output for each class"),
    "numbers": ("MSELossFlat", "squared error"),
    "labels": ("BCEWithLogitsLossFlat", "binary cross-entropy with logits, label by label"),
}


class LossWrongForTask(Cause):
    """Suspected when the loss has no bound for these targets, refuses them, or takes one of several labels for all."""

    explains = ("lr-too-high", "lr-too-low", "init-constant", "loss-target-shape-broadcast")
    questions = (1,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        low, high = number(findings, CHECK, "least target"), number(findings, CHECK, "largest target")
        if truth(findings, CHECK, "falls without end") and truth(findings, CHECK, "bounded for targets in [0, 1]"):
            reason = (
                f"targets go from {low:.3g} to {high:.3g}: the loss has no lower bound for them, and one for [0, 1]"
            )
            return Suspicion(1.0, reason, ["the loss"], {"kind": "", "raised": ""})
        raised = text(findings, CHECK, "loss raised")
        indices = bool(places(findings, CHECK, "outputs")) and high >= 1
        accepted = texts(findings, CHECK, "accepts the targets")
        if raised and indices and any(a.startswith("one-hot") for a in accepted):
            reason = f"the loss raised {raised}: it takes class indices one-hot only"
            return Suspicion(0.9, reason, ["the loss"], {"kind": "classes", "raised": raised})
        least, most = (number(findings, CHECK, f"{n} sum of a target") for n in ("least", "largest"))
        if truth(findings, CHECK, "softmax inside the loss") and most > 1.001 and least != most:
            reason = f"a softmax inside the loss, and targets that add up to {least:.3g} to {most:.3g} in a row"
            return Suspicion(0.4, reason, ["the loss"], {"kind": "labels", "raised": ""})
        return None

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        kind = suspicion.facts["kind"] or _kind(lab)
        if kind == "labels":
            raise NotApplicable("a softmax ranks the labels rightly: on one batch there is nothing to tell apart")
        y = torch.cat([t.flatten() for t in tensors(lab.yb)])
        classes = int(y.max()) + 1

        def apply(twin: Learner) -> None:
            if kind == "classes":
                _widen(twin, lab, classes)
            twin.loss_func = _Fitted(kind)

        return Change(FITTING[kind][1], apply, f"learn.loss_func = {FITTING[kind][0]}()")

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        return paired_or_rescued(lab, self.cure(lab, suspicion), suspicion.facts["raised"])

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        name, words = FITTING[suspicion.facts["kind"] or _kind(lab)]
        return Fix(
            text=f"Use the loss that fits the targets: {words}.",
            code=f"from fastai.losses import {name}\nlearn.loss_func = {name}()",
        )


def _kind(lab: Lab) -> str:
    y = torch.cat([t.detach().float().flatten() for t in tensors(lab.yb)])
    return "classes" if bool((y == y.round()).all() and (y >= 0).all()) else "numbers"


def _widen(twin: Learner, lab: Lab, classes: int) -> None:
    "A fresh last linear layer with an output for each class, where the model has fewer."
    out = lab.output
    if not isinstance(out, Tensor) or out.ndim != 2:
        raise NotApplicable("it takes one output of two dimensions")
    if out.shape[1] >= classes:
        return
    called: list[str] = []
    names = {m: n for n, m in twin.model.named_modules()}
    hooks = [
        m.register_forward_hook(lambda m, i, o: called.append(names[m])) for m in names if isinstance(m, nn.Linear)
    ]
    try:
        lab.forward(twin.model)
    finally:
        for h in hooks:
            h.remove()
    if not called or twin.model.get_submodule(called[-1]).out_features != out.shape[1]:
        raise NotApplicable("the model does not end in a linear layer that could be given an output for each class")
    parent, _, name = called[-1].rpartition(".")
    old = twin.model.get_submodule(called[-1])
    fresh = nn.Linear(old.in_features, classes).to(old.weight)
    if called[-1]:
        setattr(twin.model.get_submodule(parent), name, fresh)
    else:
        twin.model = fresh
    twin.opt = None


class _Fitted(nn.Module):
    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        if self.kind == "classes":
            return F.cross_entropy(pred, target.reshape(len(pred)).long())
        return F.mse_loss(pred, target.reshape(pred.shape).to(pred.dtype))
