"""An item that is read twice has the same label.

## What it does
Reads 8 items of each split twice, while the random streams move on, and compares bits before they are collated: mixing
rows in the collate function (mixup) is no fault.

## Why it matters
Random augmentation changes the input and keeps the label: that is as it should be. A label that is drawn anew under
the same input is noise. A label that is drawn anew with its input makes a "fixed tiny subset" that is never the same
twice: it cannot be memorised, and weeks were lost on "cannot even overfit two images".

## How it is judged
Fails if a label changes and the input stays the same bits. Warns if labels change together with their inputs: right
for a stream of fresh draws, wrong wherever a fixed subset or a stable validation loss is meant. Labels that are maps or
lists of points (two dimensions or more) follow the augmentation of their input: said, not judged. Bits are compared,
so there is no threshold.

## What to do
Draw from a generator that belongs to the item: `np.random.default_rng([seed, epoch, index])`. Fix the epoch for tests
on a subset and for validation.

## Source
Real failure F5 of the notes.
"""

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._numbers import everywhere, number
from diagnose.data import read_again, splits_of
from diagnose.errors import NotApplicable
from diagnose.lab import Lab


class ItemsRepeatable(Check):
    """Reads a few items twice."""

    stage = "inspection"
    order = 42
    cost = "8 items of each split, read twice"

    def measure(self, lab: Lab) -> EvidenceList:
        splits = [s for s in splits_of(lab) if s.items and not s.by_rows]
        if not splits:
            raise NotApplicable("no item can be read by its index")
        found = EvidenceList()
        for split in splits:
            try:
                pairs = read_again(lab, split)
            except Exception as e:  # read once without complaint
                raise NotApplicable(f"reading {split.name} items again raised {type(e).__name__}: {e}") from e
            moved = [(a, b) for a, b in pairs if a.targets_digest != b.targets_digest]
            alone = [a.place for a, b in moved if a.digest == b.digest]
            maps = [a.place for a, b in moved if a.digest != b.digest and any(t.ndim > 1 for t in a.targets)]
            both = [a.place for a, b in moved if a.place not in alone and a.place not in maps]
            inputs = sum(a.digest != b.digest for a, b in pairs)
            where = split.name
            found += [
                Evidence(name="items read twice", value=len(pairs), where=where),
                Evidence(name="inputs that change", value=inputs, where=where),
                Evidence(name="labels that change under the same input", value=alone, where=where, expected="none"),
                Evidence(name="labels that change with the input", value=both, where=where, expected="none"),
                Evidence(name="maps that change with the input", value=len(maps), where=where),
            ]
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        counts = {e.where: number(EvidenceList([e]), e.name) for e in evidence.all("items read twice")}
        counts = {w: n for w, n in counts.items() if n > 0}
        total = sum(counts.values())
        if alone := everywhere(evidence, "labels that change under the same input"):
            return Judgement(
                "fail",
                f"labels of {len(alone)} of {total:.0f} items change while the input stays: {listed(alone)}",
            )
        if both := everywhere(evidence, "labels that change with the input"):
            where = " and ".join(w for w in counts if evidence.get("labels that change with the input", w))
            return Judgement(
                "warn",
                f"labels of {len(both)} of {total:.0f} items are drawn anew at every reading ({where} split: "
                f"{listed(both)}): a fixed subset of them is not fixed",
            )
        if not total:
            return Judgement("skip", "no item was read twice")
        said = []
        for where, n in counts.items():
            inputs, maps = (
                number(evidence, m, where) for m in ("inputs that change", "maps that change with the input")
            )
            if inputs > 0:
                extra = f", {maps:.0f} with their maps" if maps > 0 else ""
                said.append(f"{inputs:.0f} of {n:.0f} {where} inputs do{extra}")
        note = f"; {'; '.join(said)}, as random augmentation makes them" if said else ", nor do their inputs"
        return Judgement("pass", f"labels of {total:.0f} items do not change when read again{note}")
