"""There is more than one label to tell apart.

## What it does
Counts the labels of up to 192 items of each split. If they are all alike, further labels are read until another turns
up, and the loss is asked whether it depends on the label at all.

## Why it matters
With one label any bias is a perfect answer: the loss goes to zero and proves nothing. A rare label is learned late, and
the best constant is then hard to beat.

## How it is judged
Fails if all training labels (at least 500, or all there are) are alike and the loss depends on them; warns if fewer
could be read in a second. Imbalance is said, not judged: many real tasks are imbalanced and learnable. A validation
split of one label is said.

## What to do
Look at the code that makes the labels; stratify the split; oversample or weight a rare label.

## Source
Real failure F17 of the notes (all labels 1: "succeeded in overfitting!"), and their checklist, item 13.
"""

import time
from collections import Counter

import torch
from torch import Tensor

from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.checks._numbers import number
from diagnose.data import (
    SECONDS,
    Split,
    as_it_was,
    class_index,
    digest,
    indices_of,
    splits_of,
    spread_over,
    targets_at,
)
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.stats import replaced, tensors

ENOUGH = 500  # labels alike, from which it is no chance: a label of 1 % would be missed with a probability of 0.7 %
LABELS = 2000  # looked at if those of the items read are all alike
SHOWN = 20


class LabelHistogram(Check):
    """Counts labels, and looks further if they are all alike."""

    stage = "inspection"
    order = 44
    cost = "the items read for all checks of the data; up to 2000 labels and 1 forward pass if they are all alike"

    def measure(self, lab: Lab) -> EvidenceList:
        splits = [s for s in splits_of(lab) if len(s.items) > 1 and any(i.targets for i in s.items)]
        if not splits:
            raise NotApplicable("items have no label, or fewer than two could be read")
        found = EvidenceList()
        for split in splits:
            labels = Counter(_name(i.targets) for i in split.items)
            read, distinct = sum(labels.values()), len(labels)
            if distinct == 1 and split.name == "training":
                read, distinct = _further(lab, split, next(iter(labels)), read)
            where, common = split.name, labels.most_common(SHOWN)
            found += [
                Evidence(name="labels read", value=read, where=where),
                Evidence(name="distinct labels", value=distinct, where=where, expected=">= 2"),
                Evidence(name="items in all", value=split.size or 0, where=where),
                Evidence(name="share of the commonest", value=common[0][1] / len(split.items), where=where),
                Evidence(name="histogram", value=[f"{k}: {n}" for k, n in common], where=where),
            ]
            if distinct == 1 and split.name == "training":
                found.append(Evidence(name="the loss depends on the label", value=_depends(lab), where=where))
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        said = []
        for e in evidence.all("labels read"):
            where, read = e.where, number(EvidenceList([e]), "labels read")
            distinct, share = (
                number(evidence, "distinct labels", where),
                number(evidence, "share of the commonest", where),
            )
            histogram = evidence.get("histogram", where)
            common = str(histogram[0]) if isinstance(histogram, list) and histogram else "?"
            if not (read > 0 and distinct > 0):
                continue
            if distinct > 1:
                most = f", the commonest {share:.0%} of them" if share >= 0.5 else ""
                said.append(f"{distinct:.0f} distinct among {read:.0f} {where} labels{most}")
                continue
            text = f"all {read:.0f} {where} labels that were read are alike ({common.rpartition(':')[0] or common})"
            size = number(evidence, "items in all", where)
            if where != "training":
                said.append(f"{text}: validation proves little")
            elif evidence.get("the loss depends on the label", where) is False:
                said.append(f"{text}, and the loss ignores them")
            elif read >= ENOUGH or read >= size > 0:
                return Judgement("fail", f"{text}: any constant answer is right")
            else:
                return Judgement("warn", f"{text} (of {size:.0f}): a constant answer may be right")
        return Judgement("pass", "; ".join(said)) if said else Judgement("skip", "not measured")


def _name(targets: list[Tensor]) -> str:
    "Targets as one text: class indices and short vectors as they are, others by their hash."
    return ", ".join(_one(t) for t in targets)


def _one(t: Tensor) -> str:
    if (index := class_index(t)) is not None:
        return f"class {index}"
    if t.numel() == 1:
        return f"{float(t):.6g}"
    return str([round(float(v), 6) for v in t.flatten()]) if t.numel() <= 8 else f"values {digest(t).hex()[:12]}"


def _further(lab: Lab, split: Split, label: str, read: int) -> tuple[int, int]:
    "Labels read and distinct ones, reading on until a second turns up, the data set or the time ends."
    indices = indices_of(split)
    if indices is None or split.by_rows:
        return read, 1
    seen, began = {i.index for i in split.items}, time.monotonic()
    with as_it_was(lab.learn, split, lab.seed):
        for k in spread_over(len(indices), LABELS):
            if (i := indices[k]) in seen:
                continue
            try:
                if _name(targets_at(lab, split, i)) != label:
                    return read + 1, 2
            except Exception:  # items that cannot be read are named by items-finite
                continue
            read += 1
            if time.monotonic() - began > SECONDS:
                split.stopped = SECONDS
                break
    return read, 1


def _depends(lab: Lab) -> bool:
    "Whether the loss of the fixed batch changes with its labels."
    copy, output = lab.twin(), lab.output
    if not isinstance(output, torch.Tensor) or output.ndim < 2 or output.shape[1] < 2:
        return True  # another index might be out of range, which a GPU does not survive; so it is taken for granted
    copy.training = True
    other = [t + 0.5 if t.is_floating_point() else 1 - t.clamp(0, 1) for t in tensors(lab.yb)]
    try:
        with torch.no_grad():
            before = float(copy.loss_func(output, *lab.yb).float().mean())
            after = float(copy.loss_func(output, *replaced(lab.yb, other)).float().mean())
    except Exception:  # a loss that refuses another label looks at it
        return True
    return before != after
