"""A share of the labels is wrong, or right only by accident.

## What it is
One content under several labels (a placeholder picture for missing files, rows merged twice); a "transformed" item that
is bit for bit its clean version.

## Why it stops learning
No answer is right for an input that has two labels. A net large enough learns the contradictions by heart, and what it
says of new inputs gets worse.

## How it is found
Content hashes of the items read: the same bits under different labels. For data sets that tell the clean version of an
item: positives that equal it.

## How it is proven
By that inspection: positives that are their clean version, or from 1 to 50 % of the training items read (pictures or
rows of at least 64 numbers, with a class index each) of which the same bits have another label as well.

## How to fix
    while torch.equal(changed := transform(x), x): pass    # draw again until the item differs
    rows = rows.drop_duplicates("content", keep=False)     # and look at those that contradict each other

## What it looks like but is not
Where most items have several labels, that was meant: every vote of an annotator is an item. Texts and short rows repeat
under other labels. Repeats that agree.

## Source
Real failure F21 of the notes (a channel shuffle that draws the identity bounds accuracy at 0.917); Northcutt et al.
2021, "Pervasive label errors in test sets".
"""

from diagnose.causes import Cause, Findings, Settled, Suspicion, inspected
from diagnose.causes._held_out import split_named
from diagnose.causes._reading import number, texts
from diagnose.checks import listed
from diagnose.checks.duplicates import LEAST_VALUES, MOST
from diagnose.data import Item, class_index
from diagnose.diagnosis import Fix
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

MEANT = 0.5  # of the items with several labels, from which that is how the data set is made


class LabelsNoisy(Cause):
    """Suspected when positives are clean, or one content has several labels."""

    settled_by = "inspection"
    when_learned = True
    explains = ("train-valid-leak",)  # a placeholder stands in both splits

    def suspect(self, findings: Findings) -> Suspicion | None:
        equal, compared = (
            number(findings, "positives-equal", n) for n in ("equal to their clean version", "positives compared")
        )
        if 0 < equal <= compared:
            which = texts(findings, "positives-equal", "which")
            reason = f"{equal:.0f} of {compared:.0f} positives are the same bits as their clean version"
            return Suspicion(1.0, reason, which[:3], {"equal": equal, "of": compared})
        other, read = (
            number(findings, "duplicates", n, "training") for n in ("same input, other label", "items compared")
        )
        if not MOST * read <= other <= read or not other > 0:
            return None
        reason = f"{other:.0f} of {read:.0f} training items show what another shows, under another label"
        return Suspicion(0.7, reason, ["targets"], {})

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        facts = suspicion.facts
        if "equal" in facts:
            bad, of = facts["equal"], facts["of"]
            before = suspicion.reason
        else:
            items = split_named(lab, "training").items
            found = contradicting(items)
            bad, of = len(found), len(items)
            if bad > MEANT * of:
                raise NotApplicable(f"{bad} of {of} items have another label as well: that was meant")
            before = f"{bad} of {of} items have the same bits as another of another class"
            before += f": {listed(found)}" if found else f", of those with a class and {LEAST_VALUES} numbers or more"
        proof = inspected(
            "contents compared with their labels",
            before,
            "one content has one label",
            {"items": bad, "of": of},
            items=0,
        )
        proven = "equal" in facts or bad >= MOST * of
        return Settled(proven, not proven, proof)

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        if "equal" in suspicion.facts:
            return Fix(
                text="Draw the transform again until the item differs from its clean version, or label it as clean.",
                code="while torch.equal(changed, clean):\n    changed = transform(clean)",
            )
        return Fix(
            text="Look at the items that contradict each other: drop placeholders, and decide on one label each.",
            code='rows = rows[rows.groupby("content").label.transform("nunique") == 1]',
        )


def contradicting(items: list[Item]) -> list[str]:
    """Places of items with one class index each, whose bits occur under another class index."""
    labels: dict[bytes, set[int | None]] = {}
    large = [i for i in items if i.numbers >= LEAST_VALUES and len(i.targets) == 1 and not i.constant]
    large = [i for i in large if class_index(i.targets[0]) is not None and all(p.floating for p in i.inputs)]
    for i in large:
        labels.setdefault(i.digest, set()).add(class_index(i.targets[0]))
    return [i.place for i in large if len(labels[i.digest]) > 1]
