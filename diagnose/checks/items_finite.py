"""Every item can be read, and holds neither NaN nor infinity.

## What it does
Reads up to 192 items of each split, spread over the data set, collated as the loader would. Items that raise are named
with index, file and error. If an input holds NaN, one NaN is put into the fixed batch to see whether the model copes.

## Why it matters
One NaN in one batch turns every weight into NaN at the next step; one damaged file ends a run in the middle of the
night.

## How it is judged
Fails on an item that raises, on NaN or infinity in an input, and on a single-valued target that is not finite. NaN
passes where the model's output stays finite in spite of it, or where many items hold it and no batch does (the batch
transforms fill it). Infinity passes in an attention mask, whose other values are all alike; NaN passes among the
several values of one target, as a mark for missing labels. There is no threshold: one is too many.

## What to do
Open the named file; impute or drop the named column (`FillMissing` in fastai's tabular processing).

## Source
fastai#1551 and #3048 (NaN without a hint where it came from); real failure F13, where unreadable images were found one
crash at a time.
"""

import torch
from torch import Tensor

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed, stated
from diagnose.checks._numbers import by_place, everywhere, number
from diagnose.data import Item, Split, batches_of, splits_of
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import floats, replaced, tensors

SURELY = 5  # rows with NaN expected in the batches read, from which their absence means that NaN was filled
STOPPED = "reading broken off after"
SHOWN = 20  # places that go into the evidence


class ItemsFinite(Check):
    """Reads items of both splits and looks for what is not finite."""

    stage = "inspection"
    order = 40
    cost = "up to 192 items of each split; 1 forward pass if one holds NaN"

    def measure(self, lab: Lab) -> EvidenceList:
        splits = [s for s in splits_of(lab) if s.items or s.unreadable]
        if not splits:
            raise NotApplicable("no item could be read by its index, and batches have no row for each item")
        found = EvidenceList()
        for split in splits:
            nan = [f"{i.place}, {p.place}, {p.bad}" for i in split.items for p in i.inputs if p.nans]
            inf = [
                f"{i.place}, {p.place}, {p.bad}"
                for i in split.items
                for p in i.inputs
                if p.infinities and not p.nans and p.least != p.largest
            ]
            wrong = [f"{i.place}, target {float(t)}" for i in split.items for t in i.targets if _single(t)]
            some = [i.place for i in split.items if any(_missing(t) for t in i.targets)]
            where = split.name
            unreadable = [
                f"item {i}{f' ({file})' if file else ''}: {error[:200]}" for i, file, error in split.unreadable
            ]
            found += [
                Evidence(name="items read", value=len(split.items), unit="items", where=where),
                *_stopped(split),
                Evidence(name="unreadable", value=unreadable[:SHOWN], where=where, expected="none"),
                Evidence(name="NaN in inputs", value=nan[:SHOWN], where=where, expected="none"),
                Evidence(name="infinity in inputs", value=inf[:SHOWN], where=where, expected="none"),
                Evidence(name="target not finite", value=wrong[:SHOWN], where=where, expected="none"),
                Evidence(name="items with a missing label", value=len(some), unit="items", where=where),
            ]
        if everywhere(found, "NaN in inputs"):
            found.append(Evidence(name="NaN filled before the model", value=all(_filled(lab, s) for s in splits)))
            found.append(Evidence(name="output finite with NaN in the input", value=_copes(lab)))
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        read = sum(v for e in evidence.all("items read") if (v := number(EvidenceList([e]), "items read")) > 0)
        if broken := everywhere(evidence, "unreadable"):
            return Judgement("fail", f"{len(broken)} of {read + len(broken):.0f} items cannot be read: {broken[0]}")
        nan, inf = everywhere(evidence, "NaN in inputs"), everywhere(evidence, "infinity in inputs")
        copes = any(
            evidence.get(n) is True for n in ("NaN filled before the model", "output finite with NaN in the input")
        )
        if nan and not copes:
            return Judgement("fail", f"{len(nan)} inputs of {read:.0f} items hold NaN: {listed(nan)}")
        if inf:
            return Judgement("fail", f"{len(inf)} inputs of {read:.0f} items hold infinity: {listed(inf)}")
        if wrong := everywhere(evidence, "target not finite"):
            return Judgement("fail", f"{len(wrong)} targets of {read:.0f} items are not finite: {listed(wrong)}")
        if not read:
            return Judgement("skip", "no item was read")
        missing = sum(v for e in evidence.all("items with a missing label") if (v := _count(e)) > 0)
        notes = [f"{len(nan)} inputs hold NaN and the pipeline copes with it"] if nan else []
        notes += [f"{missing:.0f} items lack some of their labels"] if missing else []
        notes += [f"reading was broken off after {stated(s)} s" for s in by_place(evidence, STOPPED).values()][:1]
        return Judgement("pass", "; ".join([f"all {read:.0f} items that were read are finite", *notes]))


def _stopped(split: Split) -> list[Evidence]:
    if split.stopped is None:
        return []
    return [Evidence(name=STOPPED, value=split.stopped, unit="s", where=split.name)]


def _count(e: Evidence) -> float:
    return number(EvidenceList([e]), e.name)


def _single(t: Tensor) -> bool:
    return t.is_floating_point() and t.numel() == 1 and not bool(torch.isfinite(t).all())


def _missing(t: Tensor) -> bool:
    return t.is_floating_point() and t.numel() > 1 and not bool(torch.isfinite(t).all())


def _filled(lab: Lab, split: Split) -> bool:
    "Whether batches lack the NaN that so many items hold."
    batches = batches_of(lab, split)
    rows = sum(len(x[0]) for x, _ in batches if x and x[0].ndim)
    share = sum(map(_holds_nan, split.items)) / max(len(split.items), 1)
    if not share:
        return True
    held = any(bool(torch.isnan(t).any()) for x, _ in batches for t in x if t.is_floating_point())
    return share * rows >= SURELY and not held


def _holds_nan(item: Item) -> bool:
    return any(p.nans for p in item.inputs)


def _copes(lab: Lab) -> bool:
    "Whether the model's output stays finite when the first value of every float input is NaN."
    altered = []
    for t in tensors(lab.xb):
        if t.is_floating_point() and t.numel():
            t = t.clone()
            t.view(-1)[0] = torch.nan
        altered.append(t)
    try:
        outs = floats(lab.forward(lab.twin().model, replaced(lab.xb, altered)))
    except NotApplicable:  # a model that refuses NaN does not cope with it
        return False
    return bool(outs) and all(bool(torch.isfinite(t).all()) for t in outs)
