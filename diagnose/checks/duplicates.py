"""Validation shows items that training has not seen, and training does not repeat itself.

## What it does
Compares the content hashes of up to 192 items of each split, within and across; then a perceptual hash of pictures (8×8
cells, brighter than their mean or not); and the files that the data sets name, all of them.

## Why it matters
A validation item that is in the training data is answered from memory: the validation loss looks good and proves
nothing.

## How it is judged
Fails if more than 1 % of validation items are, bit for bit or by their file, among the training items. Items of fewer
than 64 values may be equal by chance: what the repeats within training predict is taken off first, and of rows of
integers (categories, tokens) twice the share that has a twin within training, and what the frequencies of each place
predict. Places depend on each other: in English print a letter tells a quarter of what it would by itself (Shannon
1951), so the fourth root of the chance of independent places is taken, which leaves short rows unjudged. Blank items
are left out. If validation is the training set as a whole, item for item or file for file, that was chosen, and is
said. Near duplicates and repeats within a split are said: pictures of one scene look so. Random crops of one photograph
have other bits and other hashes, and are no duplicates.

## What to do
Split by the source of an item (photograph, patient, recording) before anything is cut out of it.

## Source
Barz and Denzler 2020, "Do we train on test data?" (3.3 % of CIFAR-10's test images are near duplicates of training
images); Shannon 1951, "Prediction and entropy of printed English" (4.1 bits a letter alone, about 1 in context);
average hash as in Krawetz 2011, "Looks like it".
"""

import math
from collections import Counter

import numpy as np

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._numbers import number, texts
from diagnose.data import Item, Split, indices_of, path_of, splits_of, spread_over
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

MOST = 0.01  # share of validation items that may be among the training items
LEAST_VALUES = 64  # an item of fewer values may equal another by chance
CONTEXT = 0.25  # of the information of independent places, what places in context hold
FILES = 5000  # of each split, whose path is looked up
SHOWN = 20


class Duplicates(Check):
    """Compares hashes within and across splits."""

    stage = "inspection"
    order = 48
    cost = "the items read for all checks of the data; the paths of up to 20000 files"

    def measure(self, lab: Lab) -> EvidenceList:
        splits = [s for s in splits_of(lab) if s.items]
        if not splits:
            raise NotApplicable("no item could be read")
        found, items = EvidenceList(), {}
        for s in splits:
            items[s.name] = mine = [i for i in s.items if i.inputs and not i.constant]
            hashes = Counter(i.digest for i in mine)
            labels = {(i.digest, i.targets_digest) for i in mine if i.targets}
            found += [
                Evidence(name="items compared", value=len(mine), where=s.name),
                Evidence(name="repeats", value=len(mine) - len(hashes), unit="items", where=s.name),
                Evidence(name="same input, other label", value=max(len(labels) - len(hashes), 0), where=s.name),
                Evidence(name="near duplicates", value=_near(mine), unit="items", where=s.name),
            ]
        if len(splits) > 1 and all(items.values()):
            found += _across(splits[0], splits[1], items["training"], items["validation"])
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        counts = {e.where: number(EvidenceList([e]), e.name) for e in evidence.all("items compared")}
        if not any(n > 0 for n in counts.values()):
            return Judgement("skip", "no items to compare")
        said = []
        for where in counts:
            for what in ("repeats", "same input, other label", "near duplicates"):
                if (n := number(evidence, what, where)) > 0:
                    said.append(f"{n:.0f} {what} among {counts[where]:.0f} {where} items")
        note = "; ".join(said)
        if evidence.get("validation is the training set") is True:
            return Judgement("pass", "; ".join(["validation shows the training items themselves", *said]))
        if evidence.get("share of validation in training") is not None:
            share, chance = (
                number(evidence, "share of validation in training"),
                number(evidence, "share possible by chance"),
            )
            files = number(evidence, "share of validation files in training")
            leaked = max(share - (chance if chance >= 0 else 0.0), files if files >= 0 else 0.0)
            places = texts(evidence, "in both splits")
            if not leaked <= MOST:
                return Judgement(
                    "fail",
                    f"{leaked:.1%} of validation items are among the training items (at most {MOST:.0%}): "
                    f"{listed(places) or 'by their files'}",
                )
            text = f"{share:.1%} of {counts.get('validation', 0):.0f} validation items are among the training items"
            if share > MOST:
                text += f": up to {chance:.1%} may be by chance in items this small"
            return Judgement("pass", "; ".join([text, *said]))
        return Judgement("pass", note or "no repeats among the items read")


