"""The comparison or classification head cannot express the task from the encoder's features.

## What it is
A cosine or a dot product without a scale, whose scores stay within -1 and 1; a head of one number before ten classes.

## Why it stops learning
The features may hold everything: the head can't say it. A softmax of scores within -1 and 1 never gives more than 0.45
to one of ten classes.

## How it is found
Whatever the features, the last layer cannot give what the loss asks for: with features and layer free, less than 0.8
of the batch is within reach (the check `head-floor`). Or, as the last resort among the causes: the batch is not
learned, its features are apart (the check `feature-collapse`), and the last layer alone, on frozen features, does no
better (the check `head-only`).

## How it is proven
A head of two layers and a ReLU on the same features: the same batch is learned in as many steps. As it is it is not,
nor with the same head drawn anew, which is not tried where no features help.

## How to fix
    head = nn.Sequential(nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, classes))
    # a cosine: multiply it by a scale of 10 or more, or a learned one

## What it looks like but is not
A linear head on good features is enough, and learns its batch. Where the head is only badly drawn, the same head drawn
anew learns, and this cause is not proven.

## Source
Wang et al. 2017, "NormFace" (a softmax of cosines needs a scale); the notes' checklist, items 2 and 17.
"""

import torch
from fastai.learner import Learner
from torch import nn

from diagnose.causes import Cause, Findings, Settled, Suspicion, paired_trial
from diagnose.causes._pairs import paired_with_control
from diagnose.causes._reading import number, text
from diagnose.changes import Change, fresh_optimizer
from diagnose.checks import amount
from diagnose.checks.head_floor import last_layer
from diagnose.diagnosis import Fix
from diagnose.lab import Lab
from diagnose.trial import LEARNED

WIDTH = 128
APART = 0.01  # of their size: features of healthy subjects start at 0.04 or more


class HeadTooWeak(Cause):
    """Suspected when no features would do, or neither the whole nor its last layer learns."""

    explains = ("lr-too-high", "lr-too-low")
    questions = (2, 17)

    def suspect(self, findings: Findings) -> Suspicion | None:
        reach = number(findings, "head-floor", "within reach")
        if reach < LEARNED:
            name = text(findings, "head-floor", "last layer")
            reason = f"with any features at all, {name} can learn {amount(reach)} of the batch"
            return Suspicion(0.9, reason, [name], {"bounded": True})
        whole, alone = (number(findings, "head-only", "learned", w) for w in ("as it is", "changed"))
        apart = number(findings, "feature-collapse", "spread over rows", "eval")
        if not (whole < LEARNED and alone < LEARNED and apart >= APART):
            return None
        reason = f"features are apart by {apart:.2g} of their size, {max(whole, 0.0):.0%} of the batch is learned"
        return Suspicion(0.3, reason, ["the last layer"])

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        name, given, out, _ = last_layer(lab, lab.twin().model)
        features, outputs = given.shape[1], out.shape[1]

        def apply(twin: Learner) -> None:
            like = next(twin.model.parameters())
            head = nn.Sequential(nn.Linear(features, WIDTH), nn.ReLU(), nn.Linear(WIDTH, outputs))
            _put(twin.model, name, head.to(like.device, like.dtype))
            fresh_optimizer().apply(twin)

        return Change(f"a head of two layers in place of {name}", apply)

    def _anew(self, lab: Lab) -> Change:
        name = last_layer(lab, lab.twin().model)[0]

        def apply(twin: Learner) -> None:
            for p in twin.model.get_submodule(name).parameters():
                with torch.no_grad():
                    nn.init.kaiming_normal_(p) if p.ndim > 1 else p.zero_()
            fresh_optimizer().apply(twin)

        return Change(f"{name} drawn anew", apply)

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        if suspicion.facts.get("bounded"):
            return paired_trial(lab, self.cure(lab, suspicion))  # drawn anew the head has the same bound
        return paired_with_control(
            lab, self.cure(lab, suspicion), self._anew(lab), "learned with the same head drawn anew"
        )

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Use a head of two layers, or give a cosine head a scale of 10 or more.",
            code="head = nn.Sequential(nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, classes))",
        )


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
