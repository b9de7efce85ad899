"""The items that reach the model are blank, identical, or carry almost no variation.

## What it is
A wrong path or index, a crop outside the picture, a cast to integers that rounds everything to zero, an offset beside
which the differences vanish.

## Why it stops learning
Equal inputs have equal outputs: the best that can be learned is a constant.

## How it is found
Items are compared bit for bit, and the variance between them with the variance inside them: below 1e-6 is less than
float32 carries through a few layers. Or more than half of the items are blank.

## How it is proven
All items the same bits under several labels: by that inspection. Items that hardly differ: the same trial with each
value standardised over the rows of the batch is learned, and as it is not. Blank items are told and not proven.

## How to fix
    dls.show_batch()                             # look at a few
    assert not torch.equal(ds[0][0], ds[1][0])

## What it looks like but is not
One picture trained on alone (a deep image prior) has one target too. Empty tiles are common in scans and maps. A common
offset that a first layer subtracts.

## Source
Karpathy 2019, "A Recipe for Training Neural Networks" (visualise what goes into the net); the notes' checklist, item 4.
"""

import torch
from fastai.learner import Learner
from torch import Tensor, nn

from diagnose.causes import Cause, Findings, Settled, Suspicion, inspected, paired_trial
from diagnose.causes._reading import number, text
from diagnose.changes import Change
from diagnose.checks.items_vary import LEAST, MOST_BLANK
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import replaced, tensors

CHECK, SPLIT = "items-vary", "training"


class InputsConstant(Cause):
    """Suspected when training items are the same, nearly the same, or blank."""

    settled_by = "inspection"
    explains = ("lr-too-high", "lr-too-low", "inputs-not-normalised", "init-constant", "params-frozen")
    questions = (4,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        read, distinct, blank = (
            number(findings, CHECK, n, SPLIT) for n in ("items read", "distinct items", "blank items")
        )
        ratio = number(findings, CHECK, "variance between items / inside items", SPLIT)
        labels = number(findings, "label-histogram", "distinct labels", SPLIT)
        if distinct == 1 and read > 1 and labels > 1:
            reason = f"all {read:.0f} training items that were read are the same bits, under {labels:.0f} labels"
            return Suspicion(1.0, reason, ["inputs"], {"kind": "same", "read": read, "labels": labels})
        if labels == 1:  # one item and one target: what is meant is to fit it
            return None
        if 0 <= ratio < LEAST and read > 1:
            reason = f"the variance between training items is {ratio:.2g} of that inside them (at least {LEAST:g})"
            return Suspicion(0.9, reason, ["inputs"], {"kind": "alike"})
        if read > 1 and MOST_BLANK * read < blank <= read:
            first = text(findings, CHECK, "first blank item", SPLIT)
            return Suspicion(
                0.5, f"{blank:.0f} of {read:.0f} training items are blank", [first] if first else [], {"kind": "blank"}
            )
        return None

    def cure(self, lab: Lab, suspicion: Suspicion) -> Change:
        if suspicion.facts["kind"] == "blank":
            raise NotApplicable("blank items have nothing that a change could bring out")
        values = [t.detach() for t in tensors(lab.xb)]
        if not all(t.is_floating_point() and t.ndim > 1 for t in values):
            raise NotApplicable("the inputs hold no floating-point numbers")

        def apply(twin: Learner) -> None:
            twin.model = _Apart(twin.model, [t.double().mean(0) for t in values], [t.double().std(0) for t in values])

        return Change(
            "each input value standardised over the rows", apply, "x = (x - x_train.mean(0)) / x_train.std(0)"
        )

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        facts = suspicion.facts
        if facts["kind"] != "same":
            return paired_trial(lab, self.cure(lab, suspicion))
        proof = inspected(
            "items compared bit for bit",
            f"{facts['read']:.0f} items, one distinct, {facts['labels']:.0f} labels",
            "items with different labels differ",
            {"items read": facts["read"], "distinct items": 1},
            **{"distinct items": facts["read"]},
        )
        return Settled(True, False, proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Look at a few items, and at the code that reads them: path, index, crop, cast, and scaling.",
            code="learn.dls.show_batch()\nds = learn.dls.train_ds\nprint((ds[0][0] - ds[1][0]).abs().max())",
        )


class _Apart(nn.Module):
    def __init__(self, model: nn.Module, means: list[Tensor], stds: list[Tensor]):
        super().__init__()
        self.model, self.means, self.stds = model, means, stds

    def forward(self, *inputs: Tensor) -> Tensor:
        new = [
            ((x.double() - m) / torch.where(s > 0, s, torch.ones_like(s))).to(x.dtype)
            for x, m, s in zip(tensors(inputs), self.means, self.stds)
        ]
        return self.model(*replaced(inputs, new))
