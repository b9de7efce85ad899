"""Training and validation are prepared alike.

## What it does
Makes batches of items spread over each split, as the loader would, batch transforms included, and compares mean and
standard deviation of every channel or column between the splits.

## Why it matters
If one split is normalised and the other is not, or one is in [0, 1] and the other in bytes, validation measures a net
on inputs it has never met, and its loss says nothing.

## How it is judged
A channel or column differs if its standard deviations differ by a factor of more than 3, or its means by more than 2 of
the smaller standard deviation, and by more than 6 standard errors, taken over rows. Errors of variances are those of
their logarithms (the delta method), where they are known to better than half; or the rows' own logarithms are compared,
so that heavy tails do not hide a factor of 255, nor one row far out makes one. Fails if more than half of the channels
or columns of an input differ. ImageNet normalisation on one side only gives a factor of 4.4. A minority that differs
(a year in a split by time) is said.

## What to do
Apply the same `Normalize`, with the statistics of the training split, to both loaders.

## Source
fastai applies batch transforms to both splits and torch loaders leave it to two lists of transforms; real failure F25
of the notes (inputs scaled in one place and not in another).
"""

import torch
from torch import Tensor

from diagnose.checks import Check, Evidence, EvidenceList, Judgement, listed
from diagnose.checks._numbers import number, texts
from diagnose.data import Split, mixed_batches_of, splits_of
from diagnose.errors import NotApplicable
from diagnose.lab import Lab

FACTOR, APART, ERRORS = 3.0, 2.0, 6.0
KNOWN = 0.5  # standard error of a variance, of itself, up to which it is judged
ROWS = 8  # of each split, at least, for a standard error to mean anything
SHOWN = 20


class SplitsAlike(Check):
    """Compares scale and offset of the inputs of both splits."""

    stage = "inspection"
    order = 50
    cost = "up to 4 batches of each split"

    def measure(self, lab: Lab) -> EvidenceList:
        splits = splits_of(lab)
        if len(splits) < 2:
            raise NotApplicable("there is no validation loader")
        train, valid = (_inputs(lab, s) for s in splits)
        pairs = [(k, a, b) for k, (a, b) in enumerate(zip(train, valid)) if a is not None and b is not None]
        pairs = [(k, a, b) for k, a, b in pairs if a.shape[1] == b.shape[1] and min(len(a), len(b)) >= ROWS]
        if not pairs:
            raise NotApplicable(f"no input of channels or columns with at least {ROWS} rows in each split")
        found = EvidenceList()
        for k, a, b in pairs:
            where = f"input {k + 1}"
            factor, apart, certain = _compared(a, b)
            differ = ((factor > FACTOR) | (apart > APART)) & certain
            places = [f"channel or column {c}" for c in differ.nonzero().flatten().tolist()]
            found += [
                Evidence(name="channels or columns", value=len(differ), where=where),
                Evidence(name="that differ", value=int(differ.sum()), where=where, expected="at most half"),
                Evidence(name="places", value=places[:SHOWN], where=where),
                Evidence(name="factor between standard deviations", value=float(factor.max()), where=where),
                Evidence(name="means apart", value=float(apart.max()), unit="standard deviations", where=where),
                Evidence(name="mean in training", value=float(a[:, :, 0].mean()), where=where),
                Evidence(name="mean in validation", value=float(b[:, :, 0].mean()), where=where),
            ]
        return found

    def judge(self, evidence: EvidenceList) -> Judgement:
        said, few, factors, gaps = 0, [], [], []
        for e in evidence.all("channels or columns"):
            total, differ = number(EvidenceList([e]), e.name), number(evidence, "that differ", e.where)
            if not (total > 0 and differ >= 0):
                continue
            factor, apart = (
                number(evidence, n, e.where) for n in ("factor between standard deviations", "means apart")
            )
            size = f"standard deviations by a factor of {factor:.3g}, means by {apart:.3g} standard deviations"
            if differ > total / 2:
                means = [number(evidence, f"mean in {s}", e.where) for s in ("training", "validation")]
                return Judgement(
                    "fail",
                    f"{e.where} differs between the splits in {differ:.0f} of {total:.0f} channels or columns: "
                    f"{size} (at most {FACTOR:g} and {APART:g}); "
                    f"mean {means[0]:.3g} in training, {means[1]:.3g} in validation",
                )
            said += 1
            factors.append(factor)
            gaps.append(apart)
            few += [f"{place} of {e.where}" for place in texts(evidence, "places", e.where)]
        if not said:
            return Judgement("skip", "not measured")
        note = f"; only {listed(few)} differ" if few else ""
        return Judgement(
            "pass",
            f"splits are alike{note}: standard deviations differ by a factor of up to {max(factors):.3g}, "
            f"means by up to {max(gaps):.2g} standard deviations",
        )


