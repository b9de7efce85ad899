"""Labels come in no order: a training batch is a mixture of them.

## What it does
Takes the order of the next pass from the loader, and the labels of its first 20 batches, without reading inputs where
the data set keeps labels apart. Compares with labels in random order (those of the items read, drawn 200 times): how
many batches hold a single label; how often neighbours have the same label; for numbers, how much of their variance is
inside a batch.

## Why it matters
Batches of one label at a time pull the net to one constant after another, and batch norm sees one class only.

## How it is judged
Fails if half of the batches or more hold one label where fewer than 5 % would by chance. Warns if the loader reads in
order and neighbours share their label more often than 0.5 above chance and beyond 6 standard deviations of the random
orders, or if less than 0.2 of the variance of a number is inside batches. A sampler that puts several of each class
into a batch on purpose is no failure: its batches hold more than one label.

## What to do
`shuffle=True` on the training loader; a shuffled list of files before it is split.

## Source
Bengio 2012, "Practical recommendations for gradient-based training", 3.1 (shuffle); real failure F17 of the notes
(a pass on items of one label proves nothing).
"""

import numpy as np

from diagnose.checks import Check, Evidence, EvidenceList, Judgement
from diagnose.checks._numbers import number
from diagnose.data import Split, as_it_was, as_number, batch_size_of, batches_of, label_of, order_of, splits_of
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

BATCHES, MOST = 20, 4000  # batches, and labels, of the order that are looked at
DRAWS = 200
ONE_LABEL, BY_CHANCE, ABOVE, ERRORS, INSIDE = 0.5, 0.05, 0.5, 6.0, 0.2


class Shuffling(Check):
    """Compares the order of labels with chance."""

    stage = "inspection"
    order = 52
    cost = "the labels of 20 batches; up to 4 batches where labels cannot be had alone"

    def measure(self, lab: Lab) -> EvidenceList:
        split = splits_of(lab)[0]
        held = [i.targets[0] for i in split.items if len(i.targets) == 1]
        labels = np.array([float(t) for t in held if t.numel() == 1])
        if len(labels) < 8 or len(labels) < len(split.items) or not np.isfinite(labels).all():
            raise NotApplicable("it takes one class index or one number a row as the label")
        whole = not held[0].is_floating_point()
        bs = batch_size_of(split)
        order = self._order(lab, split, bs)
        seen = None if order is None else _labels(split, order)
        if seen is None:
            parts = [np.array([float(v) for v in y[0].flatten()]) for _, y in batches_of(lab, split) if len(y) == 1]
            bs = bs or max(map(len, parts), default=0)
            seen = np.concatenate(parts) if parts else labels[:0]
        if not bs or bs < 4 or len(seen) < 2 * bs:
            raise NotApplicable("it takes two batches of at least 4 rows")
        found = EvidenceList(
            [
                Evidence(name="labels in order", value=len(seen)),
                Evidence(name="batch size", value=bs),
                Evidence(name="the loader reads in order", value=order is not None and order == sorted(order)),
            ]
        )
        stream = np.random.default_rng(lab.seed)
        drawn = stream.choice(labels, (DRAWS, len(seen)))
        if whole:
            chance = np.array([_neighbours(d) for d in drawn])
            one = np.mean([_one_label(d, bs) for d in drawn])
            found += [
                Evidence(name="batches of one label", value=_one_label(seen, bs), unit="share", expected=f"{one:.2g}"),
                Evidence(name="the same by chance", value=float(one), unit="share"),
                Evidence(name="neighbours alike", value=_neighbours(seen), unit="share"),
                Evidence(name="neighbours alike by chance", value=float(chance.mean()), unit="share"),
                Evidence(name="spread of the chance", value=float(chance.std()), unit="share"),
            ]
        elif labels.std() > 0:
            found.append(Evidence(name="variance inside batches", value=_inside(seen, bs) / labels.var(), unit="share"))
        return found

    def _order(self, lab: Lab, split: Split, bs: int | None) -> list[int] | None:
        with as_it_was(lab.learn, split, lab.seed):
            order = order_of(split, min(BATCHES * (bs or 1), MOST))
        return order or None

    def judge(self, evidence: EvidenceList) -> Judgement:
        in_order, inside = (
            evidence.get("the loader reads in order") is True,
            number(evidence, "variance inside batches"),
        )
        one, by_chance = number(evidence, "batches of one label"), number(evidence, "the same by chance")
        alike, chance = number(evidence, "neighbours alike"), number(evidence, "neighbours alike by chance")
        beyond = (alike - chance) - ERRORS * number(evidence, "spread of the chance")
        if evidence.get("variance inside batches") is not None:
            text = f"{inside:.2g} of the variance of the labels is inside batches"
            if not inside >= INSIDE and in_order:
                return Judgement("warn", f"{text} (at least {INSIDE:g}), and the loader reads in order")
            return Judgement("pass" if inside >= 0 else "skip", text)
        if not (one >= 0 and alike >= 0):
            return Judgement("skip", "not measured")
        if one >= ONE_LABEL and by_chance < BY_CHANCE:
            return Judgement(
                "fail", f"{one:.0%} of the training batches hold one label only, {by_chance:.0%} would by chance"
            )
        text = f"neighbours have the same label in {alike:.0%} of places, {chance:.0%} by chance"
        if in_order and alike - chance > ABOVE and beyond > 0:
            return Judgement("warn", f"{text}, and the loader reads in order: labels come sorted")
        return Judgement("pass", text)


def _labels(split: Split, order: list[int]) -> np.ndarray | None:
    values = [as_number(label_of(split.dataset, i)) for i in order]
    return None if any(v is None for v in values) else np.array(values)


def _neighbours(labels: np.ndarray) -> float:
    return float((labels[1:] == labels[:-1]).mean())


def _one_label(labels: np.ndarray, bs: int) -> float:
    whole = labels[: len(labels) // bs * bs].reshape(-1, bs)
    return float((whole == whole[:, :1]).all(1).mean())


def _inside(labels: np.ndarray, bs: int) -> float:
    return float(labels[: len(labels) // bs * bs].reshape(-1, bs).var(1).mean())
