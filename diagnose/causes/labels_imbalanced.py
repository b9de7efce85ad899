"""A constant prediction already scores close to what the model reaches.

## What it is
One class in nine of ten items or more, and a model that answers with it whatever it is shown.

## Why it stops learning
Most batches hold none or one of the rare classes, and the gradient of the common one outweighs theirs. The loss stands
at the best constant, and accuracy looks fine.

## How it is found
Labels of the items read: the commonest has a share of 0.9 or more, and there is a second one.

## How it is proven
Two copies are trained on as many batches, one as the items come, one with half of each batch from the rare classes, for
300 steps. Of rare items held out the first answers at most a tenth rightly, the second at least half, while it keeps
eight in ten of the common ones.

## How to fix
    learn.loss_func = CrossEntropyLossFlat(weight=1 / counts)
    dls = dblock.weighted_dataloaders(path, wgts)                # balanced batches

## What it looks like but is not
Heavy imbalance that is learned all the same: the copy that is trained as it is finds the rare items too. Rare classes
that no weighting brings out.

## Source
He and Garcia 2009, "Learning from imbalanced data"; the notes' checklist, item 13.
"""

import torch
from torch import Tensor

from diagnose.causes import Cause, Findings, Settled, Suspicion
from diagnose.causes._held_out import order, side_of, split_named
from diagnose.causes._reading import number
from diagnose.checks._items import batches_at
from diagnose.checks._probing import trial_on
from diagnose.data import Split, as_number, batch_size_of, indices_of, label_of, spread_over
from diagnose.diagnosis import Fix, Proof
from diagnose.errors import NotApplicable
from diagnose.lab import Lab
from diagnose.trial import Trial, forward, prepared

CHECK, SPLIT = "label-histogram", "training"
COMMON = 0.9
ITEMS, ROWS, STEPS = 2000, 64, 300
FEWEST = 6  # rare items to train on, and to hold out
MISSED, FOUND, KEPT = 0.1, 0.5, 0.8


class LabelsImbalanced(Cause):
    """Suspected when one class has nine in ten items or more."""

    when_learned = True
    explains = ("lr-too-low", "lr-too-high")
    questions = (13,)

    def suspect(self, findings: Findings) -> Suspicion | None:
        share, distinct = (number(findings, CHECK, n, SPLIT) for n in ("share of the commonest", "distinct labels"))
        if not COMMON <= share < 1 or not 2 <= distinct < float("inf"):
            return None
        reason = f"the commonest of {distinct:.0f} labels has a share of {share:.1%}"
        return Suspicion(0.5, reason, ["targets"], {"share": share})

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        split = split_named(lab, SPLIT)
        labels = _labels(split)
        common = max(set(labels.values()), key=list(labels.values()).count)
        rare, others = ([i for i, y in labels.items() if (y != common) == odd] for odd in (True, False))
        rare, others = ([part[k] for k in order(len(part), lab.seed)] for part in (rare, others))
        cut = len(rare) // 3
        if cut < FEWEST or len(others) < 4 * ROWS:
            raise NotApplicable(f"fewer than {3 * FEWEST} rare items were found among {len(labels)}")
        rows = min(batch_size_of(split) or ROWS, ROWS)
        natural = rare[cut:] + others[ROWS:]
        natural = [natural[k] for k in order(len(natural), lab.seed)]
        count = len(natural) // rows
        generator = torch.Generator().manual_seed(lab.seed)
        chosen = torch.randint(len(rare) - cut, (count, rows // 2), generator=generator).tolist()
        plain = torch.randint(ROWS, len(others), (count, rows - rows // 2), generator=generator).tolist()
        balanced = [i for a, b in zip(chosen, plain) for i in ([rare[cut + k] for k in a] + [others[k] for k in b])]
        scored = [batches_at(lab, split, part, len(part))[0] for part in (rare[:cut], others[:ROWS])]
        sides, answers = [], []
        for indices in (natural, balanced):
            trial = self._trained(lab, batches_at(lab, split, indices, rows))
            answers.append([_right(trial, batch) for batch in scored])
            sides.append(side_of(trial, answers[-1][0], "rare items held out", share="right"))
            sides[-1].numbers["right on common items"] = answers[-1][1]
        proof = Proof(
            change="half of each batch from the rare classes", kind="inspection", before=sides[0], after=sides[1]
        )
        (missed, _), (found, kept) = answers
        return Settled(missed <= MISSED and found >= FOUND and kept >= KEPT, missed >= found - MISSED, proof)

    def _trained(self, lab: Lab, batches: list) -> Trial:
        return trial_on(lab, batches, steps=STEPS, stop_at=float("inf"))

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text="Balance the batches, or weight the loss by the inverse of each class's share, and judge by a score "
            "that a constant answer cannot reach (balanced accuracy, F1).",
            code="weights = 1 / torch.bincount(labels).clamp_min(1)\n"
            "learn.loss_func = CrossEntropyLossFlat(weight=weights / weights.mean())\n"
            "learn.metrics = BalancedAccuracy()",
        )


def _labels(split: Split) -> dict[int, int]:
    "Class indices of items spread over the split, by their index, where they are kept apart from the inputs."
    indices = indices_of(split)
    if indices is None or split.by_rows:
        raise NotApplicable("no item can be read by its index")
    found = {}
    for k in spread_over(len(indices), ITEMS):
        label = as_number(label_of(split.dataset, indices[k]))
        if label is None:
            item = split.dataset[indices[k]]
            label = as_number(item[-1]) if isinstance(item, (tuple, list)) and len(item) > 1 else None
        if label is None or label != int(label):
            raise NotApplicable("the labels are no class indices")
        found[indices[k]] = int(label)
    return found


def _right(trial: Trial, batch: object) -> float:
    "Share of right answers of a trained copy, in evaluation mode."
    xb, yb = prepared(trial.learner, batch)
    out, y = forward(trial.learner.model, xb), yb[0]
    if not isinstance(out, Tensor) or out.ndim != 2 or y.numel() != len(out):
        raise NotApplicable("it takes one class index and one row of scores an item")
    y = y.flatten()
    if out.shape[1] == 1 and not bool(((y == 0) | (y == 1)).all()):
        raise NotApplicable("the labels are numbers, no flags")
    answers = out.argmax(1) if out.shape[1] > 1 else (out[:, 0] > 0).long()
    return float((answers == y.to(answers)).float().mean())
