"""Every class index has an output.

## What it does
Compares the class indices of up to 192 items of each split with the number of outputs. Whether the loss takes class
indices is measured on the CPU: such a loss refuses the index one past the last output.

## Why it matters
One label beyond the last output stops a GPU run with "device-side assert triggered", in the middle of an epoch and with
no hint of the item; a negative one may be ignored without a word.

## How it is judged
Fails on a label below 0 or beyond the last output, the loss's own `ignore_index` excepted. Outputs without a label
among the items read are said: rare classes look so.

## What to do
Give the head one output a class: `dls.c`; number the classes from 0.

## Source
fastai#1835 and fastai#2428 (device-side assertions); real failure F10 of the notes.
"""

import copy

import torch
from torch import Tensor, nn

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._numbers import everywhere, number
from diagnose.data import Item, halves, splits_of
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import same_bits, tensors

IGNORED = -100  # PyTorch's default ignore_index
SHOWN = 20


class LabelRange(Check):
    """Compares class indices with the number of outputs."""

    stage = "probe"
    order = 7
    cost = "1 forward pass (shared), the loss twice"

    def measure(self, lab: Lab) -> EvidenceList:
        output, targets = lab.output, tensors(lab.yb)
        if not isinstance(output, Tensor) or not output.is_floating_point() or output.ndim < 2 or len(targets) != 1:
            raise NotApplicable("it takes one target and one output with a dimension of classes")
        if targets[0].is_floating_point() or targets[0].dtype == torch.bool:
            raise NotApplicable("the target is no class index")
        as_read = halves(lab.learn, lab.batch)[1]
        if len(as_read) != 1 or not same_bits(as_read[0], targets[0].as_subclass(Tensor)):
            raise NotApplicable("a callback changes the targets before the loss sees them")
        outputs = _classes(lab, output, targets[0])
        splits = [s for s in splits_of(lab) if s.items and any(i.targets for i in s.items)]
        if outputs is None or not splits:
            raise NotApplicable("the loss takes no class indices")
        ignored = _ignored(lab)
        found = EvidenceList([Evidence(name="outputs", value=outputs)])
        for split in splits:
            seen, beyond = set(), []
            for item in split.items:
                labels = _labels(item) - ignored
                seen |= labels
                beyond += [f"{item.place}: {v}" for v in sorted(labels) if not 0 <= v < outputs]
            where = split.name
            found += [
                Evidence(name="items read", value=len(split.items), where=where),
                Evidence(name="least label", value=min(seen, default=0), where=where, expected=">= 0"),
                Evidence(name="largest label", value=max(seen, default=0), where=where, expected=f"< {outputs}"),
                Evidence(name="distinct labels", value=len(seen), where=where),
                Evidence(name="labels out of range", value=beyond[:SHOWN], where=where, expected="none"),
            ]
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        outputs = number(evidence, "outputs")
        read = [e.where for e in evidence.all("items read")]
        if beyond := everywhere(evidence, "labels out of range"):
            return Judgement("fail", f"{len(beyond)} labels have no output among {outputs:.0f}: {listed(beyond)}")
        said = []
        for where in read:
            least, most = number(evidence, "least label", where), number(evidence, "largest label", where)
            if not (least >= 0 and most < outputs):
                return Judgement("fail", f"{where} labels go from {least:.0f} to {most:.0f} with {outputs:.0f} outputs")
            seen = number(evidence, "distinct labels", where)
            said.append(f"{where} labels go from {least:.0f} to {most:.0f}, {seen:.0f} of {outputs:.0f} outputs in use")
        return Judgement("pass", "; ".join(said)) if said else Judgement("skip", "not measured")


def _labels(item: Item) -> set[int]:
    return {int(v) for t in item.targets if not t.is_floating_point() for v in t.unique()}


def _ignored(lab: Lab) -> set[int]:
    loss = lab.learn.loss_func
    held = [getattr(f, "ignore_index", None) for f in (loss, getattr(loss, "func", None))]
    return {v for v in held if isinstance(v, int)} or {IGNORED}


def _classes(lab: Lab, output: Tensor, target: Tensor) -> int | None:
    "Outputs a class index may name, if the loss refuses the next one and takes 0; None otherwise."
    loss = lab.twin().loss_func
    if isinstance(loss, nn.Module):
        loss = copy.deepcopy(loss).cpu()
    if isinstance(inner := getattr(loss, "func", None), nn.Module):
        inner.cpu()
    output = output.detach().cpu().as_subclass(Tensor)
    zero = torch.zeros_like(target.detach().cpu().as_subclass(Tensor))
    for classes in dict.fromkeys((output.shape[1], output.shape[-1])):
        try:
            loss(output, zero)
        except Exception:  # a loss of another kind, or one that works on its own device only
            return None
        try:
            loss(output, zero + classes)
        except (IndexError, RuntimeError):
            return classes
        except Exception:
            return None
    return None