def _near(items: list[Item]) -> int:
    "Items that share their perceptual hash with another of other bits."
    groups: dict[int, set[bytes]] = {}
    for i in items:
        if len(i.inputs) == 1 and (h := i.inputs[0].average_hash) is not None:
            groups.setdefault(h, set()).add(i.digest)
    return sum(len(g) for g in groups.values() if len(g) > 1)


def _across(train: Split, valid: Split, mine: list[Item], theirs: list[Item]) -> EvidenceList:
    known = {i.digest: i for i in mine}
    both = [f"{i.place} = training {known[i.digest].place}" for i in theirs if i.digest in known]
    share = len(both) / len(theirs)
    chosen = train.dataset is not None and train.dataset is valid.dataset
    of_index = {i.index: i.digest for i in mine}
    chosen |= train.size == valid.size and all(of_index.get(i.index) == i.digest for i in theirs)
    chosen |= train.by_rows and valid.by_rows and share == 1.0
    hashes = {h for i in mine if (h := i.inputs[0].average_hash) is not None and len(i.inputs) == 1}
    near = sum(i.inputs[0].average_hash in hashes and i.digest not in known for i in theirs)
    files = _paths(train), _paths(valid)
    chosen |= bool(files[0]) and files[0] == files[1]
    found = EvidenceList(
        [
            Evidence(name="share of validation in training", value=share, unit="share", expected=f"<= {MOST}"),
            Evidence(name="share possible by chance", value=_chance(mine), unit="share"),
            Evidence(name="in both splits", value=both[:SHOWN], expected="none"),
            Evidence(name="validation is the training set", value=bool(chosen)),
            Evidence(name="near duplicates across splits", value=near, unit="items"),
        ]
    )
    if all(files):
        overlap = len(files[0] & files[1]) / len(files[1])
        found.append(
            Evidence(name="share of validation files in training", value=overlap, unit="share", expected=f"<= {MOST}")
        )
    return found


def _chance(mine: list[Item]) -> float:
    "Share of further items that may be among these by chance: from the repeats within them, 0 for large items."
    n = len(mine)
    if min(i.numbers for i in mine) >= LEAST_VALUES:
        return 0.0
    if n < 2:
        return 1.0
    counts = Counter(i.digest for i in mine).values()
    rate, again = (sum(c * (c - 1) / 2 for c in counts) + 1) / (n * (n - 1) / 2), 0.0
    if not any(p.floating for i in mine for p in i.inputs):
        rate, again = max(rate, _equal_by_frequency(mine)), 2 * sum(c for c in counts if c > 1) / n
    return 1.0 if rate >= 1 else min(max(-math.expm1(n * math.log1p(-rate)), again), 1.0)


def _equal_by_frequency(items: list[Item]) -> float:
    "Chance that two rows of integers are equal, from how often each place holds each value; 1 if it cannot be told."
    rows = [
        np.concatenate([p.integers for p in i.inputs]) for i in items if all(p.integers is not None for p in i.inputs)
    ]
    if len(rows) < len(items) or len({len(r) for r in rows}) != 1:
        return 1.0
    shares = [np.unique(place, return_counts=True)[1] / len(rows) for place in np.stack(rows, 1)]
    return math.exp(CONTEXT * sum(math.log(float(np.square(s).sum())) for s in shares))


def _paths(split: Split) -> set[str]:
    "Files of a split, if each is the source of one item; else none."
    indices = indices_of(split)
    if indices is None or split.by_rows:
        return set()
    found: list[str] = []
    for k in spread_over(len(indices), FILES):
        path = path_of(split.dataset, indices[k])
        if path is None:
            break
        found.append(str(path))
    return set(found) if len(set(found)) == len(found) else set()
