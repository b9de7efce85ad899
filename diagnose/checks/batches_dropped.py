"""Hardly any item is left out of the batches.

## What it does
Compares the items of each loader with whole batches times batch size, where the loader drops the last incomplete batch.

## Why it matters
A loader with fewer items than one batch yields none, and fastai then "trains" without a step and without an error.
Validation that drops its last batch is a number over other items than stated, and over none if there are few.

## How it is judged
Fails if the validation loader has items and yields no batch. Warns if it drops more than 1 % of its items, or if a
training loader that does not shuffle drops more than a tenth, since these are never seen. Shuffled training sees the
dropped items in other epochs, so it passes, and the share is said. No validation items at all: said.

## What to do
`drop_last=False` on the validation loader; a batch size of at most the number of items.

## Source
Real failure F29 of the notes (validation loader with drop_last); fastai trains silently on a loader without batches.
"""

from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.checks._numbers import number
from diagnose.data import Split, as_it_was, batch_size_of, order_of, unread
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

OF_VALIDATION, OF_TRAINING = 0.01, 0.1  # share of items that may be dropped


class BatchesDropped(Check):
    """Counts items that no batch holds."""

    stage = "inspection"
    order = 10
    cost = "no item is read"

    def measure(self, lab: Lab) -> EvidenceList:
        found = EvidenceList()
        for split in unread(lab):
            size, bs = split.size, batch_size_of(split)
            if size is None:
                continue
            drops = bool(getattr(split.loader, "drop_last", False))
            dropped = size % bs if drops and bs else 0
            found += [
                Evidence(name="items", value=size, where=split.name),
                Evidence(name="batch size", value=bs or 0, where=split.name),
                Evidence(name="items dropped", value=dropped, where=split.name),
                Evidence(name="in order", value=_in_order(lab, split), where=split.name),
            ]
        if not found:
            raise NotApplicable("the loaders do not tell how many items they have")
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        doubts, said = [], []
        for e in evidence.all("items"):
            size, bs = number(EvidenceList([e]), "items"), number(evidence, "batch size", e.where)
            dropped = number(evidence, "items dropped", e.where)
            if not (size >= 0 and dropped >= 0):
                continue
            share = dropped / size if size else 0.0
            text = f"{dropped:.0f} of {size:.0f} {e.where} items ({share:.1%}) are in no batch"
            if size and dropped >= size:
                return Judgement("fail", f"{text}: fewer than one batch of {bs:.0f}, with drop_last on")
            if e.where != "training" and share > OF_VALIDATION:
                doubts.append(f"{text}, at most {OF_VALIDATION:.0%}: drop_last is on")
            elif e.where == "training" and share > OF_TRAINING and evidence.get("in order", e.where) is True:
                doubts.append(f"{text}, the same in every epoch, at most {OF_TRAINING:.0%}")
            said.append(text if size else f"no {e.where} items")
        if doubts:
            return Judgement("warn", "; ".join(doubts))
        return Judgement("pass", "; ".join(said)) if said else Judgement("skip", "not measured")


def _in_order(lab: Lab, split: Split) -> bool:
    with as_it_was(lab.learn, split, lab.seed):
        order = order_of(split, 1000)
    return order is not None and order == sorted(order)
