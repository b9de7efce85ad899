"""An item that is labelled as changed is not the same bits as its clean version.

## What it does
For data sets that have a method `clean_item(index)` (the item, or its input, before it is changed), compares items
whose label is positive with their clean version, bit for bit.

## Why it matters
A random transform that draws the identity labels an untouched item "changed": label noise by construction, and an
accuracy that cannot reach 1 whatever the net.

## How it is judged
Fails if any positive equals its clean version. There is no threshold: among 6 permutations of three channels one is the
identity, which bounds accuracy at 0.917.

## What to do
Draw again until the item differs, or leave out items that cannot differ, such as grey pictures whose
channels are permuted.

## Source
Real failure F21 of the notes.
"""

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._numbers import number, texts
from diagnose.data import as_it_was, as_number, digest, halves, splits_of
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

ITEMS = 64
SHOWN = 20


class PositivesEqual(Check):
    """Compares positives with their clean version."""

    stage = "inspection"
    order = 60
    cost = "64 items, read once more, where the data set tells their clean version"

    def measure(self, lab: Lab) -> EvidenceList:
        split = splits_of(lab)[0]
        clean = getattr(split.dataset, "clean_item", None)
        if not callable(clean):
            raise NotApplicable("the data set has no clean_item(index) to compare items with")
        compared, equal, read = 0, [], 0
        with as_it_was(lab.learn, split, lab.seed):
            try:
                for item in split.items[:ITEMS]:
                    inputs, targets = halves(lab.learn, split.dataset[item.index])
                    if len(targets) != 1 or (label := as_number(targets[0])) is None:
                        raise NotApplicable("it takes one label a row, positive for an item that was changed")
                    read += 1
                    if not label > 0:
                        continue
                    was = clean(item.index)
                    before = halves(lab.learn, was if isinstance(was, (tuple, list)) and len(was) > 1 else (was,))[0]
                    compared += 1
                    if [digest(t) for t in inputs] == [digest(t) for t in before]:
                        equal.append(item.place)
            except NotApplicable:
                raise
            except Exception as e:  # a method of that name with another meaning
                raise NotApplicable(f"comparing with clean_item raised {type(e).__name__}: {e}") from e
        return EvidenceList(
            [
                Evidence(name="items read", value=read),
                Evidence(name="positives compared", value=compared),
                Evidence(name="equal to their clean version", value=len(equal), expected="0"),
                Evidence(name="which", value=equal[:SHOWN]),
            ]
        )

    def judge(self, evidence: EvidenceList) -> Judgement:
        read, compared = number(evidence, "items read"), number(evidence, "positives compared")
        equal = number(evidence, "equal to their clean version")
        if not (compared > 0 and equal >= 0):
            return Judgement("skip", "no positive item was read")
        if not equal:
            return Judgement("pass", f"none of {compared:.0f} positives is the same bits as its clean version")
        bound = f"; accuracy cannot exceed about {1 - equal / read:.3g}" if read >= equal else ""
        return Judgement(
            "fail",
            f"{equal:.0f} of {compared:.0f} positives are the same bits as their clean version "
            f"({listed(texts(evidence, 'which'))}){bound}",
        )
