"""The optimizer holds exactly the parameters that should train.

## What it does
Compares, by identity, the tensors that the optimizer steps with the parameters of the model, and lists those that are
missing, those that belong to no part of the model any more, and those that are frozen (`requires_grad=False` or a
learning rate of zero), apart from a freeze that was declared by `learn.freeze()` or `freeze_to`.

## Why it matters
A head that was replaced after the optimizer was built gets gradients and never moves; nothing reports it.

## How it is judged
Fails if a trainable parameter is in no parameter group. Frozen parameters are counted and named, not judged: freezing
is a choice. The comparison is exact, there is no threshold.

## What to do
`learn.create_opt()` after changing the model, or pass every part through the splitter.

## Source
fastai `Optimizer` keeps references to the tensors it was built with (fastai.optimizer); the notes' checklist, item 2.
"""

import math

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._numbers import number, texts
from diagnose.isolate import declared_frozen, held_parameters
from diagnose.lab import Lab


class OptimizerHoldsParameters(Check):
    """Compares the optimizer's tensors with the model's, by identity."""

    stage = "inspection"
    order = 10
    cost = "no pass"

    def measure(self, lab: Lab) -> EvidenceList:
        copy = lab.twin()
        held = {id(p): group for group, p in held_parameters(copy)}
        named = dict(copy.model.named_parameters())
        own = set(map(id, named.values()))
        declared = declared_frozen(copy)
        trainable = [n for n, p in named.items() if p.requires_grad]
        missing = [n for n in trainable if id(named[n]) not in held]
        frozen = [n for n, p in named.items() if not p.requires_grad and id(p) not in declared]
        intended = [n for n, p in named.items() if not p.requires_grad and id(p) in declared]
        still = [i for i, hypers in enumerate(copy.opt.hypers) if not hypers.get("lr")]
        return EvidenceList(
            [
                Evidence(name="parameter tensors", value=len(named)),
                Evidence(name="trainable", value=len(trainable), expected=f"of {len(named)}"),
                Evidence(name="missing from the optimizer", value=missing, expected="none"),
                Evidence(name="held but not in the model", value=len(held.keys() - own), expected="0"),
                Evidence(name="frozen", value=frozen),
                Evidence(name="frozen as declared", value=intended),
                Evidence(name="parameter groups", value=len(copy.opt.hypers)),
                Evidence(name="groups with learning rate 0", value=still, expected="none"),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        measured = number(evidence, "trainable"), number(evidence, "parameter tensors")
        if not all(map(math.isfinite, measured)):
            return Judgement("skip", "not measured")
        trainable, total = map(int, measured)
        missing, frozen = texts(evidence, "missing from the optimizer"), texts(evidence, "frozen")
        if missing:
            return Judgement(
                "fail", f"{len(missing)} of {trainable} trainable tensors are in no parameter group: {listed(missing)}"
            )
        note = f"; {len(frozen)} frozen without learn.freeze(): {listed(frozen)}" if frozen else ""
        intended = texts(evidence, "frozen as declared")
        note += f"; {len(intended)} frozen as declared" if intended else ""
        return Judgement("pass", f"holds all {trainable} trainable of {total} parameter tensors{note}")
