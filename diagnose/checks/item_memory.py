"""Items own their memory: no element shares it with another, and no item with the next.

## What it does
Looks at the strides of every tensor of up to 192 items of each split, before they are collated, and hashes the items a
second time after the following ones were read.

## Why it matters
`expand` gives a tensor whose channels are one piece of memory (a stride of 0); whatever writes into it in place raises
"more than one element refers to a single memory location", or changes all channels at once. A data set that hands out
one buffer again and again fills a batch with copies of its last item.

## How it is judged
Fails if the bits of an item change when later ones are read. Warns if some items have a stride of 0 and others do not:
then one kind of file takes another path, and only those items fail. If all have it, it is said and passes, as nothing
need write into them.

## What to do
`.convert("RGB")` on every picture, or `.expand(...).clone()`; `.clone()` what comes from a buffer.

## Source
Real failure F13 (greyscale pictures expanded to three channels: "weird memory location error, always the same
images"); PyTorch's documentation of `Tensor.expand`.
"""

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._numbers import everywhere, number
from diagnose.data import file_of, splits_of
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

SHOWN = 20


class ItemMemory(Check):
    """Looks at strides, and hashes items again after later ones were read."""

    stage = "inspection"
    order = 41
    cost = "the items read for all checks of the data"

    def measure(self, lab: Lab) -> EvidenceList:
        splits = [s for s in splits_of(lab) if s.plain or s.expanded]
        if not splits:
            raise NotApplicable("no item that can be read by its index holds a tensor before it is collated")
        found = EvidenceList()
        for split in splits:

            def place(i: int, split=split) -> str:
                return f"item {i}" + (f" ({file})" if (file := file_of(split.dataset, i)) else "")

            shared = [f"{place(i)}, {what}" for i, what in split.expanded.items()]
            changed = [place(i) for i in split.overwritten]
            found += [
                Evidence(name="items with tensors", value=split.plain + len(split.expanded), where=split.name),
                Evidence(name="items with a stride of 0", value=len(shared), where=split.name, expected="none or all"),
                Evidence(name="stride of 0", value=shared[:SHOWN], where=split.name),
                Evidence(name="overwritten by later items", value=changed[:SHOWN], where=split.name, expected="none"),
            ]
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        total = _sum(evidence, "items with tensors")
        if changed := everywhere(evidence, "overwritten by later items"):
            return Judgement(
                "fail", f"{len(changed)} of {total:.0f} items change when later ones are read: {listed(changed)}"
            )
        shared, places = _sum(evidence, "items with a stride of 0"), everywhere(evidence, "stride of 0")
        if 0 < shared < total:
            return Judgement(
                "warn",
                f"{shared:.0f} of {total:.0f} items have elements that share memory and the others do not: "
                f"{listed(places, 1)}",
            )
        if not total > 0:
            return Judgement("skip", "no item was read")
        note = "; all have elements that share memory: writing into them in place would raise" if shared else ""
        return Judgement("pass", f"none of {total:.0f} items changes when later ones are read{note}")


def _sum(evidence: EvidenceList, name: str) -> float:
    return sum(v for e in evidence.all(name) if (v := number(EvidenceList([e]), name)) > 0)
