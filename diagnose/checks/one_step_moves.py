"""One optimizer step moves what trains, and nothing that is frozen.

## What it does
Trains a copy for one step and compares every parameter and buffer bit by bit with what it was: trainable tensors that
have a gradient must move, frozen ones must not, and neither must the buffers of frozen modules, such as the running
statistics of a norm layer. Also finds modules on which someone set `requires_grad = False`, which sets an attribute
and freezes nothing.

## Why it matters
A freeze that does not freeze spoils the pre-trained weights that it was meant to keep; a frozen norm layer in training
mode goes on adapting its statistics, so that the frozen encoder is another one after every step.

## How it is judged
Warns if anything frozen moves, if a trainable tensor with a gradient (at least 1e-4 of the whole) does not, or if
`module.requires_grad` is False while its parameters train. Norm layers whose own parameters train, as fastai leaves
them in a frozen body, may move.

## What to do
`module.requires_grad_(False)` freezes parameters; `module.eval()` in every step, or fastai's BnFreeze, its statistics.

## Source
Real failure F18 of the notes: `net[0].requires_grad = False` left 4 of 4 parameters trainable; running means drifted.
"""

import math

from torch import nn

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed, stated
from diagnose.checks._numbers import number, texts
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import same_bits, total_norm

COUNTS = 1e-4  # of the whole gradient: a smaller one, such as that of a bias before a norm layer, is rounding


class OneStepMoves(Check):
    """One step, then every tensor bit by bit."""

    stage = "probe"
    order = 45
    cost = "1 step, up to 16 where gradients are accumulated"

    def measure(self, lab: Lab) -> EvidenceList:
        for steps in (1, 16):
            trial = lab.trial(steps=steps, scale=lab.scale, stop_at=math.inf)
            if trial.steps:
                break
        else:
            raise NotApplicable("16 batches make no optimizer step")
        before, after = lab.learn.model, trial.learner.model
        norms = {n: 0.0 if g is None else total_norm([g]) for n, g in lab.gradients.of.items()}
        least = COUNTS * math.sqrt(sum(v * v for v in norms.values() if math.isfinite(v)))
        old, new = dict(before.named_parameters()), dict(after.named_parameters())
        moved = {n for n in old if n in new and not same_bits(old[n], new[n])}
        trainable = [n for n, p in old.items() if p.requires_grad]
        still = [n for n in trainable if norms.get(n, 0.0) > least and n not in moved]
        frozen = [n for n, p in old.items() if not p.requires_grad]
        drift = _drift(before, after)
        return EvidenceList(
            [
                Evidence(name="optimizer steps", value=trial.steps, unit="steps"),
                Evidence(name="trainable", value=len(trainable), expected=f"of {len(old)} parameter tensors"),
                Evidence(name="trainable that moved", value=len(moved.intersection(trainable))),
                Evidence(name="trainable with a gradient that did not move", value=still, expected="none"),
                Evidence(name="frozen", value=len(frozen)),
                Evidence(name="frozen that moved", value=[n for n in frozen if n in moved], expected="none"),
                Evidence(name="buffers of frozen modules that moved", value=list(drift), expected="none"),
                Evidence(
                    name="largest drift", value=max(drift.values(), default=0.0), unit="largest change of a value"
                ),
                Evidence(name="requires_grad set on a module", value=_without_effect(before), expected="none"),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        if evidence.get("trainable that moved") is None:
            return Judgement("skip", "not measured")
        trainable, frozen = number(evidence, "trainable"), number(evidence, "frozen")
        moved = number(evidence, "trainable that moved")
        if named := texts(evidence, "requires_grad set on a module"):
            return Judgement(
                "warn",
                f"`requires_grad = False` on {listed(named)} sets an attribute and freezes nothing: "
                f"{stated(trainable)} parameter tensors train",
            )
        if named := texts(evidence, "frozen that moved"):
            return Judgement(
                "warn", f"{len(named)} of {stated(frozen)} frozen tensors moved in one step: {listed(named)}"
            )
        if named := texts(evidence, "trainable with a gradient that did not move"):
            told = f"{len(named)} of {stated(trainable)} trainable tensors have a gradient and did not move"
            return Judgement("warn", f"{told}: {listed(named)}")
        if named := texts(evidence, "buffers of frozen modules that moved"):
            drift = stated(number(evidence, "largest drift"), 2)
            return Judgement("warn", f"{len(named)} buffers of frozen modules moved by up to {drift}: {listed(named)}")
        if not moved >= 1:
            return Judgement("warn", f"{stated(moved)} of {stated(trainable)} trainable tensors moved in one step")
        note = f", none of {stated(frozen)} frozen ones did" if frozen else ""
        return Judgement("pass", f"{stated(moved)} of {stated(trainable)} trainable tensors moved in one step{note}")


def _drift(before: nn.Module, after: nn.Module) -> dict[str, float]:
    "How far the buffers moved of modules that have parameters, all of them frozen; counters are not meant."
    moved, others = {}, dict(after.named_modules())
    for name, module in before.named_modules():
        own = list(module.parameters(recurse=False))
        if not own or any(p.requires_grad for p in own) or name not in others:
            continue
        now = dict(others[name].named_buffers(recurse=False))
        for key, buffer in module.named_buffers(recurse=False):
            if buffer.is_floating_point() and key in now and not same_bits(buffer, now[key]):
                moved[f"{name}.{key}" if name else key] = float((now[key].float() - buffer.float()).abs().max())
    return moved


def _without_effect(model: nn.Module) -> list[str]:
    "Modules with an attribute `requires_grad` that is False, over parameters that train."
    return [
        name or type(module).__name__
        for name, module in model.named_modules()
        if vars(module).get("requires_grad", True) is False and any(p.requires_grad for p in module.parameters())
    ]