def _inputs(lab: Lab, split: Split) -> list[Tensor | None]:
    "For each input, mean and mean square of each row and channel, (rows, channels, 2); None for what has none."
    batches = [x for x, _ in mixed_batches_of(lab, split)]
    if not batches or len({len(x) for x in batches}) != 1:
        return []
    found = []
    for parts in zip(*batches):
        try:
            found.append(torch.cat([_rows(t) for t in parts]))
        except (RuntimeError, ValueError):  # rows of several sizes, or token ids
            found.append(None)
    return found


def _rows(t: Tensor) -> Tensor:
    if t.ndim < 2 or t.is_complex() or (t.ndim < 4 and not t.is_floating_point()):
        raise ValueError("no channels or columns")
    t = t.detach().cpu().double()
    t = t.flatten(2) if t.ndim > 3 else t.flatten(1)[:, None] if t.ndim == 3 else t[:, :, None]
    return torch.stack([t.mean(2), t.square().mean(2)], 2)


def _compared(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    "Factor between standard deviations, means apart in the smaller one, and whether that is beyond the errors."
    (mean_a, std_a, error_a, wide_a), (mean_b, std_b, error_b, wide_b) = (_moments(t) for t in (a, b))
    small, large = torch.minimum(std_a, std_b), torch.maximum(std_a, std_b)
    usable = (small > 1e-6 * (1 + mean_a.abs())) & torch.isfinite(large) & torch.isfinite(mean_a + mean_b)
    small = small.clamp_min(1e-12)
    gap = (mean_a - mean_b).abs()
    relative_a, relative_b = (w / s.square().clamp_min(1e-24) for w, s in ((wide_a, std_a), (wide_b, std_b)))
    known = (relative_a < KNOWN) & (relative_b < KNOWN)
    ratio = 2 * (large.clamp_min(1e-12) / small.clamp_min(1e-12)).log()
    scales_differ = known & (ratio > ERRORS * (relative_a + relative_b))
    (log_a, wide_log_a), (log_b, wide_log_b) = (_logs(t, 1e-6 * small.square()) for t in (a, b))
    scales_differ |= (log_a - log_b).abs() > ERRORS * (wide_log_a + wide_log_b)
    certain = (gap > ERRORS * (error_a + error_b)) | scales_differ
    ones = torch.ones_like(small)
    return torch.where(usable, large / small, ones), torch.where(usable, gap / small, ones - 1), usable & certain


def _moments(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    "Mean, standard deviation, and the standard errors of the mean and of the variance, over rows."
    n = len(t)
    mean = t[:, :, 0].mean(0)
    variance = (t[:, :, 1].mean(0) - mean.square()).clamp_min(0)
    centred = t[:, :, 1] - 2 * mean * t[:, :, 0] + mean.square()
    return mean, variance.sqrt(), t[:, :, 0].std(0) / n**0.5, centred.std(0) / n**0.5


def _logs(t: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    "Mean over rows, and its standard error, of the logarithm of the mean square around the median row."
    middle = t[:, :, 0].median(0).values
    around = (t[:, :, 1] - 2 * middle * t[:, :, 0] + middle.square()).maximum(least.clamp_min(1e-24)).log()
    return around.mean(0), around.std(0) / len(t) ** 0.5
