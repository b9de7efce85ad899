"""Training and validation inputs are preprocessed differently.

## What it is
One split normalised and the other not, one in [0, 1] and the other in bytes, colour channels in another order, the
statistics of the wrong data set.

## Why it stops learning
It learns, and validation does not see it: the model is scored on inputs that it has never met.

## How it is found
Mean and standard deviation of each channel or column over batches of both splits: apart by a factor of 3 or by 2
standard deviations, and by 6 standard errors, in more than half of them.

## How it is proven
A copy is trained on training batches and scored on validation rows as they are, and with each channel brought to the
training split's mean and standard deviation. That must bring at least 0.3 of what can be known, half of the way to
what the copy knows of held-out training rows (0.1 or more), and no less than the best constant knows.

## How to fix
    dls = dblock.dataloaders(path, batch_tfms=Normalize.from_stats(*imagenet_stats))   # one for both splits

## What it looks like but is not
A split by time or place, in which a few columns differ by nature. Random augmentation of the training split, which
keeps scale and offset.

## Source
fastai applies batch transforms to both splits; torch loaders leave it to two lists. Real failure F25 of the notes.
"""

import math

import torch
from torch import Tensor

from diagnose.causes import CLEAR, NO_DIFFERENCE, Cause, Findings, Settled, Suspicion
from diagnose.causes._held_out import best, held_out, parts, side_of, with_inputs
from diagnose.causes._reading import number, places
from diagnose.checks._probing import cut, joined, trial_on
from diagnose.diagnosis import Fix, Proof
from diagnose.errors import NotApplicable
from diagnose.isolate import loaders
from diagnose.lab import Lab

CHECK = "splits-alike"
STEPS = (30, 120)  # the one that knows more of held-out training rows counts: few rows are soon learned by heart
ROWS, SCORED = 512, 128  # of training, a quarter of them held out, and of validation
LEAST_KNOWN = 0.1  # of held-out training rows: a copy that knows less says nothing about validation


class InputsDifferBetweenSplits(Cause):
    """Suspected when most channels of an input have another scale or offset in validation."""

    settled_by = "inspection"
    when_learned = True

    def suspect(self, findings: Findings) -> Suspicion | None:
        for where in places(findings, CHECK, "channels or columns"):
            total, differ = (number(findings, CHECK, n, where) for n in ("channels or columns", "that differ"))
            if not total / 2 < differ <= total:
                continue
            means = [number(findings, CHECK, f"mean in {s}", where) for s in ("training", "validation")]
            factor = number(findings, CHECK, "factor between standard deviations", where)
            reason = (
                f"{where} differs between the splits in {differ:.0f} of {total:.0f} channels or columns: mean "
                f"{means[0]:.3g} in training, {means[1]:.3g} in validation, standard deviations {factor:.3g} times"
            )
            return Suspicion(0.9, reason, [f"validation, {where}"])
        return None

    def settle(self, lab: Lab, suspicion: Suspicion) -> Settled:
        train, valid = loaders(lab.learn)[:2]
        seen, scored = self._batches(lab, train, ROWS), self._batches(lab, valid, SCORED)
        kept, seen = seen[: len(seen) // 4 or 1], seen[len(seen) // 4 or 1 :]
        trained, other = (parts(lab, joined(b))[0] for b in (seen, scored))

        def mapped(k: int, x: Tensor) -> Tensor:
            if not x.is_floating_point() or x.ndim < 2:
                return x
            (mean, std), (mean_b, std_b) = _moments(trained[k]), _moments(other[k])
            scaled = (x - mean_b.to(x)) / torch.where(std_b > 0, std_b, torch.ones_like(std_b)).to(x)
            return scaled * std.to(x) + mean.to(x)

        trials = [trial_on(lab, seen, steps=n, stop_at=float("inf")) for n in STEPS]
        like_training = [with_inputs(lab, b, mapped) for b in scored]
        known, trial = best([(held_out(t, kept), t) for t in trials])
        low, high = held_out(trial, scored), held_out(trial, like_training)
        what = "validation rows"
        before, after = side_of(trial, low, what), side_of(trial, high, what)
        for side in (before, after):
            side.numbers["learned on held-out training rows"] = known
        change = "validation inputs brought to the training split's mean and standard deviation"
        proof = Proof(change=change, kind="inspection", before=before, after=after)
        least = low if math.isfinite(low) else -math.inf
        agrees = known >= LEAST_KNOWN and high >= -NO_DIFFERENCE and high >= (known + least) / 2
        refuted = known >= LEAST_KNOWN and least >= known - NO_DIFFERENCE
        return Settled(agrees and high - least >= CLEAR, refuted, proof)

    def _batches(self, lab: Lab, loader: object, rows: int) -> list:
        size = max(len(parts(lab, lab.whole_batch)[0][0]), 1)
        found = cut(joined(lab.read(loader, -(-rows // size))), lab.rows)[: rows // lab.rows]
        if len(found) < 2:
            raise NotApplicable("too few rows to train on and to score")
        return found

    def fix(self, lab: Lab, suspicion: Suspicion) -> Fix:
        return Fix(
            text=f"Prepare both splits alike, with the statistics of the training split ({suspicion.reason}).",
            code="normalise = Normalize.from_stats(mean, std)  # of the training split\n"
            "learn.dls = dblock.dataloaders(path, batch_tfms=[normalise])",
        )


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    "Mean and standard deviation of channels (three or more dimensions) or columns, shaped to broadcast."
    axes = [0, *range(2, x.ndim)]
    return x.float().mean(axes, keepdim=True), x.float().std(axes, keepdim=True)
